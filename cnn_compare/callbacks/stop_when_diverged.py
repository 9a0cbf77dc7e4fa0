"""Stop when the loss is not finite."""

from __future__ import annotations

import math

import lightning as L
from lightning.pytorch.callbacks import Callback

from cnn_compare.errors import DivergedError


class StopWhenDiverged(Callback):
    """Stop after an epoch whose mean training loss is infinite or NaN: it would not recover.

    Raises:
        DivergedError: From ``Trainer.fit``, with the epoch and the loss.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the epoch's mean loss, which is logged anyway."""
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise DivergedError(
                f"the training loss became {float(loss)} in epoch {trainer.current_epoch} (counted from 0). A lower "
                "learning rate usually helps: model.optimizer.lr, or own_recipe=true.",
                ("model.optimizer.lr", "own_recipe"),
            )
