"""Per-image augmentation of whole batches: pure functions of the images and of each image's random numbers.

`Draws` holds these numbers, so that they depend on the seed alone, on no network and no device. All functions keep
images in channels-last memory (`torch.channels_last`), the format in which convolutions are fastest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnn_compare.errors import InvalidValueError

Augmentation = Literal["none", "flip", "crop_flip", "crop_flip_cutout"]
Step = Literal["crop", "flip", "cutout"]
STEPS: dict[Augmentation, tuple[Step, ...]] = {
    "none": (),
    "flip": ("flip",),
    "crop_flip": ("crop", "flip"),
    "crop_flip_cutout": ("crop", "flip", "cutout"),
}
MAX_SHIFT, CUTOUT_SIZE = 4, 16  # pixels


@dataclass(frozen=True)
class Draws:
    """The random numbers of one epoch's augmentation, one row an image.

    All of them are drawn for every augmentation, so that an image is shifted alike with and without cutout.

    Args:
        crop_offsets: ``(N, 2)``, row and column in ``0 .. 2 * MAX_SHIFT``, see `translate`.
        flips: ``(N,)``, 0 or 1, see `flip`.
        cutout_centers: ``(N, 2)``, row and column in ``0 .. image_size - 1``, see `cutout`.
    """

    crop_offsets: Tensor
    flips: Tensor
    cutout_centers: Tensor

    @classmethod
    def make(cls, generator: np.random.Generator, images: int, image_size: int) -> Draws:
        """Draw for a number of images of ``image_size`` pixels."""
        limits = [2 * MAX_SHIFT + 1, 2 * MAX_SHIFT + 1, 2, image_size, image_size]
        # In one call, whose numbers runs of the past had; further augmentations draw after it.
        table = torch.from_numpy(generator.integers(0, limits, size=(images, len(limits))))
        return cls(table[:, :2], table[:, 2], table[:, 3:])

    def __getitem__(self, index: Tensor) -> Draws:
        return self._map(lambda part: part[index])

    def to(self, device: torch.device) -> Draws:
        """The same numbers on a device."""
        return self._map(lambda part: part.to(device, non_blocking=True))

    def table(self) -> Tensor:
        """All numbers, one row an image."""
        return torch.cat([self.crop_offsets, self.flips[:, None], self.cutout_centers], dim=1)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Draws:
        return Draws(function(self.crop_offsets), function(self.flips), function(self.cutout_centers))


def apply_to_pixels(images: Tensor, draws: Draws, augmentation: Augmentation) -> Tensor:
    """The steps that move pixels: crop and flip.

    Args:
        images: ``(N, C, H, W)`` uint8.
        draws: Of these images.
        augmentation: Its steps are applied.

    Returns:
        ``(N, C, H, W)`` uint8.
    """
    steps = STEPS[augmentation]
    if "crop" in steps:
        images = translate(images, draws.crop_offsets, MAX_SHIFT)
    return flip(images, draws.flips) if "flip" in steps else images


def apply_to_inputs(inputs: Tensor, draws: Draws, augmentation: Augmentation) -> Tensor:
    """The step that replaces pixels by the mean colour, which is 0 once images are normalised: cutout.

    Args:
        inputs: ``(N, C, H, W)`` float32, normalised.
        draws: Of these images.
        augmentation: Its steps are applied.

    Returns:
        ``(N, C, H, W)`` float32.
    """
    return cutout(inputs, draws.cutout_centers, CUTOUT_SIZE) if "cutout" in STEPS[augmentation] else inputs


def translate(images: Tensor, offsets: Tensor, max_shift: int) -> Tensor:
    """Shift every image by its own offset and fill with zeros, as padding by ``max_shift`` and cropping back would.

    Args:
        images: ``(N, C, H, W)``, any dtype.
        offsets: ``(N, 2)`` integers, the crop's row and column in the padded image, each in ``0 .. 2 * max_shift``;
            ``max_shift`` is no shift.
        max_shift: Largest shift along each axis, in pixels.

    Returns:
        ``(N, C, H, W)``, a new channels-last tensor with the dtype and device of ``images``.

    Raises:
        InvalidValueError: If ``max_shift`` is negative or not below ``min(H, W)``.

    Source:
        He et al. 2015, arXiv:1512.03385, section 4.2 (pad 4, crop 32).
    """
    n, channels, height, width = images.shape
    if not 0 <= max_shift < min(height, width):
        raise InvalidValueError("max_shift", max_shift, f"from 0 to {min(height, width) - 1}")
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, max_shift, max_shift, max_shift, max_shift)).contiguous()
    image_stride, row_stride, pixel_stride, _ = padded.stride()
    line = width * channels
    # A view of the crops that begin at each element. The pixels and channels of a line stay contiguous, and
    # index_select copies contiguous pieces ten times faster than indexing with brackets does.
    count = max(0, padded.numel() - (height - 1) * row_stride - line + 1)
    crops = padded.as_strided((count, height, line), (1, row_stride, 1))
    first = torch.arange(0, padded.numel(), image_stride, device=images.device)
    starts = first + offsets[:, 0] * row_stride + offsets[:, 1] * pixel_stride
    return crops.index_select(0, starts).view(n, height, width, channels).permute(0, 3, 1, 2)


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror the chosen images left to right.

    Args:
        images: ``(N, C, H, W)`` integers.
        flipped: ``(N,)``, 1 where the image is mirrored, 0 elsewhere.

    Returns:
        ``(N, C, H, W)``, a new tensor with the dtype and device of ``images``.
    """
    # image ^ (image ^ mirrored) is mirrored, and image ^ 0 is the image; ten times faster than torch.where on bytes.
    all_bits = flipped.to(images.dtype).neg()[:, None, None, None]
    return (images ^ images.flip(3)).bitwise_and_(all_bits).bitwise_xor_(images)


def cutout(images: Tensor, centers: Tensor, size: int) -> Tensor:
    """Zero a square around each image's own centre; parts beyond the border are ignored.

    Args:
        images: ``(N, C, H, W)``, normalised: zero is the mean colour.
        centers: ``(N, 2)`` integers, row and column.
        size: Side of the square, in pixels. The centre is the square's pixel ``size // 2``.

    Returns:
        ``(N, C, H, W)``, a new tensor with the dtype and device of ``images``.

    Source:
        DeVries and Taylor 2017, arXiv:1708.04552 (16 pixels for CIFAR-10).
    """
    height, width = images.shape[2:]
    top, left = (centers - size // 2)[:, :, None].unbind(1)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    hit_rows = (rows >= top) & (rows < top + size)
    hit_columns = (columns >= left) & (columns < left + size)
    # A product, because masked_fill does not keep the channels-last format.
    return images * ~(hit_rows[:, :, None] & hit_columns[:, None, :])[:, None]


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalise pixels: ``(pixel / 255 - mean) / std`` for each channel.

    Args:
        images: ``(N, C, H, W)``, uint8.
        mean: One value a channel, for pixels scaled to 0 .. 1.
        std: As ``mean``.

    Returns:
        ``(N, C, H, W)`` float32, channels-last, on the device of ``images``.
    """
    n, channels, height, width = images.shape
    scale, shift = _scale_and_shift(mean, std, width, images.device)
    # All pixels of a line in one dimension: arithmetic on a last dimension of size 3 would be twenty times slower.
    lines = images.permute(0, 2, 3, 1).reshape(n, height, width * channels).float()
    lines.mul_(scale).add_(shift)
    return lines.view(n, height, width, channels).permute(0, 3, 1, 2)


@lru_cache
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Factors and summands of a line of pixels, each ``(width * C,)``."""
    constants = torch.tensor([[1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]])
    scale, shift = constants.repeat(1, width).to(device)
    return scale, shift


def resize(images: Tensor, size: int) -> Tensor:
    """Resize square images to ``(size, size)``: bilinear, with antialiasing when they shrink.

    Args:
        images: ``(N, C, H, W)`` float.
        size: New height and width, in pixels.

    Returns:
        ``(N, C, size, size)``; ``images`` itself if it has that size.
    """
    if images.shape[-1] == size == images.shape[-2]:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=size < images.shape[-1])
