"""`best.ckpt`: the weights of a run's best validation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from cnn_compare.callbacks.epoch_timer import EpochTimer
from cnn_compare.callbacks.last_checkpoint import LastCheckpoint
from cnn_compare.checkpointing import best_weights
from cnn_compare.metrics import monitors
from cnn_compare.results import RunFolder


class BestCheckpoint(ModelCheckpoint):
    """Save the weights after each validation that is better than all before, also before a resumption; NaN never is.

    Beside a `LastCheckpoint`, ``previous_best.ckpt`` holds the weights that were best when ``last.ckpt`` was written,
    until it is written again: a training that goes on from there after a kill has the same best weights as without it.

    Args:
        folder: Folder of ``best.ckpt``; None: beside the logs.
        monitor: One of `monitors`, by which a validation is better.
    """

    def __init__(self, folder: Path | None = None, monitor: str = "val/acc") -> None:
        super().__init__(
            folder,
            filename="best",
            monitor=monitor,
            mode="max" if monitors()[monitor] else "min",
            save_weights_only=True,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._last_global_step_saved = -1

    @property
    def state_key(self) -> str:
        """Another than that of a user's own `ModelCheckpoint` of the same metric."""
        return f"{self._earlier_state_key} of best.ckpt"

    @property
    def _earlier_state_key(self) -> str:
        """What checkpoints of version 0.2.0 and before have."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        start, best = time.monotonic(), Path(filepath)
        before = best.with_name(RunFolder.PREVIOUS_BEST)
        last = any(isinstance(callback, LastCheckpoint) for callback in trainer.checkpoint_callbacks)
        if trainer.is_global_zero and last and best.exists() and not before.exists():
            best.replace(before)
        super()._save_checkpoint(trainer, filepath)
        # Between two steps, batches whose gradients are accumulated change the statistics of batch norm.
        self._last_global_step_saved = -1
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EpochTimer):
                callback.leave_out(time.monotonic() - start)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the best weights that a checkpoint knows; Lightning would forget them if the folder is another one.

        Raises:
            ResumeError: If they are not there.
        """
        states = checkpoint["callbacks"]
        state = states.setdefault(self.state_key, states.get(self._earlier_state_key))
        if not state or not state["best_model_path"]:
            return
        folder = Path(str(self.dirpath)).resolve()
        best = best_weights(Path(str(trainer.ckpt_path)), checkpoint["global_step"], state["best_model_path"])
        if best == folder / RunFolder.PREVIOUS_BEST:
            if trainer.is_global_zero:
                best.replace(folder / RunFolder.BEST)
            best = folder / RunFolder.BEST
        path = str(best)
        state |= {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
        state["best_k_models"] = {path: state["best_model_score"]}
