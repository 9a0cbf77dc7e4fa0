"""Where a network's head begins: what turns its features into logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cnn_compare.errors import InvalidValueError


@torch.no_grad()
def find_head(network: nn.Module, name: str, image_size: int, num_classes: int) -> list[nn.Module]:
    """The last layer with a weight a class, and what follows it; auxiliary heads do not belong to it.

    A black image shows in which order the layers are called, which need not be the order in which they were defined.

    Args:
        network: Left as it is.
        name: Of the backbone, for the message.
        image_size: Height and width of the images, in pixels.
        num_classes: Number of classes.

    Raises:
        InvalidValueError: If the last layer with weights has no row a class.
    """
    called: list[nn.Module] = []
    layers = [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(lambda layer, *_: called.append(layer)) for layer in layers]
    modes = [(module, module.training) for module in network.modules()]
    parameter = next(network.parameters(), torch.zeros(0))
    network.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            network.forward(torch.zeros(1, 3, image_size, image_size, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    weighted = [index for index, layer in enumerate(called) if _weight(layer) is not None]
    weight: Any = _weight(called[weighted[-1]]) if weighted else None
    if weight is None or len(weight) != num_classes:
        expected = (
            f"a network whose last layer with weights has a row for each of the {num_classes} classes, for "
            "model.freeze and model.backbone_lr_factor"
        )
        raise InvalidValueError("model.backbone", name, expected, ["model.freeze", "model.backbone_lr_factor"])
    return called[weighted[-1] :]


def _weight(layer: nn.Module) -> torch.Tensor | None:
    """The first parameter of more than one dimension, as linear layers and convolutions have it."""
    return next((each for each in layer.parameters(recurse=False) if each.ndim > 1), None)
