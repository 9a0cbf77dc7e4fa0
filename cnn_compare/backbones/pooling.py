"""Adaptive average pooling that can be repeated bit for bit on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

# One step for torch.fx, which traces no decision about sizes.
torch.fx.wrap("adaptive_avg_pool")

Size = int | tuple[int | None, ...] | None


def adaptive_avg_pool(maps: Tensor, size: Size) -> Tensor:
    """Compute what torch's function of that name does.

    On CUDA, torch cannot differentiate it in a fixed order of additions, and raises where ``trainer.deterministic``
    asks for one. Maps that have the size already are returned as they are. Others are multiplied with a matrix of
    averages for each axis then, whose sums differ from torch's in the last bits.

    Args:
        maps: ``(N, C, H, W)`` or ``(C, H, W)``.
        size: Height and width of the result, or one number for both; None: as in ``maps``.

    Returns:
        ``(N, C, *size)`` or ``(C, *size)``.
    """
    wanted = size if isinstance(size, tuple) else (size, size)
    height, width = (before if after is None else after for before, after in zip(maps.shape[-2:], wanted, strict=True))
    if maps.shape[-2:] == (height, width):
        return maps
    # To one number, torch takes the mean, which it can differentiate so.
    if maps.is_cuda and (height, width) != (1, 1) and torch.are_deterministic_algorithms_enabled():
        return by_matrices(maps, (height, width))
    return F.adaptive_avg_pool2d(maps, (height, width))


def by_matrices(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Adaptive average pooling as a product, whose gradient is a product too."""
    rows, columns = (_averages(before, after, maps) for before, after in zip(maps.shape[-2:], size, strict=True))
    return rows @ maps @ columns.T


def _averages(before: int, after: int, like: Tensor) -> Tensor:
    """``(after, before)``: the share of each input in each output; the type and device of ``like``."""
    index, place = torch.arange(after, device=like.device)[:, None], torch.arange(before, device=like.device)
    inside = (place >= index * before // after) & (place < -((index + 1) * -before // after))
    return (inside / inside.sum(1, keepdim=True)).to(like.dtype)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """Torch's module of that name, with `adaptive_avg_pool`."""

    def forward(self, maps: Tensor) -> Tensor:
        """Pool ``(N, C, H, W)``."""
        return adaptive_avg_pool(maps, self.output_size)


def make_repeatable(network: nn.Module) -> None:
    """Give the adaptive pooling of any network, in place, the form that can be differentiated in a fixed order."""
    for module in network.modules():
        if type(module) is nn.AdaptiveAvgPool2d:
            module.__class__ = AdaptiveAvgPool2d
