"""Torchvision's networks: the only place that imports torchvision for them."""

from __future__ import annotations

from typing import Any

from torch import nn


def torchvision_model(name: str, num_classes: int, **options: Any) -> Any:
    """Build torchvision's network of that name with fresh weights.

    Args:
        name: As ``torchvision.models.get_model`` knows it.
        num_classes: Width of its last layer.
        **options: Further arguments of its constructor.

    Returns:
        The ``nn.Module``; typed loosely, because torchvision has no types and callers replace its first layers.
    """
    # Torchvision takes about as long to import as torch, because it loads all of torch._dynamo: listing the backbones,
    # or training LeNet, should not wait for it.
    from torchvision import models

    return models.get_model(name, weights=None, num_classes=num_classes, **options)


class InputConversion:
    """A network's conversion of its input from ImageNet's normalisation to mean and deviation 0.5.

    GoogLeNet's and Inception's ImageNet weights were trained on images normalised with 0.5/0.5. These two networks can
    convert images normalised as ImageNet's, and must not convert images that are normalised with 0.5/0.5 already.

    Args:
        network: Any network; one without the conversion ignores ``enabled``.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network: Any = network

    @property
    def enabled(self) -> bool:
        """Whether the network converts its input."""
        return bool(getattr(self._network, "transform_input", False))

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if hasattr(self._network, "transform_input"):
            self._network.transform_input = value
