"""Torchvision's networks: the only place that imports torchvision for them."""

from __future__ import annotations

from typing import Any, cast

from torch import nn


def torchvision_model(name: str, num_classes: int, **options: Any) -> Any:
    """Build torchvision's network of that name with fresh weights.

    Args:
        name: One that ``torchvision.models.get_model`` knows.
        num_classes: Width of its last layer.
        **options: Further arguments of its constructor.

    Returns:
        The ``nn.Module``; typed loosely, because torchvision has no types and callers replace its first layers.
    """
    # Torchvision takes about as long to import as torch, because it loads all of torch._dynamo: listing the backbones,
    # or training LeNet, should not wait for it.
    from torchvision import models

    return models.get_model(name, weights=None, num_classes=num_classes, **options)


def converts_input(network: nn.Module) -> bool:
    """Whether a network converts its input from ImageNet's normalisation to mean and deviation 0.5.

    GoogLeNet's and Inception's ImageNet weights were trained on images normalised with 0.5/0.5. These two networks can
    convert images normalised as ImageNet's, and must not convert images that are normalised with 0.5/0.5 already.
    """
    return bool(getattr(network, "transform_input", False))


def set_input_conversion(network: nn.Module, on: bool) -> None:
    """Let a network convert its input, as `converts_input` says, or not; of no effect on one that cannot."""
    if hasattr(network, "transform_input"):
        cast(Any, network).transform_input = on
