"""The end of a training that has lost itself."""

from __future__ import annotations

import math

import lightning as L
from lightning.pytorch.callbacks import Callback

from cnn_compare.errors import DivergedError


class StopWhenDiverged(Callback):
    """Stop after an epoch whose training loss is no finite number: no later one would be.

    Raises:
        DivergedError: From ``Trainer.fit``, with the epoch and the loss.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the mean loss of the epoch, which is on its way to the logs anyway."""
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise DivergedError(trainer.current_epoch, float(loss))
