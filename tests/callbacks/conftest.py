"""A training whose numbers are written down beforehand and whose clock is moved by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, Dataset

SCRIPT = {
    "train/loss": [9.1037, 2.25, 1.5, 1.25],
    "train/acc": [0.1560, 0.25, 0.5, 0.75],
    "val/loss": [11.9101, 2.5, 1.75, 2.0],
    "val/acc": [0.1925, 0.449057, 0.4375, 0.375],
}


class KilledError(Exception):
    """Stands for SIGKILL."""


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The time as the callbacks see it: it stands still until a test, or `Scripted`, adds to ``clock.now``."""
    clock = Clock()
    for name in ("callbacks.epoch_timer", "callbacks.text_log", "machine"):
        fake = SimpleNamespace(perf_counter=clock, monotonic=clock)
        monkeypatch.setattr(f"cnn_compare.{name}.time", fake)
    return clock


class TenImages(Dataset):
    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.clock.now += self.seconds
        return torch.zeros(1), 0


class Scripted(LightningModule):
    """Logs what the script says; every kind of work takes its ``seconds``, steps as many more as there were epochs."""

    def __init__(self, clock, seconds, killed_in=None, backbone="lenet"):
        super().__init__()
        self.save_hyperparameters({"backbone": backbone} if backbone else {})
        self.weight = nn.Parameter(torch.zeros(()))
        self.clock, self.seconds, self.killed_in, self.dropped = clock, seconds, killed_in, {}

    def log_script(self, stage):
        values = {name: column[self.current_epoch] for name, column in SCRIPT.items() if name.startswith(stage)}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=1)

    def training_step(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (self.killed_in, 1):
            raise KilledError
        self.clock.now += self.seconds["step"] * (1 + self.current_epoch)
        self.dropped.setdefault(self.current_epoch, []).append(nn.functional.dropout(torch.ones(50)))
        if self.trainer.is_last_batch:
            self.log_script("train")
        return self.weight * batch[0].mean()

    def validation_step(self, batch, batch_idx):
        self.clock.now += self.seconds["validation"]

    def on_validation_epoch_end(self):
        self.log_script("val")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.clock.now += self.seconds["optimizer"]

    def on_save_checkpoint(self, checkpoint):
        self.clock.now += self.seconds["checkpoint"]


@pytest.fixture
def script(monkeypatch):
    """A function that sets what a metric is after each epoch."""
    return lambda name, values: monkeypatch.setitem(SCRIPT, name, values)


class SaveLast(Callback):
    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.path)


@pytest.fixture
def train(make_trainer, clock, tmp_path):
    """A function that trains on ten images in batches of 4, 4 and 2, and stores ``last.ckpt`` after every epoch.

    It returns the trainer. ``killed_in``: the epoch in which the training dies, after one step. ``resume``: go on from
    ``last.ckpt``. ``seconds``: what the work of each kind takes, nothing where it is not named.
    """

    def run(*callbacks, epochs=3, killed_in=None, resume=False, seconds=None, backbone="lenet", **options):
        seconds = {"fetch": 0, "step": 0, "optimizer": 0, "validation": 0, "checkpoint": 0, **(seconds or {})}
        last = tmp_path / "last.ckpt"
        trainer = make_trainer(max_epochs=epochs, callbacks=[*callbacks, SaveLast(last)], **options)
        module, data = Scripted(clock, seconds, killed_in, backbone), TenImages(clock, seconds["fetch"])
        loaders = DataLoader(data, batch_size=4), DataLoader(data, batch_size=4)
        try:
            trainer.fit(module, *loaders, ckpt_path=last if resume else None, weights_only=True)
        except KilledError:
            assert killed_in is not None
        return trainer

    return run
