"""The outcome of `fit`, in a few lines at its end."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from cnn_compare.callbacks.checkpoints import LastCheckpoint
from cnn_compare.callbacks.metrics_csv import MetricRows
from cnn_compare.callbacks.precise_batch_norm import precise_bn_s
from cnn_compare.checkpointing import logs_folder
from cnn_compare.errors import RunError
from cnn_compare.results import VALIDATION_LAGS, WHY_IT_LAGS, RunFolder, training_s, validation_lags


def not_validated(steps: int) -> RunError:
    """The error for a training that has ended before any of its weights were validated, so that none can be tested."""
    return RunError(
        f"training has ended after {steps} steps without a validation, so there are no best weights. Give it more "
        "with trainer.max_time, trainer.max_steps or trainer.max_epochs, and at least one batch to validate with.",
        ("trainer.max_time", "trainer.max_steps", "trainer.max_epochs"),
    )


class FitSummary(MetricRows):
    """Prints best epoch and accuracy, seconds of training, the checkpoint, and the command that tests it.

    After a signal it prints the checkpoint that holds the last state, and the command that goes on from it.

    Args:
        monitor: One of `monitors`, which tells the best epoch.
        target_acc: Validation accuracy, a share, whose time is printed too; None: none.

    Raises:
        RunError: From ``Trainer.fit``, if no weights were validated.
    """

    def __init__(self, monitor: str = "val/acc", target_acc: float | None = None) -> None:
        super().__init__()
        self.monitor, self.target_acc = monitor, target_acc

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.validated:
            raise not_validated(trainer.global_step)
        if not trainer.is_global_zero or all(math.isnan(row[self.monitor]) for row in self.validated):
            return
        best = self.best(self.monitor)
        last_of_epoch = [row for row in self.rows if row["epoch"] == best["epoch"]][-1]
        print(
            f"best epoch: {best['epoch'] + 1:.0f} of {trainer.current_epoch}"
            + ("" if best is last_of_epoch else f", within it after step {best['step']:.0f}")
            + ("" if self.monitor == "val/acc" else f", {self.monitor} {best[self.monitor]:.4f}")
            + f", validation accuracy {100 * best['val/acc']:.2f} %"
        )
        print(f"training: {sum(training_s(self.rows)):.1f} s in {trainer.current_epoch} epochs, without validation")
        if recomputing := precise_bn_s(trainer):
            print(f"batch norm's statistics, recomputed before each validation: {recomputing:.1f} s more")
        train_pct, val_pct = ([100 * row.get(name, math.nan) for row in self.rows] for name in ("train/acc", "val/acc"))
        if lag := validation_lags(train_pct, val_pct):
            print(f"{VALIDATION_LAGS} {lag}. {WHY_IT_LAGS}")
        if self.target_acc is not None:
            reached = self.seconds_to(self.target_acc)
            outcome = "not reached" if reached is None else f"reached after {reached:.1f} s of training"
            print(f"{100 * self.target_acc:g} % validation accuracy: {outcome}")
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.best_model_path.endswith(RunFolder.BEST):
                print(f"weights: {callback.best_model_path}")
                print(f"test them: cnn-compare test --ckpt_path={shlex.quote(callback.best_model_path)}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Print how to go on after a signal."""
        stopped = isinstance(exception, (KeyboardInterrupt, SIGTERMException))
        if not stopped or not trainer.is_global_zero or trainer.state.fn != TrainerFn.FITTING:
            return
        last = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, LastCheckpoint)]
        # A resumed training that has saved nothing goes on from where it went on before.
        paths = [*(callback.best_model_path for callback in last), str(trainer.ckpt_path or "")]
        path = next((path for path in paths if path and Path(path).is_file()), None)
        config = (logs_folder(trainer) or Path()) / RunFolder.CONFIG
        if path is None:
            message = "before the first checkpoint: the same command starts anew"
        elif trainer.loggers and config.is_file():
            options = shlex.join([f"--config={config}", f"--ckpt_path={path}"])
            message = f"{path} holds the last state. To go on: cnn-compare fit {options}"
        else:
            option = shlex.join([f"--ckpt_path={path}"])
            message = f"{path} holds the last state. To go on: the same command with {option}"
        print(f"stopped; {message}", file=sys.stderr)
