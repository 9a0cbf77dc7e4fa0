"""All logged values as a table, a row for each validation and each end of an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from cnn_compare.files import write_csv
from cnn_compare.metrics import monitors
from cnn_compare.results import first_best, first_reached, training_s


class MetricRows(Callback):
    """Keeps every logged value beside the epoch and the step that it was measured at.

    What is measured at the same step is one row: usually an epoch with its validation. A validation within an epoch has
    a row of its own. The rows are part of the checkpoint.

    Attributes:
        rows: Names and values, ``epoch`` and ``step`` among them.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._known: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the values of a trial validation, and of an earlier training with this trainer."""
        self._known = dict(trainer.callback_metrics)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.validating and trainer.state.fn == TrainerFn.FITTING:
            self._add(trainer, {})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add what the epoch has measured: validation has ended, and checkpoints are written later."""
        same = self.rows and all(self.rows[-1][name] == value for name, value in self._now(trainer).items())
        self._add(trainer, self.rows.pop() if same else {})

    def _add(self, trainer: L.Trainer, row: dict[str, float]) -> None:
        before, self._known = self._known, dict(trainer.callback_metrics)
        new = {
            name: float(value)
            for name, value in self._known.items()
            # Lightning keeps old values, in the same memory.
            if name not in before or value.data_ptr() != before[name].data_ptr()
        }
        self.rows.append({**self._now(trainer), **row, **new})

    @property
    def validated(self) -> list[dict[str, float]]:
        """The rows that hold a validation."""
        return [row for row in self.rows if "val/acc" in row]

    def best(self, monitor: str) -> dict[str, float]:
        """The first row with the best value of one of `monitors`; there must be a validation."""
        return self.validated[first_best([row[monitor] for row in self.validated], monitors()[monitor])]

    def seconds_to(self, val_acc: float) -> float | None:
        """Seconds of training until the validation accuracy was first so high, a share; None if it never was."""
        return first_reached([row.get("val/acc", 0.0) for row in self.rows], training_s(self.rows), val_acc)

    @staticmethod
    def _now(trainer: L.Trainer) -> dict[str, float]:
        return {"epoch": trainer.current_epoch, "step": trainer.global_step}

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class MetricsCsv(MetricRows):
    """Write the rows to a CSV file after each epoch: Lightning's CSVLogger would delete earlier ones at a resume.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            write_csv(self.path, self.rows)
