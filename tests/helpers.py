"""What several test files call: the command, small comparisons, and backbones that misbehave."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from cnn_compare import DigitsDataModule, compare
from cnn_compare.archive import ARCHIVE, unpack
from cnn_compare.cli import main
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import find_runs
from cnn_compare.report.sections import sections_of
from cnn_compare.results import METRICS, Metric, RunResult, metrics_of
from cnn_compare.run_key import path_name

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "lightning_logs"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
"""For processes that a test starts: they find this clone and the backbones of the tests."""
A_NETWORK_OF_EACH_KIND = [
    *("lenet", "lenet_relu", "alexnet", "alexnet_bn", "vgg11", "vgg11_bn", "googlenet", "inception_v3"),
    *("resnet18", "resnet50", "resnet20", "mobilenet_v2", "densenet121"),
]
"""The other networks differ from these in their depth alone."""
DATA = {
    "class_path": "DigitsDataModule",
    "init_args": {"train_subset": 120, "val_size": 50, "batch_size": 40, "augmentation": "crop_flip_cutout"},
}


def run_command(arguments: list[str], capsys) -> tuple[int, str, str]:
    """Exit status, output and error output of the command."""
    try:
        main(arguments)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def small_comparison(folder: Path, **options) -> Path:
    """Compare on a few digits, two epochs of LeNet unless the options say otherwise."""
    settings = {"name": "small", "backbones": ["lenet"], "trainer": {"max_epochs": 2}, "data": DATA, "times": "never"}
    return compare(**{**settings, **options}, log_dir=str(folder))


def command(folder: Path, *arguments: str, epochs: int = 2) -> list[str]:
    """The command line of `small_comparison`."""
    data = [f"--data.{name}={value}" for name, value in DATA["init_args"].items()]
    options = [
        "--name=small",
        f"--log_dir={folder}",
        "--times=never",  # Else other tests would decide, by the load that they are, whether networks take turns.
        f"--trainer.max_epochs={epochs}",
        "--data=DigitsDataModule",
        *data,
    ]
    return [sys.executable, "-m", "cnn_compare", "compare", *arguments, *options]


def drops(num_classes):
    """A backbone with dropout: its random numbers must survive an interruption too."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, num_classes))


DROPS = path_name("helpers:drops")


def explodes(num_classes):
    raise RuntimeError("out of cheese")


def dies(num_classes):
    os.kill(os.getpid(), signal.SIGKILL)


class Payload:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def predictions(folder: Path, backbone: str, seed: int) -> bytes:
    with np.load(folder / backbone / f"seed_{seed}" / "predictions.npz", allow_pickle=False) as stored:
        return stored["probabilities"].tobytes()


def without_times(folder: Path) -> list[dict[str, str]]:
    """The curves of `drops`, without seconds and what is computed from them."""
    with (folder / DROPS / "seed_0" / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if "_s" not in key} for row in csv.DictReader(file)]


def wait_until(condition, process: subprocess.Popen) -> None:
    """Return as soon as the condition holds; fail when the process ends before that."""
    while not condition():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
            pytest.fail("the process ended before the test could kill it")


def stored_comparison(name: str, folder: Path) -> Path:
    """A copy of a reference comparison with its runs as folders."""
    copy = folder / name
    shutil.copytree(LOGS / name, copy)
    unpack(copy)
    (copy / ARCHIVE).unlink()
    return copy


def run_result(**fields):
    """A `RunResult`; arguments that are none of its fields become metrics, in percent unless known otherwise."""
    own = {field.name for field in dataclasses.fields(RunResult)}
    values = {name: fields.pop(name) for name in [*fields] if name not in own}
    metrics = metrics_of({name: value for name, value in values.items() if name in METRICS})
    metrics |= {name: Metric(value, "%", True) for name, value in values.items() if name not in METRICS}
    return RunResult(**{"backbone": "lenet", "seed": 0, "status": "finished", "metrics": metrics, **fields})


class BrightDigits(DigitsDataModule):
    """Other images than those of the digits, of their size."""

    def load(self, split):
        images, labels = super().load(split)
        return 255 - images, labels


class Shown:
    """What a report shows: the findings' own attributes and, where these have none, the keys of `results.json`."""

    def __init__(self, found):
        self.found, self.sections = found, sections_of(found)
        self.tables = {key: section.table for key, section in self.sections.items() if section.table}
        self.json = {name: value for section in self.sections.values() for name, value in section.json.items()}

    def __getattr__(self, name):
        return getattr(self.found, name) if hasattr(self.found, name) else self.json.get(name)


def shown(folder: Path, **question) -> Shown:
    """What `write_report` shows of a folder, without its files."""
    return Shown(Findings(find_runs(folder), **question))
