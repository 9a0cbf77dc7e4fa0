from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_compare import ClassifierModule, DigitsDataModule
from cnn_compare.callbacks import ConfusionFigures
from cnn_compare.callbacks.confusion_figures import (
    BAR,
    CELL,
    DARKEST,
    GAP,
    LINE,
    MOST_CLASSES,
    NAME_LENGTH,
    _by_class,
    _confusion,
    _labels,
)
from cnn_compare.formatting import shorten


def test_a_test_leaves_confusion_and_classes_as_pictures(make_trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer = make_trainer(logger=logger, callbacks=[ConfusionFigures()])
    trainer.test(ClassifierModule("lenet"), DigitsDataModule(), verbose=False)
    logger.experiment.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["test/confusion", "test/by_class"]
    for tag in ("test/confusion", "test/by_class"):
        (event,) = events.Images(tag)
        pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert pixels.std() > 10


def test_a_training_without_a_test_or_without_tensorboard_leaves_none(make_trainer, tmp_path):
    torch.manual_seed(0)
    module, data = ClassifierModule("lenet"), DigitsDataModule(train_subset=100)
    make_trainer(callbacks=[ConfusionFigures()]).fit(module, data)
    make_trainer(callbacks=[ConfusionFigures()]).test(module, data, verbose=False)
    assert not list(tmp_path.rglob("events*"))


@pytest.mark.parametrize("classes", [31, 1000])
def test_pictures_of_many_classes_are_no_larger_and_have_no_text(classes):
    shares = np.eye(classes) * 100
    shares[7, 7] = 3
    names = ["x" * NAME_LENGTH] * classes
    most, picture = _confusion(np.eye(MOST_CLASSES), names[:MOST_CLASSES]), _confusion(shares, names)
    assert picture.width <= most.width
    assert picture.height <= most.height
    # Off the diagonal of the cells nothing is drawn, neither a figure nor a name.
    side, margin = CELL * MOST_CLASSES, 2 * GAP + 1
    cells = np.asarray(picture)[LINE + GAP : LINE + GAP + side, margin : margin + side]
    far = abs(np.subtract.outer(np.arange(side), np.arange(side))) > 2 * side // classes + 2
    assert (cells[far] == 255).all()


def test_of_many_classes_those_with_the_lowest_accuracy_are_shown():
    shares = np.full(1000, 100.0)
    shares[7] = 3
    picture = np.asarray(_by_class(shares, ["x"] * 1000))
    middles = picture[LINE + GAP + LINE // 2 :: LINE][:MOST_CLASSES]
    bars = (middles == DARKEST).all(axis=2).sum(axis=1)
    assert bars.tolist() == [3 * BAR + 1, *[100 * BAR + 1] * (MOST_CLASSES - 1)]


def test_names_of_eighty_characters_stay_inside_the_picture():
    names = [shorten(name * 20, NAME_LENGTH) for name in ("Cat_", "dog-", "GULL", "Größe Ж")]
    for picture in (_confusion(np.eye(4) * 100, names), _by_class(np.ones(4), names)):
        pixels = np.asarray(picture)
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == 255).all()
    # Each name is drawn in letters, and not as a row of the same box.
    assert len({np.asarray(_labels([letter], LINE, LINE)).tobytes() for letter in "ößЖ"}) == 3
