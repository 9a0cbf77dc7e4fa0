"""Lightning's rich progress bar, drawn as often as eyes can follow."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

SECONDS_BETWEEN = 0.25


class ThrottledProgressBar(RichProgressBar):
    """`RichProgressBar` that collects its numbers and draws itself four times a second at most.

    Lightning's own does so after every step, whatever its ``refresh_rate``; a tenth of LeNet's time goes into that, and
    on a GPU the processor waits for each number.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drawn = -SECONDS_BETWEEN

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take notice, if it is time."""
        if trainer.is_last_batch or time.monotonic() - self._drawn >= SECONDS_BETWEEN:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def refresh(self, hard: bool = False) -> None:
        """Draw, if it is time."""
        now = time.monotonic()
        if hard or now - self._drawn >= SECONDS_BETWEEN:
            self._drawn = now
            super().refresh(hard)
