"""`last.ckpt`: the whole state of a run, for resuming it."""

from __future__ import annotations

import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from cnn_compare.results import RunFolder

# Training time per saving time. A VGG's weights with Adam's moments are 1.5 GB: saving them after every short epoch
# would take longer than training.
EPOCH_TIME_PER_SAVE = 10


class LastCheckpoint(ModelCheckpoint):
    """Save after the first epoch, and after later ones as long as saving takes at most a tenth of the time.

    An interruption costs at most ten times the duration of saving, or one epoch if that is longer. An epoch that a
    limit has ended early is not saved: nothing could go on within it as if there had been no limit.

    Args:
        folder: Folder of ``last.ckpt``; None: beside the logs.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self._due = 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if it is due."""
        start = time.monotonic()
        # All devices have to take part in saving, and their clocks may differ.
        if trainer.is_last_batch and trainer.strategy.broadcast(start >= self._due):
            super().on_train_epoch_end(trainer, pl_module)
            if trainer.is_global_zero and self.dirpath:
                # This checkpoint knows the best epoch's weights as they are now.
                Path(self.dirpath, RunFolder.PREVIOUS_BEST).unlink(missing_ok=True)
            end = time.monotonic()
            self._due = end + EPOCH_TIME_PER_SAVE * (end - start)
