"""The outcome of `fit`, in a few lines at its end."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from cnn_compare.callbacks.epoch_timer import EpochTimer
from cnn_compare.callbacks.last_checkpoint import LastCheckpoint
from cnn_compare.checkpointing import logs_folder
from cnn_compare.metrics import monitors
from cnn_compare.results import VALIDATION_LAGS, WHY_IT_LAGS, RunFolder, first_best, first_reached, validation_lags


class FitSummary(Callback):
    """Prints best epoch and accuracy, seconds of training, the checkpoint, and the command that tests it.

    After a signal, the checkpoint that holds the last state, and the command that goes on from it.

    Args:
        timer: Of the same trainer.
        monitor: One of `monitors`, which tells the best epoch.
        target_acc: Validation accuracy, a share, whose time is printed too; None: none.
    """

    def __init__(self, timer: EpochTimer, monitor: str = "val/acc", target_acc: float | None = None) -> None:
        self.timer, self.monitor, self.target_acc = timer, monitor, target_acc
        self._values: dict[str, list[float]] = {"train/acc": [], "val/acc": [], monitor: []}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the epoch's validation."""
        for name, values in self._values.items():
            values.append(float(trainer.callback_metrics.get(name, math.nan)))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print."""
        accuracies, monitored = self._values["val/acc"], self._values[self.monitor]
        if not trainer.is_global_zero or all(map(math.isnan, monitored)):
            return
        epochs, best = len(monitored), first_best(monitored, monitors()[self.monitor])
        number = trainer.current_epoch - epochs + best + 1
        seconds = self.timer.train_epoch_s
        by = "" if self.monitor == "val/acc" else f", {self.monitor} {monitored[best]:.4f}"
        print(
            f"best epoch: {number} of {trainer.current_epoch}{by}, validation accuracy {100 * accuracies[best]:.2f} %"
        )
        print(f"training: {sum(seconds):.1f} s in {len(seconds)} epochs, without validation")
        train_pct, val_pct = ([100 * value for value in self._values[name]] for name in ("train/acc", "val/acc"))
        if lag := validation_lags(train_pct, val_pct):
            print(f"{VALIDATION_LAGS} {lag}. {WHY_IT_LAGS}")
        if self.target_acc is not None:
            count = min(len(seconds), epochs)  # A time limit may end an epoch that the timer does not count.
            reached = first_reached(accuracies[:count], seconds[:count], self.target_acc)
            outcome = "not reached" if reached is None else f"reached after {reached:.1f} s of training"
            print(f"{100 * self.target_acc:g} % validation accuracy: {outcome}")
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.best_model_path.endswith(RunFolder.BEST):
                print(f"weights: {callback.best_model_path}")
                print(f"test them: cnn-compare test --ckpt_path={shlex.quote(callback.best_model_path)}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """After a signal, print how to go on."""
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

    def state_dict(self) -> dict[str, list[float]]:
        """The validations so far, for the checkpoint."""
        return self._values

    def load_state_dict(self, state_dict: dict[str, list[float]]) -> None:
        """Inverse of `state_dict`."""
        epochs = len(next(iter(state_dict.values()), []))
        unknown = [math.nan] * epochs  # Another metric was monitored before the resumption.
        self._values = {name: list(state_dict.get(name, unknown)) for name in self._values}
