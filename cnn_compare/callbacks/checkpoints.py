"""`best.ckpt`, the weights of a run's best validation, and `last.ckpt`, its whole state."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from cnn_compare.callbacks.epoch_timer import leave_out
from cnn_compare.checkpointing import BEST_STATE, best_weights
from cnn_compare.metrics import monitors
from cnn_compare.results import RunFolder

# Training time per saving time. A VGG's weights with Adam's moments are 1.5 GB: saving them after every short epoch
# would take longer than training.
EPOCH_TIME_PER_SAVE = 10


class LastCheckpoint(ModelCheckpoint):
    """Save after the first epoch, and after later ones as long as saving takes at most a tenth of the time.

    An interruption costs at most ten times the duration of saving, or one epoch if that is longer. An epoch that a
    limit has ended early is not saved: nothing could go on within it as if there had been no limit.

    Args:
        folder: Folder of ``last.ckpt``; None: beside the logs.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self._due = 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        start = time.monotonic()
        # All devices have to take part in saving, and their clocks may differ.
        if trainer.is_last_batch and trainer.strategy.broadcast(start >= self._due):
            super().on_train_epoch_end(trainer, pl_module)
            if trainer.is_global_zero and self.dirpath:
                # This checkpoint knows the best epoch's weights as they are now.
                Path(self.dirpath, RunFolder.PREVIOUS_BEST).unlink(missing_ok=True)
            end = time.monotonic()
            self._due = end + EPOCH_TIME_PER_SAVE * (end - start)


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
        return BEST_STATE

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:  # There is no hook.
        start, best = time.monotonic(), Path(filepath)
        before = best.with_name(RunFolder.PREVIOUS_BEST)
        last = any(isinstance(callback, LastCheckpoint) for callback in trainer.checkpoint_callbacks)
        if trainer.is_global_zero and last and best.exists() and not before.exists():
            best.replace(before)
        super()._save_checkpoint(trainer, filepath)
        # Between two steps, batches whose gradients are accumulated change the statistics of batch norm.
        self._last_global_step_saved = -1
        leave_out(trainer, time.monotonic() - start)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the best weights that a checkpoint knows; Lightning would forget them if the folder is another one.

        Raises:
            ResumeError: If they are not there.
        """
        state = checkpoint["callbacks"].get(BEST_STATE)
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
