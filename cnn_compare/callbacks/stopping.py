"""Callbacks that end a training early."""

from __future__ import annotations

import math

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.utilities import rank_zero_info

from cnn_compare.errors import DivergedError, InvalidValueError
from cnn_compare.metrics import monitors


class StopWhenDiverged(Callback):
    """Stop after an epoch whose mean training loss is infinite or NaN: it would not recover.

    Raises:
        DivergedError: From ``Trainer.fit``, with the epoch and the loss.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise DivergedError(
                f"the training loss became {float(loss)} in epoch {trainer.current_epoch} (counted from 0). A lower "
                "learning rate usually helps: model.optimizer.lr, or own_recipe=true.",
                ("model.optimizer.lr", "own_recipe"),
            )


class StopWithoutProgress(EarlyStopping):
    """End training after some epochs without a better value than before; NaN is never better.

    A class of its own, so that checkpoints keep its state apart from that of `EarlyStopping` with a target accuracy.

    Args:
        monitor: One of `monitors`.
        patience: Number of epochs.

    Raises:
        InvalidValueError: If ``patience`` is below 1.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        if patience < 1:
            raise InvalidValueError("patience", patience, "at least 1, or null for no early stopping")
        mode = "max" if monitors()[monitor] else "min"
        super().__init__(monitor, mode=mode, patience=patience, check_finite=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say why training ended; Lightning's own words come after every better epoch too."""
        if self.stopped_epoch:
            epochs = f"{self.patience} epochs" if self.patience > 1 else "an epoch"
            rank_zero_info(f"stopped after {epochs} without a better {self.monitor}")
