"""Lightning's rich progress bar, drawn a few times a second."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

SECONDS_BETWEEN = 0.25


class ThrottledProgressBar(RichProgressBar):
    """A `RichProgressBar` that reads its numbers and draws at most four times a second.

    Lightning's reads and draws after every step, at any ``refresh_rate``: this takes a tenth of LeNet's time, and on a
    GPU the processor waits for each number.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drawn = -SECONDS_BETWEEN

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the numbers, if it is due."""
        if trainer.is_last_batch or time.monotonic() - self._drawn >= SECONDS_BETWEEN:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def refresh(self, hard: bool = False) -> None:
        """Draw, if it is due."""
        now = time.monotonic()
        if hard or now - self._drawn >= SECONDS_BETWEEN:
            self._drawn = now
            super().refresh(hard)
