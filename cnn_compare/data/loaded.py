"""Conversion of what a data module's ``load`` returns to the tensors that the program works with."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnn_compare.errors import DataError

IMAGES = "images (N, H, W, 3), (N, 3, H, W), (N, H, W, 1), (N, 1, H, W) or (N, H, W)"
PIXELS = (
    "pixels as uint8, or other numbers from 0 to 1 or from 0 to 255 whose largest is in the upper half of the range"
)


def as_tensors(loaded: Any, num_classes: int, source: str) -> tuple[Tensor, Tensor]:
    """Images and labels in one form, whatever form ``load`` gave them.

    Args:
        loaded: A pair of tensors, NumPy arrays or nested lists. Images are in one of the shapes of ``IMAGES``; where
            ``(N, 3, H, 3)`` can be read in two ways, the channels are last. Grey becomes three equal channels.
        num_classes: Number of classes.
        source: Who loaded it, for messages.

    Returns:
        Images ``(N, H, W, 3)`` uint8, contiguous, and labels ``(N,)`` int64, on the CPU. What has this form already is
        not copied.

    Raises:
        DataError: If the form is another one or ambiguous, there are no images, the numbers of images and labels
            differ, or a label is none of the classes.
    """
    if not isinstance(loaded, (tuple, list)) or len(loaded) != 2:
        size = f" of {len(loaded)}" if isinstance(loaded, (tuple, list)) else ""
        raise DataError(f"{source} returned a {type(loaded).__name__}{size}. Expected: a pair (images, labels).")
    images, labels = _tensor(loaded[0], "images", IMAGES, source), _tensor(loaded[1], "labels", "labels (N,)", source)
    if len(images) != len(labels) or not len(images):
        found = f"{len(images)} images and {len(labels)} labels"
        raise DataError(f"{source} returned {found}. Expected: as many labels as images, and at least one.")
    pixels = _channels_last(_bytes(images, source), source)
    return pixels.contiguous(), _classes(labels, num_classes, source)


def _tensor(values: Any, what: str, expected: str, source: str) -> Tensor:
    """Convert to a tensor on the CPU without gradient; values in an array are not copied."""
    try:
        # Contiguous, because torch takes no reversed arrays such as BGR images read as RGB.
        with warnings.catch_warnings():
            # It warns of arrays that are read-only, as a file mapped into memory is: nothing is written to images.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            array = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    except (TypeError, ValueError) as error:
        found = f"{what} of type {type(values).__name__} that are no array of numbers ({error})"
        raise DataError(f"{source} returned {found}. Expected: {expected}.") from error
    return array.detach().cpu().reshape(array.shape or (1,))


def _channels_last(images: Tensor, source: str) -> Tensor:
    """Convert images to ``(N, H, W, 3)``."""
    pixels = images[..., None] if images.ndim == 3 else images
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3):
        pixels = pixels.permute(0, 2, 3, 1)
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or 0 in pixels.shape:
        raise DataError(f"{source} returned images of {_form(images)}. Expected: {IMAGES}.")
    return pixels.expand(-1, -1, -1, 3)


def _bytes(images: Tensor, source: str) -> Tensor:
    """Convert pixels to uint8."""
    if images.dtype == torch.uint8 or not images.numel():
        return images
    pixels = images.float()
    low, high = (float(bound) for bound in torch.aminmax(pixels))
    if low >= 0 and 0.5 <= high <= 1 and images.is_floating_point():
        pixels = pixels * 255
    # Numbers that reach 16, say, could be of either range, or of a third one.
    elif not (low >= 0 and 128 <= high <= 255):
        found = f"images of {_form(images)} from {low:g} to {high:g}"
        raise DataError(f"{source} returned {found}. Expected: {PIXELS}.")
    return pixels.round().to(torch.uint8)


def _classes(labels: Tensor, num_classes: int, source: str) -> Tensor:
    """Convert labels to int64."""
    expected = f"labels (N,) that are whole numbers from 0 to {num_classes - 1}, one for each of class_names"
    if labels.ndim != 1:
        raise DataError(f"{source} returned labels of {_form(labels)}. Expected: {expected}.")
    whole = labels.long()
    wrong = labels[(whole != labels) | (whole < 0) | (whole >= num_classes)]
    if len(wrong):
        found = f"{len(wrong)} unusable labels such as {wrong[0].item()}"
        raise DataError(f"{source} returned {found}. Expected: {expected}.")
    return whole


def _form(values: Tensor) -> str:
    return f"shape {tuple(values.shape)} and type {str(values.dtype).removeprefix('torch.')}"
