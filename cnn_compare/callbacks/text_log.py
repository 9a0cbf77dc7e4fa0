"""A text log in the format of the `train.py` that this project grew out of."""

from __future__ import annotations

import time
from pathlib import Path

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from cnn_compare.callbacks.metrics_csv import MetricRows
from cnn_compare.run_key import path_name

BANNER = "=" * 20


class TextLog(MetricRows):
    """Append banners, and each epoch's losses and accuracies, to a text file.

    Args:
        dir: Folder of the file, made if missing.
        filename: Name of the file; None: ``<backbone>.log``.
    """

    def __init__(self, dir: str | Path = "results/log", filename: str | None = None) -> None:
        super().__init__()
        self.dir, self.filename = Path(dir), filename
        self._started = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.monotonic()
        name = str(pl_module.hparams.get("backbone", type(pl_module).__name__))
        self.path = self.dir / (self.filename or f"{path_name(name)}.log")
        self._write(f"{BANNER} {name}: start of training {BANNER}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the epoch at once: a run killed within an epoch leaves no partial lines."""
        super().on_train_epoch_end(trainer, pl_module)
        row = self.rows[-1]
        last = f"/{trainer.max_epochs - 1}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        lines = [f"Epoch {trainer.current_epoch}{last}", "-" * 10]
        for stage in ("train", "val"):
            if f"{stage}/loss" in row:
                lines.append(f"{stage} Loss: {row[f'{stage}/loss']:.4f} Acc: {row[f'{stage}/acc']:.4f}")
        self._write(*lines, "")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        lines = [f"Training complete in {minutes}m {seconds}s"]
        if accuracies := [row["val/acc"] for row in self.rows if "val/acc" in row]:
            lines.append(f"Best val Acc: {max(accuracies):.6f}")
        self._write(*lines, f"{BANNER} end of training {BANNER}", "")

    @rank_zero_only
    def _write(self, *lines: str) -> None:
        self.dir.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
