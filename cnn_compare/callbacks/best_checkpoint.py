"""`best.ckpt`: the weights at the highest validation accuracy of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Save the weights after each epoch with a higher validation accuracy than all before, also before a resumption.

    Args:
        folder: Folder of ``best.ckpt``; None: beside the logs.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(
            folder,
            filename="best",
            monitor="val/acc",
            mode="max",
            save_weights_only=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    @property
    def state_key(self) -> str:
        """As its base class's: checkpoints that were written before this class existed have that."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Lightning's, which would forget the best accuracy where a resumed run writes to another folder."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})
