"""Faults for real: processes killed, files damaged, disks full, payloads that would run."""

from __future__ import annotations

import csv
import os
import pickle
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from test_compare import DROPS, command, predictions, small_comparison, wait_until, without_times
from torch import nn

from cnn_compare import ClassifierModule, DigitsDataModule, load_results, write_report
from cnn_compare.comparison.lock import sole_worker
from cnn_compare.errors import CheckpointError, ComparisonLockedError, InvalidValueError
from cnn_compare.results import RunResult

pytestmark = pytest.mark.faults

NETWORK = "--backbones=[test_compare:drops]"


@pytest.fixture(autouse=True)
def networks_of_tests(monkeypatch):
    """Processes that a test starts find the networks of the tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def hangs(num_classes):
    threading.Event().wait()


def fails_once(num_classes):
    marker = Path(os.environ["CNN_COMPARE_TEST_MARKER"])
    if not marker.exists():
        marker.touch()
        raise RuntimeError("the first time never works")
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def run_command(folder: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command(folder, *arguments, epochs=20), capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run(
        command(folder, NETWORK, epochs=20),
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    return folder / "small"


@pytest.fixture
def killed(tmp_path):
    """A comparison killed once it had two checkpoints; its folder of checkpoints."""
    process = subprocess.Popen(
        command(tmp_path, NETWORK, epochs=20), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "small" / DROPS / "seed_0" / "checkpoints"
    wait_until((folder / "previous.ckpt").exists, process)
    process.kill()
    process.wait()
    return folder


def same_as(whole: Path, checkpoints: Path) -> bool:
    comparison = checkpoints.parents[2]
    return predictions(comparison, DROPS, 0) == predictions(whole, DROPS, 0) and without_times(
        comparison
    ) == without_times(whole)


@pytest.mark.parametrize(
    ("damage", "kind"), [("last.ckpt", "half"), ("last.ckpt previous.ckpt", "noise"), ("best.ckpt", "half")]
)
def test_damaged_checkpoints_cost_time_and_no_result(whole, killed, tmp_path, damage, kind):
    for name in damage.split():
        content = (killed / name).read_bytes()
        (killed / name).write_bytes(content[: len(content) // 2] if kind == "half" else os.urandom(len(content)))
    (killed / ".last.ckpt.4711.tmp").write_bytes(b"half")
    done = run_command(tmp_path, NETWORK)
    assert done.returncode == 0, done.stderr
    assert same_as(whole, killed)
    assert not list(killed.glob(".*.tmp"))
    assert {path.name for path in killed.iterdir()} >= {"best.ckpt", "last.ckpt", f"{damage.split()[0]}.damaged"}
    assert "cannot be read and is set aside" in (killed.parent / "run.log").read_text()


def test_a_run_that_hangs_is_stopped_and_the_others_go_on(tmp_path):
    names = [f"{__name__}:hangs", "lenet"]
    folder = small_comparison(tmp_path, backbones=names, trainer={"max_epochs": 1}, run_timeout_s=15)
    table = load_results(folder).set_index("backbone")
    assert list(table.status[names]) == ["failed", "finished"]
    assert table.reason[names[0]] == "it was not done after 15 s (--run_timeout_s)"


def test_a_failed_run_is_tried_again_as_often_as_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("CNN_COMPARE_TEST_MARKER", str(tmp_path / "marker"))
    arguments = [f"--backbones=[{__name__}:fails_once]"]
    once = run_command(tmp_path / "a", *arguments)
    assert once.returncode == 1
    assert "RuntimeError: the first time never works" in once.stdout
    (tmp_path / "marker").unlink()
    twice = run_command(tmp_path / "b", *arguments, "--retries=1")
    assert twice.returncode == 0, twice.stderr
    (path,) = (tmp_path / "b").rglob("result.json")
    assert RunResult.load(path).attempts == 2


@pytest.mark.parametrize(("option", "value"), [("retries", -1), ("run_timeout_s", 0), ("run_timeout_s", float("nan"))])
def test_limits_that_make_no_sense_are_refused(tmp_path, option, value):
    with pytest.raises(InvalidValueError, match=f"--{option}"):
        small_comparison(tmp_path, **{option: value})


def test_a_run_whose_loss_is_no_number_has_diverged_and_is_not_repeated(tmp_path):
    model = {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e20}}}
    folder = small_comparison(tmp_path, backbones=["lenet_relu", "lenet"], trainer={"max_epochs": 2}, model=model)
    result = RunResult.load(folder / "lenet_relu" / "seed_0" / "result.json")
    assert result.status == "diverged"
    assert "DivergedError: the training loss became nan in epoch 0" in result.reason
    assert any("DivergedError" in line for line in result.log_tail)
    write_report(folder)
    assert "diverged: DivergedError" in (folder / "report.md").read_text()
    assert "The end of its log" in (folder / "report.html").read_text()
    before = (folder / "lenet_relu" / "seed_0" / "result.json").stat().st_mtime_ns
    small_comparison(tmp_path, backbones=["lenet_relu", "lenet"], trainer={"max_epochs": 2}, model=model)
    assert (folder / "lenet_relu" / "seed_0" / "result.json").stat().st_mtime_ns == before


def test_a_second_command_on_a_comparison_is_told_who_works_on_it(tmp_path):
    with sole_worker(tmp_path / "small"):
        done = run_command(tmp_path, NETWORK)
        assert done.returncode == 2
        assert f"is being worked on by process {os.getpid()} on " in done.stderr
        with pytest.raises(ComparisonLockedError):
            small_comparison(tmp_path)
    assert not (tmp_path / "small").exists()


def test_a_lock_whose_holder_was_killed_is_free(killed, tmp_path, whole):
    assert (tmp_path / ".small.holder").exists()
    done = run_command(tmp_path, NETWORK)
    assert done.returncode == 0, done.stderr
    assert same_as(whole, killed)


def test_a_full_disk_fails_the_run_and_loses_nothing(tmp_path, whole):
    """A limit on the size of a file stands for the disk: a checkpoint of this network has 1.2 MB."""

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    done = run_command(tmp_path, NETWORK, preexec_fn=full)
    assert done.returncode == 1
    assert "StorageError: a file could not be read or written: File too large" in done.stdout + done.stderr
    again = run_command(tmp_path, NETWORK)
    assert again.returncode == 0, again.stderr
    assert same_as(whole, tmp_path / "small" / DROPS / "seed_0" / "checkpoints")


def test_a_log_folder_that_is_a_file_is_said_to_be_one(tmp_path):
    (tmp_path / "file").touch()
    done = run_command(tmp_path / "file", NETWORK)
    assert done.returncode == 1
    assert "StorageError: a file could not be read or written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    done = run_command(tmp_path / "logs", NETWORK)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr


def test_a_checkpoint_of_another_network_is_refused(tmp_path, make_trainer):
    trainer = make_trainer(enable_checkpointing=True)
    trainer.strategy.connect(ClassifierModule("lenet"))
    trainer.save_checkpoint(tmp_path / "lenet.ckpt")
    arguments = ["--data=DigitsDataModule", f"--ckpt_path={tmp_path / 'lenet.ckpt'}"]
    for options, status, said in (
        (["--model.backbone=resnet20"], 1, "the checkpoint's backbone is 'lenet', and 'resnet20' was asked for"),
        (["--model.num_classes=7"], 1, "the checkpoint's num_classes is 10, and 7 was asked for"),
        ([], 0, ""),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cnn_compare", "test", *arguments, *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    with pytest.raises(CheckpointError, match="the checkpoint's backbone is 'lenet'"):
        make_trainer().test(
            ClassifierModule("resnet20"), DigitsDataModule(), ckpt_path=tmp_path / "lenet.ckpt", weights_only=True
        )


def test_code_in_a_checkpoint_does_not_run(tmp_path, make_trainer):
    target = tmp_path / "ran"
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "payload": Payload(target), "pytorch-lightning_version": "2.6.6"}, path)
    for command_name in ("fit", "test"):
        done = subprocess.run(
            [sys.executable, "-m", "cnn_compare", command_name, "--data=DigitsDataModule", f"--ckpt_path={path}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
    done = subprocess.run(
        [sys.executable, "-m", "cnn_compare", "fit", "--data=DigitsDataModule", f"--model.weights={path}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    with pytest.raises(pickle.UnpicklingError):
        ClassifierModule.load_from_checkpoint(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()  # The payload works: it was the loading that refused it.


def test_code_in_a_run_s_checkpoint_does_not_run_when_it_is_resumed(killed, whole, tmp_path):
    target = tmp_path / "ran"
    for name in ("last.ckpt", "best.ckpt"):
        torch.save({"payload": Payload(target)}, killed / name)
    done = run_command(tmp_path, NETWORK)
    assert done.returncode == 0, done.stderr
    assert same_as(whole, killed)
    assert not target.exists()


def test_code_in_predictions_does_not_run(tmp_path):
    folder = small_comparison(tmp_path, trainer={"max_epochs": 1})
    target = tmp_path / "ran"
    payload = np.array([Payload(target)], dtype=object)
    np.savez(
        folder / "lenet" / "seed_0" / "predictions.npz", labels=payload, predictions=payload, probabilities=payload
    )
    findings = write_report(folder)
    assert "Object arrays cannot be loaded" in findings.without_result[0]["reason"]
    assert not target.exists()


@pytest.mark.parametrize("moment", ["start", "epoch 3", "test"])
def test_an_interrupt_or_a_termination_leaves_what_can_be_resumed(tmp_path, whole, moment):
    run_folder = tmp_path / "small" / DROPS / "seed_0"

    def there() -> bool:
        if moment == "start":
            return (run_folder / "config.yaml").exists()
        if moment == "epoch 3":
            return (run_folder / "train.log").exists() and "Epoch 3/" in (run_folder / "train.log").read_text()
        return (run_folder / "metrics.csv").exists() and len(rows(run_folder)) == 20

    signals = {"start": "SIGTERM", "epoch 3": "SIGINT", "test": "SIGKILL"}
    process = subprocess.Popen(
        command(tmp_path, NETWORK, epochs=20), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_until(there, process)
    process.send_signal(getattr(__import__("signal"), signals[moment]))
    _, errors = process.communicate()
    assert process.returncode != 0
    if moment == "epoch 3":
        assert (process.returncode, "goes on from here with the same command" in errors) == (130, True)
    done = run_command(tmp_path, NETWORK)
    assert done.returncode == 0, done.stderr
    assert same_as(whole, run_folder / "checkpoints")


def rows(run_folder: Path) -> list[dict[str, str]]:
    with (run_folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))
