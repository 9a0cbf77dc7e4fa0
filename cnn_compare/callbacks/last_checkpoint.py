"""`last.ckpt`: all that is needed to go on after an interruption."""

from __future__ import annotations

import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

# A VGG's weights with Adam's moments are 1.5 GB: saved after every short epoch, they would cost more than the training.
EPOCH_TIME_PER_SAVE = 10


class LastCheckpoint(ModelCheckpoint):
    """Save after the first epoch, and then after each for which saving stays within a tenth of the time.

    An interruption costs at most ten times what one checkpoint takes to write, or one epoch where that is longer.

    Args:
        folder: Where ``last.ckpt`` goes; None: beside the logs.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self._due = 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if it is time."""
        start = time.monotonic()
        # Saving takes all devices, and their clocks may disagree.
        if trainer.strategy.broadcast(start >= self._due):
            super().on_train_epoch_end(trainer, pl_module)
            end = time.monotonic()
            self._due = end + EPOCH_TIME_PER_SAVE * (end - start)
