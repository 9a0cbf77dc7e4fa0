"""The outcome of `fit`, in a few lines at its end."""

from __future__ import annotations

import math
import shlex

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from cnn_compare.callbacks.epoch_timer import EpochTimer
from cnn_compare.results import RunFolder, first_reached


class FitSummary(Callback):
    """Prints best epoch and accuracy, seconds of training, the checkpoint, and the command that tests it.

    Args:
        timer: Of the same trainer.
        target_acc: Validation accuracy, a share, whose time is printed too; None: none.
    """

    def __init__(self, timer: EpochTimer, target_acc: float | None = None) -> None:
        self.timer, self.target_acc = timer, target_acc
        self._accuracies: list[float] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the epoch's validation accuracy."""
        self._accuracies.append(float(trainer.callback_metrics.get("val/acc", math.nan)))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print."""
        known = [accuracy for accuracy in self._accuracies if not math.isnan(accuracy)]
        if not trainer.is_global_zero or not known:
            return
        epochs = len(self._accuracies)
        best = max(known)
        number = trainer.current_epoch - epochs + self._accuracies.index(best) + 1
        seconds = self.timer.train_epoch_s
        print(f"best epoch: {number} of {trainer.current_epoch}, validation accuracy {100 * best:.2f} %")
        print(f"training: {sum(seconds):.1f} s in {len(seconds)} epochs, without validation")
        if self.target_acc is not None:
            count = min(len(seconds), epochs)  # A time limit may end an epoch that the timer does not count.
            reached = first_reached(self._accuracies[:count], seconds[:count], self.target_acc)
            outcome = "not reached" if reached is None else f"reached after {reached:.1f} s of training"
            print(f"{100 * self.target_acc:g} % validation accuracy: {outcome}")
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.best_model_path.endswith(RunFolder.BEST):
                print(f"weights: {callback.best_model_path}")
                print(f"test them: cnn-compare test --ckpt_path={shlex.quote(callback.best_model_path)}")

    def state_dict(self) -> dict[str, list[float]]:
        """The accuracies so far, for the checkpoint."""
        return {"accuracies": self._accuracies}

    def load_state_dict(self, state_dict: dict[str, list[float]]) -> None:
        """Inverse of `state_dict`."""
        self._accuracies = list(state_dict["accuracies"])
