"""Confusion matrix and accuracy by class as figures in TensorBoard."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from numpy import ndarray, ndenumerate


class ConfusionFigures(Callback):
    """Draws the confusion matrix and the accuracy by class into TensorBoard after a test."""

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the counts of `ClassifierModule`."""
        confusion = getattr(pl_module, "test_confusion", None)
        if confusion is None or not trainer.is_global_zero:
            return
        names = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        names = list(names or map(str, range(len(confusion))))
        shares = (100 * confusion / confusion.sum(1, keepdim=True).clamp(min=1)).numpy()
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("test/confusion", _confusion(shares, names), trainer.global_step)
                logger.experiment.add_figure("test/by_class", _by_class(shares.diagonal(), names), trainer.global_step)


def _confusion(shares: ndarray, names: list[str]) -> Figure:
    """Percent of each class (row) with each answer (column)."""
    figure = Figure(figsize=(3 + 0.45 * len(names), 2.4 + 0.45 * len(names)), layout="constrained")
    axes = figure.add_subplot(xlabel="answer", ylabel="class", title="percent of each class")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (row, column), share in ndenumerate(shares):
        if share < 0.5:
            continue
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color="white" if share > 50 else "black")
    return figure


def _by_class(shares: ndarray, names: list[str]) -> Figure:
    """Accuracy within each class."""
    figure = Figure(figsize=(6, 1.2 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot(xlabel="test accuracy %", xlim=(0, 112))
    axes.bar_label(axes.barh(names, shares), fmt="%.0f", padding=2)
    axes.invert_yaxis()
    return figure
