"""What `fit` leaves, and `test`, `validate` on the data that weights were trained for."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path

import pytest
import torch
from helpers import run_command

from cnn_compare import DigitsDataModule
from cnn_compare.backbones import build_backbone
from cnn_compare.checkpointing import newest_checkpoint
from cnn_compare.module import ClassifierModule

FIT = [
    *("fit", "--data=DigitsDataModule", "--data.normalization=imagenet", "--data.image_size=24", "--data.val_size=20"),
    *("--data.train_subset=60", "--data.batch_size=20", "--model.backbone=lenet_relu", "--trainer.max_epochs=2"),
    "--trainer.enable_progress_bar=false",
]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder in which a network was trained on digits of a size and normalisation that are not the defaults."""
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PL_GLOBAL_SEED", "0")
        from cnn_compare.cli import main

        main(FIT)
    return folder


@pytest.fixture
def command(fitted, monkeypatch, capsys):
    monkeypatch.chdir(fitted)
    return lambda *arguments: run_command(list(arguments), capsys)


def accuracy(output: str) -> float:
    return float(re.search(r"(?:test|val)/acc\W+([\d.]+)", output)[1])


def test_a_checkpoint_brings_data_module_size_normalisation_and_class_names(fitted):
    (path,) = fitted.rglob("best.ckpt")
    stored = torch.load(path, weights_only=True)["data"]
    assert stored["class_path"].endswith("DigitsDataModule")
    assert (stored["image_size"], stored["normalization"]) == (24, "imagenet")
    assert stored["class_names"] == list("0123456789")


def test_own_normalization_is_that_of_the_checkpoints_training_however_it_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    options = ["--data=DigitsDataModule", "--data.normalization=own", "--trainer.enable_progress_bar=false"]
    training = ["--model.backbone=lenet", "--data.val_size=20", "--data.train_subset=60", "--trainer.max_epochs=1"]
    assert run_command(["fit", *options, *training], capsys)[0] == 0
    (path,) = tmp_path.rglob("best.ckpt")
    mean, std = torch.load(path, weights_only=True)["data"]["normalization"]
    data = DigitsDataModule(val_size=20, train_subset=60)
    data.setup("fit")
    pixels = data._splits["train"].images[data._splits["train"].subset].numpy().reshape(-1, 3) / 255
    assert mean == pytest.approx(pixels.mean(0))
    assert std == pytest.approx(pixels.std(0))
    network = ["--model.backbone=lenet", f"--ckpt_path={path}", options[2]]
    _, alone, _ = run_command(["test", *network], capsys)
    # Of other training images, whose mean and deviation must not be taken.
    _, asked, _ = run_command(["test", *network, *options, "--data.val_size=20", "--data.train_subset=600"], capsys)
    assert accuracy(alone) == accuracy(asked)


def test_a_checkpoint_alone_is_tested_on_what_it_was_trained_for(command):
    alone = command("test", "--ckpt_path=best")[1]
    options = ("--data=DigitsDataModule", "--data.normalization=imagenet", "--data.image_size=24")
    assert accuracy(alone) == accuracy(command("test", "--ckpt_path=best", *options)[1])


@pytest.mark.parametrize("file", ["model:\n  backbone: lenet_relu\n", "ckpt_path: best\n"])
def test_a_file_that_says_nothing_of_the_data_contradicts_nothing(command, fitted, file):
    (fitted / "part.yaml").write_text(file)
    status, output, errors = command("test", "--config=part.yaml", "--ckpt_path=best")
    assert status == 0, errors
    assert accuracy(output) == accuracy(command("test", "--ckpt_path=best")[1])


@pytest.mark.parametrize(
    ("name", "option", "stored"),
    [
        ("validate", "--data.image_size=32", "--data.image_size=24"),
        ("test", "--data.normalization=half", "--data.normalization='imagenet'"),
        ("fit", "--data.val_size=30", "--data.val_size=20"),
        ("test", "--data=CIFAR10DataModule", "--data='cnn_compare.data.digits.DigitsDataModule'"),
    ],
)
def test_data_that_contradicts_the_checkpoint_is_refused(command, name, option, stored):
    status, _, errors = command(name, "--ckpt_path=last", "--trainer.max_epochs=3", option)
    assert (status, f"CheckpointError: the checkpoint has {stored}" in errors) == (1, True), errors
    assert "--allow_other_data=true" in errors


def test_other_data_that_is_asked_for_changes_only_what_is_given(command):
    assert accuracy(command("test", "--ckpt_path=best", "--allow_other_data=true")[1]) == accuracy(
        command("test", "--ckpt_path=best")[1]
    )
    options = ("--data=DigitsDataModule", "--data.normalization=imagenet", "--data.image_size=32")
    alone = command("test", "--ckpt_path=best", options[-1], "--allow_other_data=true")[1]
    assert accuracy(alone) == accuracy(command("test", "--ckpt_path=best", *options, "--allow_other_data=true")[1])


def test_the_validation_images_of_a_checkpoint_are_those_it_was_not_trained_on(command):
    output = command("validate", "--ckpt_path=best")[1]
    # Of 20 images, each counts 5 points; of the data's usual 200, 60 were trained on.
    assert (20 * accuracy(output)) == pytest.approx(round(20 * accuracy(output)), abs=1e-4)


class FixedDigits(DigitsDataModule):
    """Digits whose preparation is no setting."""

    def __init__(self, batch_size: int = 20) -> None:
        super().__init__(batch_size, image_size=24, val_size=20, train_subset=60)


def test_a_data_module_without_settings_for_its_preparation_can_be_tested(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--model.backbone=lenet_relu", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    assert run_command(["fit", "--data=test_evaluate.FixedDigits", *options], capsys)[0] == 0
    # Its module is the user's own, and is not imported because a checkpoint names it.
    status, _, errors = run_command(["test", "--ckpt_path=best", "--data=test_evaluate.FixedDigits"], capsys)
    assert status == 0, errors


@pytest.mark.filterwarnings("ignore")
def test_training_goes_on_with_the_checkpoints_data(tmp_path, command, fitted):
    status, _, errors = command(
        *("fit", "--ckpt_path=last", "--data.train_subset=60", "--data.batch_size=20", "--trainer.max_epochs=3"),
        *("--trainer.enable_progress_bar=false", "--trainer.logger=TensorBoardLogger"),
        f"--trainer.logger.save_dir={tmp_path}",
    )
    assert status == 0, errors
    (path,) = tmp_path.rglob("last.ckpt")
    (first,) = fitted.rglob("last.ckpt")
    assert torch.load(path, weights_only=True)["data"] == torch.load(first, weights_only=True)["data"]


def test_a_checkpoint_of_before_that_lacks_its_data_is_tested_on_the_data_given(command, fitted):
    (path,) = fitted.rglob("best.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["data"]
    torch.save(checkpoint, "old.ckpt")
    options = ("--data=DigitsDataModule", "--data.normalization=imagenet", "--data.image_size=24")
    old = command("test", "--ckpt_path=old.ckpt", *options)[1]
    assert accuracy(old) == accuracy(command("test", "--ckpt_path=best")[1])


@pytest.mark.parametrize("name", ["test", "validate"])
def test_random_weights_are_not_evaluated(command, name):
    status, _, errors = command(name, "--data=DigitsDataModule")
    assert status == 2
    assert f"UsageError: {name} needs trained weights. Give --ckpt_path=FILE" in errors


@pytest.mark.parametrize("name", ["fit", "test"])
def test_the_last_checkpoint_where_there_is_none_is_an_error(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    status, _, errors = run_command([name, "--ckpt_path=last", "--data=DigitsDataModule"], capsys)
    assert status == 1
    assert "no checkpoint in last: `fit` has written no last.ckpt below lightning_logs" in errors


def test_the_last_checkpoint_is_that_of_the_newest_fit(tmp_path):
    for number, age_s in ((0, 10), (1, 30)):
        path = tmp_path / f"version_{number}" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1000 - age_s, 1000 - age_s))
    assert newest_checkpoint(tmp_path, "last") == tmp_path / "version_0" / "checkpoints" / "last.ckpt"


def test_fit_ends_with_best_epoch_accuracy_seconds_checkpoint_and_the_command_that_tests_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    status, output, errors = run_command([*FIT, "--target_acc=0.99"], capsys)
    assert status == 0
    assert re.search(r"best epoch: [12] of 2, validation accuracy [\d.]+ %", output)
    assert re.search(r"training: [\d.]+ s in 2 epochs", output)
    assert "99 % validation accuracy: not reached" in output
    command = output.partition("test them: cnn-compare ")[2].splitlines()[0].split()
    assert run_command(command, capsys)[0] == 0
    for noise in ("Tip:", "FLOPs", "Epoch 0/0"):
        assert noise not in output + errors


@pytest.fixture
def signalled_in_the_third_epoch(monkeypatch):
    """A function: this process gets a signal when the next training begins its third epoch."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # A test runner in the background passes on that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def signalled(number):
        def on_train_epoch_start(module):
            begin(module)
            if module.current_epoch == 2:
                monkeypatch.setattr(ClassifierModule, "on_train_epoch_start", begin)
                signal.raise_signal(number)

        begin = ClassifierModule.on_train_epoch_start
        monkeypatch.setattr(ClassifierModule, "on_train_epoch_start", on_train_epoch_start)

    yield signalled
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("number", "status", "option"),
    [(signal.SIGTERM, 143, "--trainer.default_root_dir=else where"), (signal.SIGINT, 130, "--trainer.logger=false")],
)
def test_a_stopped_fit_says_which_checkpoint_it_left_and_how_to_go_on(
    tmp_path, monkeypatch, capsys, signalled_in_the_third_epoch, number, status, option
):
    monkeypatch.chdir(tmp_path)
    # Such short epochs would not each be saved.
    monkeypatch.setattr("cnn_compare.callbacks.checkpoints.EPOCH_TIME_PER_SAVE", 0)
    signalled_in_the_third_epoch(number)
    found, _, errors = run_command([*FIT, "--trainer.max_epochs=5", option], capsys)
    assert found == status, errors
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    said = errors.partition("stopped; ")[2].partition(" holds the last state. To go on: ")[0]
    assert Path(said).samefile(checkpoint)
    how = errors.partition("To go on: ")[2].splitlines()[0]
    options = shlex.split(how.removeprefix("cnn-compare ").removeprefix("the same command with "))
    go_on = options if how.startswith("cnn-compare") else [*FIT, option, *options]
    status, output, errors = run_command([*go_on, "--trainer.max_epochs=4"], capsys)
    assert (status, "of 4, validation accuracy" in output) == (0, True), errors


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_training_that_gets_no_better_keeps_the_first_ones_best(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command([*FIT, "--trainer.max_epochs=4"], capsys)[0] == 0
    (best,) = tmp_path.rglob("best.ckpt")
    # All further weights are zero, and every answer is the first class.
    monkeypatch.setattr(ClassifierModule, "on_validation_epoch_start", zero_weights, raising=False)
    status, output, errors = run_command([*FIT, "--trainer.max_epochs=5", "--ckpt_path=last"], capsys)
    assert status == 0, errors
    assert f"weights: {best}\n" in output
    assert [*tmp_path.rglob("best.ckpt")] == [best]


def zero_weights(module):
    for parameter in module.parameters():
        parameter.data.zero_()


def test_weights_for_other_classes_are_not_evaluated_with_an_untrained_head(tmp_path, command):
    torch.save(build_backbone("lenet_relu", 7, "imagenet", None).state_dict(), tmp_path / "seven.pth")
    options = ("--data=DigitsDataModule", "--model.backbone=lenet_relu", f"--model.weights={tmp_path / 'seven.pth'}")
    status, _, errors = command("test", *options)
    assert (status, "are not for --model.num_classes=10: the head is untrained" in errors) == (2, True), errors
