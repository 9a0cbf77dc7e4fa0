from __future__ import annotations

import pytest

from cnn_compare.callbacks import TextLog

EPOCHS = [
    """\
Epoch 0/2
----------
train Loss: 9.1037 Acc: 0.1560
val Loss: 11.9101 Acc: 0.1925

""",
    """\
Epoch 1/2
----------
train Loss: 2.2500 Acc: 0.2500
val Loss: 2.5000 Acc: 0.4491

""",
    """\
Epoch 2/2
----------
train Loss: 1.5000 Acc: 0.5000
val Loss: 1.7500 Acc: 0.4375

""",
]
START = "==================== lenet: start of training ====================\n"
END = """\
Training complete in {time}
Best val Acc: 0.449057
==================== end of training ====================

"""


def without_validation(epoch):
    return "\n".join(line for line in epoch.split("\n") if not line.startswith("val"))


def test_a_training_leaves_exactly_the_text_of_the_original_program(train, tmp_path):
    train(TextLog(tmp_path / "results/log"), seconds={"validation": 23.1})
    assert (tmp_path / "results/log/lenet.log").read_text() == START + "".join(EPOCHS) + END.format(time="3m 28s")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0m 0s"), (59.4, "0m 59s"), (59.7, "1m 0s"), (3601, "60m 1s"), (119.9, "2m 0s")]
)
def test_times_are_rounded_to_seconds_of_which_a_minute_has_sixty(train, tmp_path, seconds, text):
    train(TextLog(tmp_path), epochs=1, seconds={"step": seconds / 3})
    assert f"\nTraining complete in {text}\n" in (tmp_path / "lenet.log").read_text()


def test_a_second_training_is_appended(train, tmp_path):
    for _ in range(2):
        train(TextLog(tmp_path))
    text = START + "".join(EPOCHS) + END.format(time="0m 0s")
    assert (tmp_path / "lenet.log").read_text() == text * 2


def test_a_killed_and_resumed_training_tells_each_epoch_once_and_remembers_the_best(train, tmp_path):
    train(TextLog(tmp_path, "train.log"), killed_in=2)
    assert (tmp_path / "train.log").read_text() == START + "".join(EPOCHS[:2])
    train(TextLog(tmp_path, "train.log"), resume=True)
    expected = START + "".join(EPOCHS[:2]) + START + EPOCHS[2] + END.format(time="0m 0s")
    assert (tmp_path / "train.log").read_text() == expected


def test_without_validation_there_is_no_validation_to_tell(train, tmp_path):
    train(TextLog(tmp_path), limit_val_batches=0)
    text = START + "".join(map(without_validation, EPOCHS)) + END.format(time="0m 0s")
    assert (tmp_path / "lenet.log").read_text() == text.replace("Best val Acc: 0.449057\n", "")


def test_an_epoch_without_validation_does_not_repeat_the_last_one(train, tmp_path):
    train(TextLog(tmp_path), check_val_every_n_epoch=2, num_sanity_val_steps=1)
    expected = START + without_validation(EPOCHS[0]) + EPOCHS[1] + without_validation(EPOCHS[2])
    assert (tmp_path / "lenet.log").read_text() == expected + END.format(time="0m 0s")


def test_a_training_without_a_last_epoch_shows_no_total(train, tmp_path):
    train(TextLog(tmp_path), epochs=-1, max_steps=3)
    assert "\nEpoch 0\n----------\n" in (tmp_path / "lenet.log").read_text()


@pytest.mark.parametrize(
    ("backbone", "filename", "name"),
    [
        ("resnet18", None, "resnet18.log"),
        ("timm/resnet18.a1_in1k", None, "timm_resnet18.a1_in1k.log"),
        ("my_pkg.nets:tiny_net", None, "my_pkg.nets_tiny_net.log"),
        ("timm/resnet18", "train.log", "train.log"),
        (None, None, "Scripted.log"),
    ],
)
def test_the_file_has_the_name_of_the_backbone_in_a_form_that_files_can_have(train, tmp_path, backbone, filename, name):
    train(TextLog(tmp_path / "log", filename), epochs=1, backbone=backbone)
    assert [path.name for path in (tmp_path / "log").iterdir()] == [name]
    assert f" {backbone or 'Scripted'}: start of training " in (tmp_path / "log" / name).read_text()
