from __future__ import annotations

import io

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_compare import ClassifierModule, DigitsDataModule
from cnn_compare.callbacks import ConfusionFigures


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
