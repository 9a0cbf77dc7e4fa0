"""Torchvision's graphs: the one place that imports torchvision for them."""

from __future__ import annotations

from typing import Any


def torchvision_model(name: str, num_classes: int, **options: Any) -> Any:
    """Torchvision's own network of that name, with fresh weights.

    Args:
        name: As ``torchvision.models.get_model`` knows it.
        num_classes: Width of its last layer.
        **options: What else its constructor takes.

    Returns:
        The ``nn.Module``; typed loosely, because torchvision has no types and callers rebuild its stem.
    """
    # Imported here, because torchvision takes about as long to import as torch (it loads all of torch._dynamo):
    # listing the backbones, or training LeNet, should not wait for it.
    from torchvision import models

    return models.get_model(name, weights=None, num_classes=num_classes, **options)
