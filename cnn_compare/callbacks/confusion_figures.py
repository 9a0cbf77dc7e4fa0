"""Confusion matrix and accuracy by class as pictures in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont

from cnn_compare.formatting import shorten

MOST_CLASSES = 30
"""Up to so many classes, every one has its name, and every cell its figure; the pictures of more are no larger."""
NAME_LENGTH = 24

# Pixels.
CELL, LINE, FONT, GAP, BAR = 34, 24, 12, 8, 3
DARKEST = np.array([8, 48, 107])
"""The colour of 100 %; 0 % is white."""


class ConfusionFigures(Callback):
    """Draws the confusion matrix and the accuracy by class into TensorBoard after a test.

    With Pillow, in hundredths of a second: matplotlib takes as long for them as LeNet for an epoch of 2,000 images.
    """

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the counts of `ClassifierModule`."""
        confusion = getattr(pl_module, "test_confusion", None)
        if confusion is None or not trainer.is_global_zero:
            return
        names = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        names = [shorten(str(name), NAME_LENGTH) for name in names or range(len(confusion))]
        shares = (100 * confusion / confusion.sum(1, keepdim=True).clamp(min=1)).numpy()
        pictures = {"test/confusion": _confusion(shares, names), "test/by_class": _by_class(shares.diagonal(), names)}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for tag, picture in pictures.items():
                    logger.experiment.add_image(tag, np.asarray(picture), trainer.global_step, dataformats="HWC")


def _confusion(shares: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Percent of each class (row) with each answer (column)."""
    each_named = len(names) <= MOST_CLASSES
    side = CELL * min(len(names), MOST_CLASSES)
    labels = _labels(names if each_named else [], CELL, side)
    picture, draw, left, top = _canvas(labels, side, side + labels.width, "rows: class, columns: answer, in %")
    cells = Image.fromarray((255 - shares[..., None] / 100 * (255 - DARKEST)).astype(np.uint8))
    resampling = Image.Resampling.NEAREST if each_named else Image.Resampling.BOX
    picture.paste(cells.resize((side, side), resampling), (left, top))
    picture.paste(labels.rotate(90, expand=True), (left, top + side + GAP))
    if each_named:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.5:
                center = left + (column + 0.5) * CELL, top + (row + 0.5) * CELL
                draw.text(center, f"{share:.0f}", "white" if share > 50 else "black", _font(), "mm")
    return picture


def _by_class(shares: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Accuracy within each class; of many classes, those with the lowest."""
    shown = range(len(names)) if len(names) <= MOST_CLASSES else np.argsort(shares, kind="stable")[:MOST_CLASSES]
    labels = _labels([names[index] for index in shown], LINE, LINE * len(shown))
    title = "test accuracy, in %"
    if len(shown) < len(names):
        title += f": the lowest {len(shown)} of {len(names)} classes"
    picture, draw, left, top = _canvas(labels, 100 * BAR + CELL, labels.height, title)
    for line, index in enumerate(shown):
        end, middle = left + BAR * shares[index], top + (line + 0.5) * LINE
        draw.rectangle((left, middle - LINE / 3, end, middle + LINE / 3), fill=tuple(DARKEST))
        draw.text((end + GAP, middle), f"{shares[index]:.0f}", "black", _font(), "lm")
    return picture


def _labels(names: Sequence[str], line: int, height: int) -> Image.Image:
    """Names one below the other, each in the middle of its line, ending at the right edge."""
    font = _font()
    width = max((int(font.getlength(name)) + 1 for name in names), default=1)
    labels = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(labels)
    for row, name in enumerate(names):
        draw.text((width, (row + 0.5) * line), name, "black", font, "rm")
    return labels


def _canvas(
    labels: Image.Image, width: int, height: int, title: str
) -> tuple[Image.Image, ImageDraw.ImageDraw, int, int]:
    """A picture with a title and, at its left edge, labels; and where the space of this size right of them begins."""
    font = _font()
    left, top = labels.width + 2 * GAP, LINE + GAP
    whole_width = max(left + width, int(font.getlength(title))) + 2 * GAP
    picture = Image.new("RGB", (whole_width, top + height + 2 * GAP), "white")
    picture.paste(labels, (GAP, top))
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, GAP), title, "black", font)
    return picture, draw, left, top


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu's Latin, Greek and Cyrillic letters; Pillow's own font has neither the latter two nor accents."""
    return ImageFont.truetype(str(Path(__file__).with_name("font") / "DejaVuSans.ttf"), FONT)
