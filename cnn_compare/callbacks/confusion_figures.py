"""Confusion matrix and accuracy by class as figures in TensorBoard."""

from __future__ import annotations

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn_compare.formatting import shorten

MOST_CLASSES = 30
"""Up to so many classes, every one has its name, and every cell its figure; the pictures of more are no larger."""
NAME_LENGTH = 24


class ConfusionFigures(Callback):
    """Draws the confusion matrix and the accuracy by class into TensorBoard after a test."""

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the counts of `ClassifierModule`."""
        confusion = getattr(pl_module, "test_confusion", None)
        if confusion is None or not trainer.is_global_zero:
            return
        names = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        names = [shorten(str(name), NAME_LENGTH) for name in names or range(len(confusion))]
        shares = (100 * confusion / confusion.sum(1, keepdim=True).clamp(min=1)).numpy()
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("test/confusion", _confusion(shares, names), trainer.global_step)
                logger.experiment.add_figure("test/by_class", _by_class(shares.diagonal(), names), trainer.global_step)


def _confusion(shares: np.ndarray, names: list[str]) -> Figure:
    """Percent of each class (row) with each answer (column)."""
    side = max(2.0, 0.45 * min(len(names), MOST_CLASSES))  # No narrower than its title.
    figure, axes = _axes(width=side, height=side, names=names, below=names)
    axes.set(xlabel="answer", ylabel="class", title="percent of each class")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    if len(names) <= MOST_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.5:
                color = "white" if share > 50 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=color)
    return figure


def _by_class(shares: np.ndarray, names: list[str]) -> Figure:
    """Accuracy within each class; of many classes, those with the lowest."""
    shown = range(len(names)) if len(names) <= MOST_CLASSES else np.argsort(shares, kind="stable")[:MOST_CLASSES]
    labels = [names[index] for index in shown]
    figure, axes = _axes(width=4.5, height=0.3 * len(labels), names=labels)
    title = "" if len(labels) == len(names) else f"the {len(labels)} of {len(names)} classes with the lowest accuracy"
    axes.set(xlabel="test accuracy %", xlim=(0, 112), title=title)
    axes.bar_label(axes.barh(range(len(labels)), shares[list(shown)]), fmt="%.0f", padding=2)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    return figure


def _axes(width: float, height: float, names: list[str], below: list[str] | None = None) -> tuple[Figure, Axes]:
    """Axes of a size in inches, with room for names to their left and perhaps below.

    The room is estimated: to have matplotlib measure every label took minutes with many classes.
    """
    longest = 0.085 * max(map(len, names))
    left, bottom = 0.5 + longest, 0.6 + (0.75 * longest if below else 0.0)
    whole_width, whole_height = left + width + 0.2, bottom + height + 0.4
    figure = Figure(figsize=(whole_width, whole_height))
    box = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    return figure, figure.add_axes(box)
