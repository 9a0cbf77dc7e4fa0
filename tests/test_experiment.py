"""A configuration becomes data, module and trainer once, and the files of the data are read once in each process."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import run_command
from lightning.pytorch.cli import LightningArgumentParser
from PIL import Image

from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.comparison.spec import WorkerSpec
from cnn_compare.comparison.worker import MeasuredRun
from cnn_compare.data.folder import FolderDataModule
from cnn_compare.experiment import ExperimentCLI, read_classes, resolve_config

QUICK = ["--trainer.max_epochs=1", "--data.batch_size=8", "--model.backbone=lenet"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of two classes, which is the working folder's."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def reads(monkeypatch):
    """Names of what was read of the folder: which pictures there are, and their pixels."""
    counted = []

    def count(name):
        read = getattr(__import__("cnn_compare.data.folder", fromlist=[name]), name)
        monkeypatch.setattr(f"cnn_compare.data.folder.{name}", lambda *given: counted.append(name) or read(*given))

    count("read_folders")
    count("decoded")
    return counted


@pytest.fixture
def parsers(monkeypatch):
    """The parsers that were given the settings of trainer, module and data."""
    made = []
    add = LightningArgumentParser.add_lightning_class_args

    def counting(self, *given, **options):
        if not any(self is parser for parser in made):
            made.append(self)
        return add(self, *given, **options)

    monkeypatch.setattr(LightningArgumentParser, "add_lightning_class_args", counting)
    return made


@pytest.mark.parametrize("options", [["--folds=2"], ["--train_subsets=[8,16]"]])
def test_a_comparison_reads_a_folder_once_and_makes_two_parsers_at_most(photos, reads, parsers, capsys, options):
    arguments = ["compare", "--name=x", "--backbones=[lenet]", "--data=FolderDataModule", f"--data.data_dir={photos}"]
    status, _, errors = run_command([*arguments, *QUICK[:2], *options], capsys)
    assert status == 0, errors
    assert json.loads((photos.parent / "lightning_logs" / "x" / "manifest.json").read_text())["ended"]
    assert sorted(reads) == ["decoded", "read_folders"]
    assert len(parsers) <= 2


def test_a_process_that_trains_a_run_reads_the_folder_once(photos, reads, tmp_path):
    config = resolve_config(
        {
            "data": {"class_path": "FolderDataModule", "init_args": {"data_dir": str(photos)}},
            "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        }
    )
    (spec,) = plan_runs(Comparison("x", ["lenet"], config=read_classes(config), log_dir=str(tmp_path)))
    spec.folder.path.mkdir(parents=True)
    reads.clear()
    run = MeasuredRun(spec, WorkerSpec())
    run.train_and_test(None)
    run.result()
    assert sorted(reads) == ["decoded", "read_folders"]


def test_fit_makes_one_data_module_and_reads_the_folder_once(photos, reads, monkeypatch):
    made, init = [], FolderDataModule.__init__
    monkeypatch.setattr(FolderDataModule, "__init__", lambda self, **given: made.append(self) or init(self, **given))
    cli = ExperimentCLI(["fit", "--data=FolderDataModule", f"--data.data_dir={photos}", *QUICK])
    assert cli.datamodule is cli.trainer.datamodule
    assert cli.model.num_classes == 2
    assert "num_classes: 2" in (photos.parent / "lightning_logs" / "version_0" / "config.yaml").read_text()
    assert len(made) <= 1
    assert sorted(reads) == ["decoded", "read_folders"]
