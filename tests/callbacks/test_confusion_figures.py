from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_compare import ClassifierModule, DigitsDataModule
from cnn_compare.callbacks import ConfusionFigures
from cnn_compare.callbacks.confusion_figures import MOST_CLASSES, NAME_LENGTH, _by_class, _confusion
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
def test_pictures_of_many_classes_are_no_larger_and_have_no_text_a_cell(classes):
    shares = np.eye(classes) * 100
    shares[7, 7] = 3
    names = ["x" * NAME_LENGTH] * classes
    most = _confusion(np.eye(MOST_CLASSES), names[:MOST_CLASSES]).get_size_inches()
    figure = _confusion(shares, names)
    np.testing.assert_array_equal(figure.get_size_inches(), most)
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_xticks()) < 20
    by_class = _by_class(shares.diagonal(), [str(index) for index in range(classes)]).axes[0]
    assert len(by_class.patches) == MOST_CLASSES
    assert by_class.get_yticklabels()[0].get_text() == "7"
    assert by_class.patches[0].get_width() == 3


def test_names_of_eighty_characters_stay_inside_the_picture():
    names = [shorten(name * 20, NAME_LENGTH) for name in ("Cat_", "dog-", "GULL", "seal")]
    for figure in (_confusion(np.eye(4) * 100, names), _by_class(np.ones(4), names)):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        for label in figure.axes[0].get_yticklabels():
            assert label.get_window_extent(canvas.get_renderer()).x0 >= 0
