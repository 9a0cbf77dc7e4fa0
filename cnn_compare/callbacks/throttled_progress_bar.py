"""Progress of `fit`: a bar drawn a few times a second, or where there is no terminal a line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.console import Console

SECONDS_BETWEEN = 0.25
SECONDS_BETWEEN_LINES = 5.0


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


class ProgressLines(ProgressBar):
    """A line on standard error after an epoch, and within one, every few seconds at most."""

    def __init__(self) -> None:
        super().__init__()
        self._printed = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far the epoch is, if it is due."""
        self._print(trainer, f", step {batch_idx + 1} of {self.total_train_batches}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how the epoch ended, if it is due."""
        accuracy = trainer.callback_metrics.get("val/acc")
        self._print(trainer, "" if accuracy is None else f": validation accuracy {100 * float(accuracy):.2f} %")

    def _print(self, trainer: L.Trainer, what: str) -> None:
        now = time.monotonic()
        if trainer.is_global_zero and now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            last = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
            print(f"epoch {trainer.current_epoch + 1}{last}{what}", file=sys.stderr, flush=True)

    def disable(self) -> None:
        """Nothing is drawn that could be in the way; other processes print nothing anyway."""

    def enable(self) -> None:
        """Inverse of `disable`."""


def progress() -> ProgressBar:
    """What suits the place of the output."""
    console = Console()
    return ThrottledProgressBar() if console.is_terminal or console.is_jupyter else ProgressLines()
