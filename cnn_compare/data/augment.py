"""Per-image augmentation of whole batches: pure functions of the images and of each image's random numbers.

`draw` makes these numbers, which depend on the seed alone, on no network and no device. All functions keep images in
channels-last memory (`torch.channels_last`), the format in which convolutions are fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cnn_compare.errors import InvalidValueError

Step = Literal["crop", "resized_crop", "flip", "color_jitter", "cutout"]
Word = Literal["none", "flip", "crop_flip", "crop_flip_cutout"]
Augmentation = Word | list[Step]
WORDS: dict[str, tuple[Step, ...]] = {
    "none": (),
    "flip": ("flip",),
    "crop_flip": ("crop", "flip"),
    "crop_flip_cutout": ("crop", "flip", "cutout"),
}
MAX_SHIFT, CUTOUT_SIZE = 4, 16  # pixels
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of `random_boxes`: share of the image's area, and width / height
PIXELS_AT_A_TIME = 2**22  # of `mean_and_std`, 32 MiB as doubles
_FINENESS = 256  # steps from one 8-bit value to the next, to which `mean_and_std` rounds resized pixels
JITTER = 0.4  # largest change of brightness, contrast and saturation


def to_input(
    images: Tensor,
    mean_std: tuple[tuple[float, ...], tuple[float, ...]],
    size: int,
    drawn: Mapping[Step, Tensor] | None = None,
) -> Tensor:
    """What a network gets for stored pixels: the same in training, in a test, and wherever it is used later.

    Args:
        images: ``(B, 3, H, W)`` uint8.
        mean_std: Mean and standard deviation of each channel, for pixels from 0 to 1.
        size: Height and width of the network's input, in pixels.
        drawn: The numbers of each augmentation step, in their order, as `draw` makes them; None: no augmentation.

    Returns:
        ``(B, 3, size, size)`` float32, channels-last.
    """
    numbers = {**(drawn or {})}
    # Last, because it replaces pixels by the mean colour, which is 0 once images are normalised.
    centers = numbers.pop("cutout", None)
    for step, values in numbers.items():
        images = resized_crop(images, values, size) if step == "resized_crop" else _ON_PIXELS[step](images, values)
    inputs = normalize(images, *mean_std)
    return resize(inputs if centers is None else cutout(inputs, centers, CUTOUT_SIZE), size)


def steps_of(augmentation: Augmentation) -> tuple[Step, ...]:
    """The steps of an augmentation, in the order in which they are applied.

    Raises:
        InvalidValueError: If it is no known word or step, a step comes twice, or ``cutout`` is not the last one.
    """
    if isinstance(augmentation, str) and augmentation in WORDS:
        return WORDS[augmentation]
    steps, known = cast(tuple[Step, ...], tuple(augmentation)), get_args(Step)
    if isinstance(augmentation, str) or len({*steps} & {*known}) < len(steps) or "cutout" in steps[:-1]:
        expected = f"one of {', '.join(WORDS)}, or a list of {', '.join(known)}, each at most once and cutout last"
        raise InvalidValueError("data.augmentation", augmentation, expected)
    return steps


def draw(
    generator: np.random.Generator, count: int, steps: Sequence[Step], stored: tuple[int, int], size: int
) -> dict[Step, Tensor]:
    """Random numbers for augmentation, one row an image.

    Args:
        generator: Source of the numbers.
        count: Number of images, N.
        steps: Steps of the augmentation.
        stored: Height and width of the stored images, in pixels.
        size: Height and width that the network takes.

    Returns:
        By step. ``crop`` ``(N, 2)``: row and column in ``0 .. 2 * MAX_SHIFT``, see `translate`; ``flip`` ``(N,)``: 0 or
        1; ``cutout`` ``(N, 2)``: row and column of the centre; ``resized_crop`` ``(N, 4)``: see `random_boxes`;
        ``color_jitter`` ``(N, 3)``: see `color_jitter`. The first three are there for every augmentation, so that an
        image is shifted alike with and without cutout; the others where they are used.
    """
    cutout = (size, size) if "resized_crop" in steps else stored
    limits = [2 * MAX_SHIFT + 1, 2 * MAX_SHIFT + 1, 2, *cutout]
    # In one call, whose numbers runs of the past had.
    table = torch.from_numpy(generator.integers(0, limits, size=(count, len(limits))))
    drawn: dict[Step, Tensor] = {"crop": table[:, :2], "flip": table[:, 2], "cutout": table[:, 3:]}
    # Each of the others has a generator of its own, so that none changes what another one draws.
    for_boxes, for_factors = generator.spawn(2)
    if "resized_crop" in steps:
        drawn["resized_crop"] = torch.from_numpy(random_boxes(for_boxes, count, *stored))
    if "color_jitter" in steps:
        factors = for_factors.uniform(1 - JITTER, 1 + JITTER, (count, 3)).astype(np.float32)
        drawn["color_jitter"] = torch.from_numpy(factors)
    return drawn


def random_boxes(generator: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.int64]:
    """Random parts of images, of the area and aspect that torchvision's ``RandomResizedCrop`` draws.

    Args:
        generator: Source of the numbers.
        count: Number of images, N.
        height: Height of each image, in pixels.
        width: Width of each image, in pixels.

    Returns:
        ``(N, 4)``: top, left, height, width. After ten draws that do not fit into the image, it is the largest part
        in the middle with an allowed aspect.

    Source:
        Szegedy et al. 2014, arXiv:1409.4842, section 6.
    """
    aspect = np.clip(width / height, *ASPECT)
    h, w = min(height, round(width / aspect)), min(width, round(height * aspect))
    boxes = np.tile([(height - h) // 2, (width - w) // 2, h, w], (count, 1))
    without = np.arange(count)
    for _ in range(10):
        areas = height * width * generator.uniform(*AREA, len(without))
        aspects = np.exp(generator.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), len(without)))
        sides = np.rint(np.sqrt([areas / aspects, areas * aspects])).astype(np.int64).T
        fits = ((sides > 0) & (sides <= (height, width))).all(1)
        corners = generator.integers(0, (height, width) - sides[fits] + 1)
        boxes[without[fits]] = np.hstack([corners, sides[fits]])
        without = without[~fits]
    return boxes


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


def resized_crop(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Resize each image's own part to ``(size, size)``, as torchvision's ``resized_crop``: bilinear, antialiased.

    Args:
        images: ``(N, C, H, W)`` uint8.
        boxes: ``(N, 4)`` integers: top, left, height and width of each part.
        size: New height and width, in pixels.

    Returns:
        ``(N, C, size, size)`` uint8, channels-last, on the device of ``images``. On a CPU these are torchvision's own
        numbers; elsewhere they differ by at most one, because torchvision rounds bytes after each axis.
    """
    if images.device.type != "cpu":
        return _resized_crop_at_once(images, boxes, size)
    n, channels, _, _ = images.shape
    resized = torch.empty((n, size, size, channels), dtype=torch.uint8).permute(0, 3, 1, 2)
    # torch's own function for bytes takes one size at a time, and is still several times as fast as floats at once.
    for i, (top, left, height, width) in enumerate(boxes.tolist()):
        part = images[i : i + 1, :, top : top + height, left : left + width]
        resized[i : i + 1] = F.interpolate(part, (size, size), mode="bilinear", antialias=True)
    return resized


def _resized_crop_at_once(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Do as `resized_crop` in a few large operations, for devices that are slow at many small ones, and in floats."""
    n, channels, height, width = images.shape
    top, left, box_height, box_width = boxes.unbind(1)
    lines = images.permute(0, 2, 3, 1).reshape(n * height, width * channels).float()
    lines = _weighted_lines(lines, top, box_height, height, size)
    columns = lines.view(n, size, width, channels).transpose(1, 2).reshape(n * width, size * channels)
    columns = _weighted_lines(columns, left, box_width, width, size)
    pixels = columns.round_().to(torch.uint8).view(n, size, size, channels)
    return pixels.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)


def _weighted_lines(lines: Tensor, start: Tensor, length: Tensor, count: int, size: int) -> Tensor:
    """Resample one axis: each new line is a weighted mean of old ones, with the weights of a triangle around its place.

    Args:
        lines: ``(N * count, L)`` float, the lines of all images.
        start: ``(N,)``, the first line of each image that is used.
        length: ``(N,)``, how many are used.
        count: Lines of an image.
        size: New lines of an image.

    Returns:
        ``(N * size, L)``.
    """
    device = lines.device
    scale = (length / size)[:, None, None]
    reach = scale.clamp(min=1)
    center = start[:, None, None] + scale * (torch.arange(size, device=device)[:, None] + 0.5)
    # As many as the widest triangle can touch; those beyond the part have no weight.
    touched = torch.arange(2 * math.ceil(max(1.0, count / size)) + 1, device=device)
    line = (center - reach - 0.5).ceil() + touched
    weights = (1 - (line + 0.5 - center).abs() / reach).clamp(min=0)
    weights *= (line >= start[:, None, None]) & (line < (start + length)[:, None, None])
    weights /= weights.sum(2, keepdim=True)
    index = line.long().clamp(0, count - 1) + count * torch.arange(len(start), device=device)[:, None, None]
    # A matrix product would multiply mostly zeros: at 128 px it takes twice as long.
    return F.embedding_bag(index.flatten(0, 1), lines, per_sample_weights=weights.flatten(0, 1), mode="sum")


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


def color_jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, then contrast, then saturation, as torchvision's functions of these names.

    Fractions are rounded once, at the end; torchvision cuts them off after each of the three.

    Args:
        images: ``(N, 3, H, W)`` uint8.
        factors: ``(N, 3)`` float: of brightness, contrast and saturation; 1 changes nothing.

    Returns:
        ``(N, 3, H, W)`` uint8, channels-last, on the device of ``images``.
    """
    n, channels, height, width = images.shape
    brightness, contrast, saturation = factors[:, :, None, None].unbind(1)
    to_grey = _grey_weights(images.device)
    pixels = images.permute(0, 2, 3, 1).reshape(n, height * width, channels).float()
    pixels = (pixels * brightness).clamp_(0, 255)
    grey = (pixels.mean(1) @ to_grey)[:, None, None]
    pixels = torch.lerp(grey, pixels, contrast).clamp_(0, 255)
    # Between the grey image and the image: a matrix, because a mean over the three colours of a pixel takes longer.
    mixed = torch.lerp(to_grey[:, None].expand(-1, channels), torch.eye(channels, device=images.device), saturation)
    pixels = (pixels @ mixed).clamp_(0, 255).round_().to(torch.uint8)
    return pixels.view(n, height, width, channels).permute(0, 3, 1, 2)


@lru_cache
def _grey_weights(device: torch.device) -> Tensor:
    """Shares of red, green and blue in grey; kept, because a copy to a GPU would wait for it at every step."""
    return torch.tensor([0.2989, 0.587, 0.114], device=device)


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


# The steps that turn pixels and the numbers drawn for them into pixels of the same size.
_ON_PIXELS: dict[Step, Callable[[Tensor, Tensor], Tensor]] = {
    "crop": partial(translate, max_shift=MAX_SHIFT),
    "flip": flip,
    "color_jitter": color_jitter,
}


def mean_and_std(images: Tensor, subset: Tensor, size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for pixels scaled to 0 .. 1, of images as a network gets them.

    Args:
        images: ``(M, H, W, C)`` uint8; may be larger than memory, because a part of it is read at a time.
        subset: ``(N,)`` integers, the images to take.
        size: Height and width to which they are resized, in pixels.

    Returns:
        Two tuples of one number a channel.

    Raises:
        InvalidValueError: If a channel has the same value everywhere.
    """
    _, height, width, channels = images.shape
    sums = [[0, 0] for _ in range(channels)]
    for part in torch.split(subset, max(1, PIXELS_AT_A_TIME // (max(height * width, size**2) * channels))):
        inputs = resize(images.index_select(0, part).permute(0, 3, 1, 2).double(), size)
        # Whole numbers, and so exact sums: neither the size of the parts nor the machine's rounding matters.
        pixels = inputs.mul(_FINENESS).round_().long().transpose(0, 1).flatten(1)
        found = torch.stack([pixels.sum(1), pixels.square_().sum(1)], 1).tolist()
        sums = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(sums, found, strict=True)]
    count = len(subset) * size**2
    variances = [count * square - total**2 for total, square in sums]
    if not all(variances):
        raise InvalidValueError("data.normalization", "own", "half or imagenet: a colour is the same in all pixels")
    scale = 255 * _FINENESS * count
    return tuple(total / scale for total, _ in sums), tuple(math.sqrt(variance) / scale for variance in variances)


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalise pixels: ``(pixel / 255 - mean) / std`` for each channel.

    Args:
        images: ``(N, C, H, W)``, uint8.
        mean: One value a channel, for pixels scaled to 0 .. 1.
        std: One value a channel, likewise.

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
    """Resize images to ``(size, size)``: bilinear, with antialiasing along the axes that shrink.

    Args:
        images: ``(N, C, H, W)`` float.
        size: New height and width, in pixels.

    Returns:
        ``(N, C, size, size)``; ``images`` itself if it has that size.
    """
    if images.shape[2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=max(images.shape[2:]) > size)
