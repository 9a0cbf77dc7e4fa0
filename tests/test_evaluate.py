"""What `fit` leaves, and `test`, `validate`, `predict` on the data that weights were trained for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from helpers import run_command, wait_until

from cnn_compare.checkpointing import newest_checkpoint

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
    return float(re.search(r"test/acc\W+([\d.]+)", output)[1])


def test_a_checkpoint_brings_data_module_size_normalisation_and_class_names(fitted):
    (path,) = fitted.rglob("best.ckpt")
    stored = torch.load(path, weights_only=True)["data"]
    assert stored["class_path"].endswith("DigitsDataModule")
    assert (stored["image_size"], stored["normalization"]) == (24, "imagenet")
    assert stored["class_names"] == list("0123456789")


def test_a_checkpoint_alone_is_tested_on_what_it_was_trained_for(command):
    alone = command("test", "--ckpt_path=best")[1]
    options = ("--data=DigitsDataModule", "--data.normalization=imagenet", "--data.image_size=24")
    assert accuracy(alone) == accuracy(command("test", "--ckpt_path=best", *options)[1])


@pytest.mark.parametrize(
    ("option", "stored"),
    [
        ("--data.image_size=32", "--data.image_size=24"),
        ("--data.normalization=half", "--data.normalization='imagenet'"),
        ("--data=CIFAR10DataModule", "DigitsDataModule'"),
    ],
)
def test_data_that_contradicts_the_checkpoint_is_refused_unless_it_is_asked_for(command, option, stored):
    status, _, errors = command("test", "--ckpt_path=best", option)
    assert status == 1
    assert f"CheckpointError: the checkpoint has {stored}" in errors or stored in errors
    assert "--allow_other_data=true" in errors
    if "CIFAR10" not in option:
        asked = command("test", "--ckpt_path=best", "--data=DigitsDataModule", option, "--allow_other_data=true")
        assert asked[0] == 0


def test_a_checkpoint_of_before_that_lacks_its_data_is_tested_on_the_data_given(command, fitted):
    (path,) = fitted.rglob("best.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["data"]
    torch.save(checkpoint, "old.ckpt")
    options = ("--data=DigitsDataModule", "--data.normalization=imagenet", "--data.image_size=24")
    old = command("test", "--ckpt_path=old.ckpt", *options)[1]
    assert accuracy(old) == accuracy(command("test", "--ckpt_path=best")[1])


@pytest.mark.parametrize("name", ["test", "validate", "predict"])
def test_random_weights_are_not_evaluated(command, name):
    status, _, errors = command(name, "--data=DigitsDataModule")
    assert status == 2
    assert f"NoWeightsError: {name} needs trained weights. Give --ckpt_path=FILE" in errors


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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_fit_says_which_checkpoint_it_left_and_how_to_go_on(tmp_path, number, status):
    command = [sys.executable, "-c", INTERRUPTIBLE, *FIT, "--trainer.max_epochs=100000"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(tmp_path.rglob("last.ckpt")), process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == status, errors
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    assert f"stopped; {checkpoint.relative_to(tmp_path)} holds the last state. To go on: cnn-compare fit" in errors
    assert errors.strip().endswith("--ckpt_path=last")


# A test runner in the background passes on that SIGINT is ignored.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from cnn_compare.cli import main
main()
"""
