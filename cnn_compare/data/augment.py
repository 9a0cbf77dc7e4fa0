"""Per-image augmentation of whole batches: pure functions of the images and of each image's own draws.

The draws come in as tensors, so that they can be made from the seed alone, ahead of any network and on any device.
Everything works in channels-last memory, the order in which convolutions are fastest: the images of a batch arrive
and leave with strides as `torch.channels_last` has them.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn_compare.errors import InvalidValueError


def translate(images: Tensor, offsets: Tensor, max_shift: int) -> Tensor:
    """Shift every image by its own offset, filling with zeros: padding by ``max_shift`` and cropping back.

    Args:
        images: ``(N, C, H, W)``, any dtype.
        offsets: ``(N, 2)`` integers, the crop's row and column in the padded image, each in ``0 .. 2 * max_shift``;
            ``max_shift`` leaves the image where it is.
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
    # A view of the crops that begin at each element; the pixels and channels of a line stay in one run, and
    # index_select copies whole runs, ten times faster than indexing with brackets does.
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
    # image ^ (image ^ mirrored) is mirrored, image ^ 0 the image: a choice ten times faster than torch.where on bytes.
    all_bits = flipped.to(images.dtype).neg()[:, None, None, None]
    return (images ^ images.flip(3)).bitwise_and_(all_bits).bitwise_xor_(images)


def cutout(images: Tensor, centers: Tensor, size: int) -> Tensor:
    """Zero a square around each image's own centre; the part beyond the border is lost.

    Args:
        images: ``(N, C, H, W)``, normalised, so that zero is the mean colour.
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
    # A product, because masked_fill gives up the channels-last order.
    return images * ~(hit_rows[:, :, None] & hit_columns[:, None, :])[:, None]


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Turn stored pixels into the numbers a network sees: ``(pixel / 255 - mean) / std`` for each channel.

    Args:
        images: ``(N, C, H, W)``, uint8.
        mean: One value a channel, of pixels scaled to 0 .. 1.
        std: Likewise.

    Returns:
        ``(N, C, H, W)`` float32, channels-last, on the device of ``images``.
    """
    n, channels, height, width = images.shape
    scale, shift = _scale_and_shift(mean, std, width, images.device)
    # One long row for all pixels of a line: arithmetic on the last dimension of 3 alone would be twenty times slower.
    lines = images.permute(0, 2, 3, 1).reshape(n, height, width * channels).float()
    lines.mul_(scale).add_(shift)
    return lines.view(n, height, width, channels).permute(0, 3, 1, 2)


@lru_cache
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a line of pixels is multiplied by and what is added, each ``(width * C,)``."""
    constants = torch.tensor([[1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]])
    scale, shift = constants.repeat(1, width).to(device)
    return scale, shift


def resize(images: Tensor, size: int) -> Tensor:
    """Scale square images to ``(size, size)``, bilinear, smoothed when they shrink.

    Args:
        images: ``(N, C, H, W)`` float.
        size: New height and width, in pixels.

    Returns:
        ``(N, C, size, size)``; ``images`` itself when it has that size.
    """
    if images.shape[-1] == size == images.shape[-2]:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=size < images.shape[-1])
