"""What a data module of one's own may load, and what is refused in one line."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from cnn_compare import ImageDataModule
from cnn_compare.errors import DataError, InvalidValueError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
PIXELS[0, 0, 0] = (0, 128, 255)
GREY = PIXELS[..., 0]
THREE_GREY = np.repeat(GREY[..., None], 3, axis=3)
LABELS = np.arange(12) % 2


class Own(ImageDataModule):
    """Loads what it is given."""

    class_names = ("cat", "dog")
    usual_val_size = 4

    def __init__(self, images, labels=LABELS):
        super().__init__(batch_size=4)
        self.loaded = images, labels

    def load(self, split):
        return self.loaded


def loaded(data: ImageDataModule) -> tuple[np.ndarray, np.ndarray]:
    """The test images ``(N, H, W, 3)`` and labels, in the order of the data."""
    data.setup("test")
    images, labels, _ = zip(*data.test_dataloader(), strict=True)
    return torch.cat(images).permute(0, 2, 3, 1).numpy(), torch.cat(labels).numpy()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.from_numpy(PIXELS), PIXELS),
        (PIXELS, PIXELS),
        (PIXELS.tolist(), PIXELS),
        (PIXELS[..., ::-1], PIXELS[..., ::-1]),
        (PIXELS.transpose(0, 3, 1, 2), PIXELS),
        (torch.from_numpy(PIXELS).permute(0, 3, 1, 2), PIXELS),
        (PIXELS / 255, PIXELS),
        ((PIXELS / 255).astype(np.float32).transpose(0, 3, 1, 2), PIXELS),
        (PIXELS.astype(np.float64), PIXELS),
        (PIXELS.astype(np.int64), PIXELS),
        (PIXELS.astype(np.uint16), PIXELS),
        (GREY, THREE_GREY),
        (GREY[..., None], THREE_GREY),
        (GREY[:, None], THREE_GREY),
        (torch.tensor(GREY / 255, requires_grad=True), THREE_GREY),
        (PIXELS[:, :3, :3], PIXELS[:, :3, :3]),
    ],
)
def test_images_in_every_usual_form_give_the_same_pixels(images, expected):
    pixels, labels = loaded(Own(images))
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("labels", [LABELS.tolist(), LABELS.astype(np.int8), LABELS.astype(float), LABELS == 1])
def test_labels_of_every_numeric_type_give_the_same_classes(labels):
    found = loaded(Own(PIXELS, labels))[1]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, LABELS)


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (PIXELS * (16 / 255), LABELS, "images of shape (12, 5, 4, 3) and type float64 from 0 to 16"),
        (PIXELS / 127.5 - 1, LABELS, "from -1 to 1"),
        (PIXELS.astype(np.int64) * 2, LABELS, "from 0 to 510"),
        (np.full(PIXELS.shape, np.nan), LABELS, "from nan to nan"),
        (np.zeros((12, 5, 4, 4), np.uint8), LABELS, "images of shape (12, 5, 4, 4) and type uint8"),
        (np.zeros((12, 60), np.uint8), LABELS, "images of shape (12, 60)"),
        (np.zeros((12, 0, 4, 3), np.uint8), LABELS, "images of shape (12, 0, 4, 3)"),
        (["a.png"] * 12, LABELS, "images of type list that are no array of numbers"),
        (PIXELS[:11], LABELS, "11 images and 12 labels"),
        (PIXELS[:0], LABELS[:0], "0 images and 0 labels"),
        (PIXELS, LABELS + 1, "6 unusable labels such as 2. Expected: labels (N,) that are whole numbers from 0 to 1"),
        (PIXELS, LABELS - 1, "6 unusable labels such as -1"),
        (PIXELS, LABELS / 2, "6 unusable labels such as 0.5"),
        (PIXELS, np.eye(2)[LABELS], "labels of shape (12, 2) and type float64"),
        (PIXELS, ["cat", "dog"] * 6, "labels of type list that are no array of numbers"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_form_before_training(images, labels, told):
    for stage in ("fit", "test"):
        with pytest.raises(DataError, match=re.escape(told)) as caught:
            Own(images, labels).setup(stage)
        split = "test" if stage == "test" else "train"
        assert str(caught.value).startswith(f'Own.load("{split}") returned ')
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("result", "told"), [(None, "a NoneType"), ((PIXELS,), "a tuple of 1"), (PIXELS, "a ndarray")])
def test_load_must_return_a_pair(result, told):
    data = Own(None)
    data.loaded = result
    with pytest.raises(DataError, match=rf"returned {told}\. Expected: a pair"):
        data.setup("fit")


def test_a_data_module_without_class_names_is_told_so():
    class Nameless(ImageDataModule):
        pass

    with pytest.raises(InvalidValueError, match="a data module with class_names, and is 'Nameless'"):
        Nameless().setup("fit")
