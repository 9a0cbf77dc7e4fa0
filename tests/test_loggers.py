"""Loggers other than TensorBoard's, and the library's parts in a trainer that others have set up."""

from __future__ import annotations

import csv
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from helpers import run_command
from lightning.pytorch.loggers import CSVLogger, Logger
from torch.utils.data import DataLoader, TensorDataset

from cnn_compare import ClassifierModule, EpochTimer

FIT = ["fit", "--model.backbone=lenet", "--data=DigitsDataModule", "--data.train_subset=40", "--data.val_size=20"]
SHORT = ["--trainer.max_epochs=2", "--trainer.enable_progress_bar=false"]


class Tracker(Logger):
    """As MLflow's with a data base: an identifier for each training, and no folder; with one, as W&B's."""

    name = "tracked"
    version = "a1b2"
    experiment = None

    save_dir = None

    def __init__(self, folder: str | None = None) -> None:
        super().__init__()
        type(self).save_dir = folder

    def log_metrics(self, metrics, step=None):
        with Path("logged").open("a") as file:
            file.write("".join(f"{name}\n" for name in metrics))

    def log_hyperparams(self, params, *_, **__):
        Path("logged").write_text(f"{params['backbone']}\n")


@pytest.fixture
def working_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("save_dir", [None, "."])
def test_a_trackers_training_has_a_folder_of_its_own_and_the_users_files_stay(working_folder, capsys, save_dir):
    Path("config.yaml").write_text("mine: 1\n")
    where = [] if save_dir is None else [f"--trainer.logger.folder={save_dir}"]
    status, output, errors = run_command([*FIT, *SHORT, "--trainer.logger=test_loggers.Tracker", *where], capsys)
    assert status == 0, errors
    folder = working_folder / "tracked" / "a1b2"
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["backbone"] == "lenet"
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert Path("config.yaml").read_text() == "mine: 1\n"
    assert {"lenet", "train/loss", "val/acc", "time/train_epoch_s"} <= {*Path("logged").read_text().split()}
    assert "tracked/a1b2/checkpoints/best.ckpt" in output


@pytest.mark.filterwarnings("ignore")
def test_the_csv_logger_gets_a_row_of_every_epoch(working_folder, capsys):
    options = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=."]
    status, _, errors = run_command([*FIT, *SHORT, *options], capsys)
    assert status == 0, errors
    (path,) = working_folder.rglob("metrics.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["epoch"] for row in rows if row["val/acc"]) == ["0", "1"]
    assert (path.parent / "config.yaml").is_file()


@pytest.mark.filterwarnings("ignore")
def test_module_and_timer_work_with_plain_loaders_and_a_trainer_of_others(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(24, 3, 32, 32, generator=generator), torch.arange(24) % 3
    loader = DataLoader(TensorDataset(images, labels), batch_size=8)
    timer, logger = EpochTimer(), CSVLogger(tmp_path)
    module = ClassifierModule("lenet", num_classes=3)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=logger,
        callbacks=[timer],
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, loader, loader)
    (measured,) = trainer.test(module, loader, verbose=False)
    with torch.no_grad():
        expected = (module.eval()(images).argmax(1) == labels).float().mean().item()
    assert measured["test/acc"] == pytest.approx(expected)
    assert (len(timer.train_epoch_s), timer.images_per_epoch) == (2, 24)
    assert trainer.global_step == 4
