"""Progress of `fit`, `validate` and `test`."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar

from cnn_compare.progress import Display


class FitProgress(ProgressBar):
    """A bar, or a line every few seconds.

    Lightning's bars read and draw every metric after every step: a tenth of LeNet's time, and on a GPU the processor
    waits for each number.
    """

    def __init__(self) -> None:
        super().__init__()
        self._display = Display("batch")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._show(batch_idx, trainer.num_training_batches, _epoch(trainer))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._show(batch_idx, trainer.num_val_batches[dataloader_idx], "validation")

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._show(batch_idx, trainer.num_test_batches[dataloader_idx], "test")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (accuracy := trainer.callback_metrics.get("val/acc")) is not None:
            batches = trainer.num_training_batches
            text = f"{_epoch(trainer)}: validation accuracy {100 * float(accuracy):.2f} %"
            self._display.show(batches, batches, text, text)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._display.stop()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._display.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._display.stop()

    def _show(self, batch_idx: int, batches: int | float, what: str) -> None:
        if self.trainer.is_global_zero:
            self._display.show(batch_idx + 1, batches, what, f"{what}, step {batch_idx + 1} of {batches}")

    def disable(self) -> None:
        """Do nothing: other processes than the first show nothing anyway."""

    def enable(self) -> None:
        """Do nothing, as `disable`."""


def _epoch(trainer: L.Trainer) -> str:
    last = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    return f"epoch {trainer.current_epoch + 1}{last}"
