"""Early stopping."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_info

from cnn_compare.errors import InvalidValueError
from cnn_compare.metrics import monitors


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
