"""A text log in the format of the `train.py` that this project grew out of."""

from __future__ import annotations

import math
import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

BANNER = "=" * 20


class TextLog(Callback):
    """Append banners, and each epoch's losses and accuracies, to a text file.

    Args:
        dir: Folder of the file, made if missing.
        filename: Name of the file; None: ``<backbone>.log``.
    """

    def __init__(self, dir: str | Path = "results/log", filename: str | None = None) -> None:
        self.dir, self.filename = Path(dir), filename
        self._started = 0.0
        self._best = -math.inf
        self._validated = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the start banner."""
        self._started = time.monotonic()
        name = str(pl_module.hparams.get("backbone", type(pl_module).__name__))
        self.path = self.dir / (self.filename or f"{name.replace('/', '_').replace(':', '_')}.log")
        self._write(f"{BANNER} {name}: start of training {BANNER}")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reset the mark: Lightning keeps the metrics of the last validation in epochs without one."""
        self._validated = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that this epoch was validated."""
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the epoch at once: a run killed within an epoch leaves no partial lines."""
        metrics = trainer.callback_metrics
        last = f"/{trainer.max_epochs - 1}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        lines = [f"Epoch {trainer.current_epoch}{last}", "-" * 10]
        for stage in ("train", "val") if self._validated else ("train",):
            if f"{stage}/loss" in metrics:
                loss, accuracy = float(metrics[f"{stage}/loss"]), float(metrics[f"{stage}/acc"])
                lines.append(f"{stage} Loss: {loss:.4f} Acc: {accuracy:.4f}")
        self._best = max(self._best, float(metrics.get("val/acc", -math.inf)))
        self._write(*lines, "")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the end banner."""
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        lines = [f"Training complete in {minutes}m {seconds}s"]
        if math.isfinite(self._best):
            lines.append(f"Best val Acc: {self._best:.6f}")
        self._write(*lines, f"{BANNER} end of training {BANNER}", "")

    def state_dict(self) -> dict[str, float]:
        """The best accuracy so far, for the checkpoint."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Inverse of `state_dict`."""
        self._best = state_dict["best"]

    @rank_zero_only
    def _write(self, *lines: str) -> None:
        self.dir.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
