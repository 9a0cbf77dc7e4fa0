"""`best.ckpt`: the weights of a run's best epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from cnn_compare.metrics import monitors


class BestCheckpoint(ModelCheckpoint):
    """Save the weights after each epoch that is better than all before, also before a resumption; NaN never is.

    Args:
        folder: Folder of ``best.ckpt``; None: beside the logs.
        monitor: One of `monitors`, by which an epoch is better.
    """

    def __init__(self, folder: Path | None = None, monitor: str = "val/acc") -> None:
        super().__init__(
            folder,
            filename="best",
            monitor=monitor,
            mode="max" if monitors()[monitor] else "min",
            save_weights_only=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    @property
    def state_key(self) -> str:
        """Another than that of a user's own `ModelCheckpoint` of the same metric."""
        return f"{self._earlier_state_key} of best.ckpt"

    @property
    def _earlier_state_key(self) -> str:
        """What checkpoints of version 0.2.0 and before have."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the state under its earlier name, too."""
        states = checkpoint["callbacks"]
        states.setdefault(self.state_key, states.get(self._earlier_state_key))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Lightning's, which would forget the best value where a resumed run writes to another folder."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})
