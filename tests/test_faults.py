"""Faults, injected for real: processes killed, files damaged, disks full, checkpoints with code in them."""

from __future__ import annotations

import csv
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from helpers import (
    DROPS,
    ENVIRONMENT,
    ROOT,
    Payload,
    command,
    predictions,
    run_command,
    small_comparison,
    wait_until,
    without_times,
)
from lightning import Trainer
from torch import nn

from cnn_compare import Classifier, ClassifierModule, DigitsDataModule, EpochTimer, load_results, write_report
from cnn_compare.cli import main
from cnn_compare.comparison import local
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.comparison.lock import comparison_lock
from cnn_compare.comparison.worker import run_worker
from cnn_compare.configs import merge_config
from cnn_compare.errors import (
    CheckpointError,
    CheckpointFileError,
    ComparisonExistsError,
    InvalidValueError,
    UntrustedCodeError,
)
from cnn_compare.results import MANIFEST, RunResult
from cnn_compare.trusted import untrusted

pytestmark = pytest.mark.faults

MODERN = ROOT / "configs" / "recipes" / "modern.yaml"


def hangs(num_classes):
    threading.Event().wait()


def fails_once(num_classes):
    tried = Path("tried")  # The working folder of a run is that of its comparison.
    if not tried.exists():
        tried.touch()
        raise RuntimeError("the first time never works")
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))


def arguments(folder: Path) -> list[str]:
    """The command line of a comparison with all that the recipe `modern` has: warm-up, averaged weights, and so on."""
    return command(folder, f"--config={MODERN}", "--backbones=[helpers:drops]", epochs=20)


def comparison(folder: Path) -> Path:
    """Run what is unfinished of the comparison."""
    main(arguments(folder)[3:])
    return folder / "small"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison that nothing interrupted."""
    return comparison(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory):
    """The logs of a comparison killed once it had two checkpoints."""
    logs = tmp_path_factory.mktemp("killed")
    process = subprocess.Popen(arguments(logs), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((logs / "small" / DROPS / "seed_0" / "checkpoints" / "previous.ckpt").exists, process)
    process.kill()
    process.wait()
    assert (logs / ".small.holder").exists()  # Nevertheless the lock is free, as the tests show.
    last = logs / "small" / DROPS / "seed_0" / "checkpoints" / "last.ckpt"
    if not last.exists():  # Killed in the instant between two of them.
        shutil.copy(last.with_name("previous.ckpt"), last)
    return logs


@pytest.fixture
def killed(killed_once, tmp_path):
    """Checkpoints of the killed comparison, now in ``tmp_path``."""
    shutil.copytree(killed_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "small" / DROPS / "seed_0" / "checkpoints"


def same_as(whole: Path, checkpoints: Path) -> bool:
    folder = checkpoints.parents[2]
    return predictions(folder, DROPS, 0) == predictions(whole, DROPS, 0) and without_times(folder) == without_times(
        whole
    )


@pytest.mark.parametrize(
    ("damage", "kind"), [("last.ckpt", "half"), ("last.ckpt previous.ckpt", "noise"), ("best.ckpt", "half")]
)
def test_damaged_checkpoints_cost_time_and_no_result(whole, killed, tmp_path, damage, kind):
    for name in damage.split():
        content = (killed / name).read_bytes()
        (killed / name).write_bytes(content[: len(content) // 2] if kind == "half" else os.urandom(len(content)))
    (killed / ".last.ckpt.4711.tmp").write_bytes(b"half")
    comparison(tmp_path)
    assert same_as(whole, killed)
    assert not list(killed.glob(".*.tmp"))
    assert {path.name for path in killed.iterdir()} >= {"best.ckpt", "last.ckpt", f"{damage.split()[0]}.damaged"}
    log = (killed.parent / "run.log").read_text()
    assert "cannot be read and is set aside" in log
    # Without any last weights, or without the best ones, it begins anew.
    assert ("Restored all states" in log) == (damage == "last.ckpt")


def test_a_run_that_hangs_is_stopped_and_the_others_go_on(tmp_path):
    folder = small_comparison(
        tmp_path, backbones=[f"{__name__}:hangs"], seeds=[0, 1], executor=LocalExecutor(timeout_s=1.5)
    )
    table = load_results(folder)
    assert list(table.status) == ["failed", "failed"]
    assert set(table.reason) == {"it was stopped after 1.5 s, the limit set by run_timeout_s"}


def test_a_failed_run_is_tried_again_as_often_as_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = small_comparison(tmp_path, backbones=[f"{__name__}:fails_once"], retries=1)
    (path,) = folder.rglob("result.json")
    result = RunResult.load(path)
    assert (result.status, result.attempts) == ("finished", 2)


def test_a_negative_number_of_retries_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match=r"^retries must be 0 or more, and is -1\."):
        small_comparison(tmp_path, retries=-1)


def test_a_run_whose_loss_is_nan_has_diverged_and_is_not_repeated(tmp_path):
    model = {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e20}}}
    folder = small_comparison(tmp_path, backbones=["lenet_relu", "lenet"], trainer={"max_epochs": 2}, model=model)
    result = RunResult.load(folder / "lenet_relu" / "seed_0" / "result.json")
    assert result.status == "diverged"
    assert "DivergedError: the training loss became nan in epoch 0" in result.reason
    assert any("DivergedError" in line for line in result.log_tail)
    write_report(folder)
    assert "diverged: DivergedError" in (folder / "report.md").read_text()
    assert "The end of the log of" in (folder / "report.html").read_text()
    before = (folder / "lenet_relu" / "seed_0" / "result.json").stat().st_mtime_ns
    small_comparison(tmp_path, backbones=["lenet_relu", "lenet"], trainer={"max_epochs": 2}, model=model)
    assert (folder / "lenet_relu" / "seed_0" / "result.json").stat().st_mtime_ns == before


def test_a_second_command_on_a_comparison_is_told_who_works_on_it(tmp_path, capsys):
    with comparison_lock(tmp_path / "small"):
        status, _, errors = run_command(command(tmp_path, "--backbones=[lenet]")[3:], capsys)
        assert status == 2
        assert f"UsageError: {tmp_path / 'small'} is being worked on by process {os.getpid()} on " in errors
    assert not (tmp_path / "small").exists()


def work_on_a_full_disk(*arguments):
    """A limit on the size of a file stands for the disk: a checkpoint of this network has 1.2 MB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    run_worker(*arguments)


def test_a_full_disk_fails_the_run_and_loses_nothing(tmp_path, whole, capfd):
    with pytest.MonkeyPatch.context() as full:
        full.setattr(local, "_run_worker", work_on_a_full_disk)
        status, _, errors = run_command(arguments(tmp_path)[3:], capfd)
    assert "StorageError: a file could not be read or written: File too large" in errors
    assert status == 1
    comparison(tmp_path)
    assert same_as(whole, tmp_path / "small" / DROPS / "seed_0" / "checkpoints")


def test_a_checkpoint_of_another_network_is_refused_in_python_too(tmp_path, make_trainer):
    trainer = make_trainer()
    trainer.strategy.connect(ClassifierModule("lenet"))
    trainer.save_checkpoint(tmp_path / "lenet.ckpt")
    with pytest.raises(CheckpointError, match=r"the checkpoint has model\.backbone='lenet'"):
        make_trainer().test(
            ClassifierModule("resnet20"), DigitsDataModule(), ckpt_path=tmp_path / "lenet.ckpt", weights_only=True
        )


EVIL = """
import pathlib, torch
from cnn_compare import DigitsDataModule

pathlib.Path("ran").touch()

def net(num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, num_classes))

class Photos(DigitsDataModule):
    pass
"""


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A function: stores the checkpoint of a network, changed; beside it lies a module that a file could name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("evil.py").write_text(EVIL)
    trainer, data = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), DigitsDataModule()
    data.setup("fit")
    trainer.datamodule = data

    def store(hyper_parameters=None, **changes):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
        trainer.strategy.connect(ClassifierModule(network))
        trainer.save_checkpoint("net.ckpt")
        content = torch.load("net.ckpt", weights_only=True)
        content["hyper_parameters"] |= {"backbone": "lenet", **(hyper_parameters or {})}
        content["data"] = {**data.preparation, **changes.pop("data", {})}
        torch.save({**content, **changes}, "net.ckpt")

    yield store
    sys.modules.pop("evil", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"hyper_parameters": {"backbone": "evil:net"}},
        {"hyper_parameters": {"optimizer": "evil.net"}},
        {"hyper_parameters": {"lr_scheduler": {"class_path": "evil.net", "init_args": {"a": 1}}}},
        {"hyper_parameters": {"_instantiator": "evil.net"}},
        {"hyper_parameters": {"_class_path": "evil.net", "_instantiator": "lightning.pytorch.cli.instantiate_module"}},
        {"hparams": {"backbone": "evil:net"}},
        {"data": {"class_path": "evil.Photos"}},
        {"data": {"class_path": "evil"}},
    ],
    ids=str,
)
def test_code_that_a_checkpoint_names_is_not_imported(evil, capsys, changes):
    evil(**changes)
    for arguments in (
        ["predict", "net.ckpt", "a.png"],
        ["test", "--ckpt_path=net.ckpt", "--trainer.logger=false", "--trainer.limit_test_batches=1"],
    ):
        status, _, errors = run_command(arguments, capsys)
        if "hyper_parameters" in changes:
            name = next(iter(changes["hyper_parameters"]))
            by_own_name = arguments[0] == "predict" or name == "backbone"
            said = "net.ckpt names evil" if by_own_name else "no checkpoint in net.ckpt: it names evil"
            assert status != 0
            assert said in errors.splitlines()[-1]
            assert ("--trust=evil" in errors or "--model.backbone=evil:net" in errors) == by_own_name
    assert not Path("ran").exists()


def test_code_that_a_checkpoint_names_is_imported_once_the_user_names_it(evil, capsys):
    evil({"backbone": "evil:net"}, data={"class_path": "evil.Photos"})
    test = ["test", "--ckpt_path=net.ckpt", "--trainer.logger=false", "--trainer.accelerator=cpu"]
    status, _, errors = run_command([*test, "--model.backbone=evil:net"], capsys)
    assert (status, errors.splitlines()[-1]) == (
        2,
        "UntrustedCodeError: net.ckpt names evil.Photos, which is not of this package: importing it would run its "
        "code. If you trust it, give --data=evil.Photos.",
    )
    assert not Path("ran").exists()
    assert run_command([*test, "--model.backbone=evil:net", "--data=evil.Photos"], capsys)[0] != 2
    assert Path("ran").exists()


@pytest.mark.parametrize("trusted_by", ["--trust", "object"])
def test_a_checkpoint_of_ones_own_network_is_used_by_ones_own_word(evil, capsys, trusted_by):
    evil({"backbone": "evil:net"})
    with pytest.raises(UntrustedCodeError, match=r"trust=evil \(in Python: cnn_compare.trusted.trust\('evil'\)\)"):
        ClassifierModule.load_from_checkpoint("net.ckpt")
    if trusted_by == "object":
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
        assert Classifier.load("net.ckpt", backbone=network).module.backbone is network
        assert not Path("ran").exists()
        return
    arguments = ["export", "net.ckpt", "--format=safetensors", "--output=n.safetensors", "--trust=evil"]
    assert run_command(arguments, capsys)[0] == 0


def test_code_that_a_comparisons_folder_names_is_not_imported(evil, tmp_path, capsys):
    original = small_comparison(tmp_path / "original", trainer={"max_epochs": 1})
    for number, changes in enumerate(
        [
            {"data": {"class_path": "evil.Photos"}},
            {"trainer": {"callbacks": [{"class_path": "evil.net"}]}},
            {"trainer": {"callbacks": "evil.net"}},
            {"trainer": {"logger": "evil.net"}},
            {"model": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": "evil.net"}}}},
            {"model": {"lr_scheduler": "evil.net"}},
        ]
    ):
        folder = Path(shutil.copytree(original, tmp_path / str(number) / "small"))
        config = folder / "lenet" / "seed_0" / "config.yaml"
        config.write_text(yaml.safe_dump(merge_config(yaml.safe_load(config.read_text()), changes)))
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["config"] = merge_config(manifest["config"], changes)
        (folder / MANIFEST).write_text(json.dumps(manifest))
        for command_name in ("report --measure_times", *(["explain"] if "data" in changes else [])):
            status, _, errors = run_command([*command_name.split(), str(folder)], capsys)
            assert (status, "names evil." in errors.splitlines()[-1]) == (2, True), errors
        with pytest.raises(ComparisonExistsError, match="with another configuration"):
            small_comparison(tmp_path / str(number), trainer={"max_epochs": 1})
        (folder / MANIFEST).unlink()
        with pytest.raises(ComparisonExistsError, match="with another configuration"):
            small_comparison(tmp_path / str(number), trainer={"max_epochs": 1})
    assert not Path("ran").exists()


def test_classes_of_torch_and_lightning_and_files_called_like_modules_need_no_word(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "labels.py").touch()
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    callbacks = [{"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging"}]
    data = {"class_path": "cnn_compare.FolderDataModule", "init_args": {"labels": "labels.csv"}}
    config = {"model": {"optimizer": optimizer, "backbone": "lenet"}, "trainer": {"callbacks": callbacks}, "data": data}
    assert untrusted(config) == []
    # Arguments of this package's data alone are not looked at.
    hidden = {"class_path": data["class_path"], "init_args": {}, "trainer": {"callbacks": ["labels.Callback"]}}
    assert untrusted(hidden) == ["labels.Callback"]
    foreign = ["os.path", "torch.hub.load", "labels.csv"]
    assert untrusted([*foreign, "no_such_module.x", "a b.c", "labels.", "labels", 3]) == foreign


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "ran"
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "payload": Payload(target), "pytorch-lightning_version": "2.6.6"}, path)
    for command_name in ("fit", "test"):
        status, _, errors = run_command([command_name, "--data=DigitsDataModule", f"--ckpt_path={path}"], capsys)
        assert status == 1
        assert f"CheckpointFileError: no checkpoint in {path}: it holds code, or damaged data, and is not" in errors
    assert run_command(["fit", "--data=DigitsDataModule", f"--model.weights={path}"], capsys)[0] == 1
    with pytest.raises(CheckpointFileError, match="it holds code"):
        ClassifierModule.load_from_checkpoint(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()  # The payload works, so it was refused above.


def test_code_in_a_run_s_checkpoint_does_not_run_when_it_is_resumed(killed, whole, tmp_path):
    target = tmp_path / "ran"
    for name in ("last.ckpt", "best.ckpt"):
        torch.save({"payload": Payload(target)}, killed / name)
    comparison(tmp_path)
    assert same_as(whole, killed)
    assert not target.exists()


@pytest.fixture
def interrupt_when():
    """A function that interrupts this process, as the keyboard does, as soon as a condition holds."""
    over, threads = threading.Event(), []

    def interrupt_when(condition):
        def watch():
            while not (over.is_set() or condition()):
                over.wait(0.01)
            if not over.is_set():
                os.kill(os.getpid(), signal.SIGINT)

        threads.append(threading.Thread(target=watch))
        threads[-1].start()

    # A test runner in the background passes on that SIGINT is ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield interrupt_when
    over.set()
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("moment", ["start", "epoch 3", "test"])
def test_an_interrupt_leaves_what_can_be_resumed(tmp_path, whole, capfd, interrupt_when, moment):
    run_folder = tmp_path / "small" / DROPS / "seed_0"

    def has_come() -> bool:
        if moment == "start":
            return (run_folder / "config.yaml").exists()
        if moment == "epoch 3":
            return (run_folder / "train.log").exists() and "Epoch 3/" in (run_folder / "train.log").read_text()
        return (run_folder / "metrics.csv").exists() and len(rows(run_folder)) == 20

    interrupt_when(has_come)
    status, _, errors = run_command(arguments(tmp_path)[3:], capfd)
    assert (status, "goes on from here with the same command" in errors) == (130, True), errors
    assert not (run_folder / "result.json").exists()
    comparison(tmp_path)
    assert same_as(whole, run_folder / "checkpoints")


def rows(run_folder: Path) -> list[dict[str, str]]:
    with (run_folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_clock_that_is_set_back_again_and_again_changes_no_time(make_trainer, monkeypatch):
    clock = iter(range(2_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    timer = EpochTimer()
    start = time.monotonic()
    make_trainer(callbacks=[timer], max_epochs=3).fit(ClassifierModule("lenet"), DigitsDataModule(train_subset=120))
    elapsed_s = time.monotonic() - start
    assert len(timer.train_epoch_s) == 3
    assert min(timer.train_epoch_s + timer.val_epoch_s) > 0
    assert sum(timer.train_epoch_s) + sum(timer.val_epoch_s) < timer.fit_s < elapsed_s
