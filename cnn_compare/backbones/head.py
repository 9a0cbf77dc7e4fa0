"""The head of a network, which turns its features into logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.autograd.graph import Node
from torch.nn.utils.parametrize import ParametrizationList

from cnn_compare.errors import InvalidValueError
from cnn_compare.network_state import unchanged


def find_head(network: nn.Module, name: str, image_size: int, num_classes: int) -> list[nn.Parameter]:
    """The parameters of the last layer with a weight a class, and of what follows it.

    The graph that autograd records for a black image tells which parameters those are: neither the order in which
    layers were defined nor the modules that they lie in matter. Auxiliary heads do not belong to it.

    Args:
        network: Left as it is.
        name: The backbone's name, for the message.
        image_size: Height and width of the images, in pixels.
        num_classes: Number of classes.

    Raises:
        InvalidValueError: If the last layer with weights has no row a class, or gradients do not reach the image.
    """
    learnable = [each for each in network.parameters() if each.is_floating_point()]
    like = learnable[0] if learnable else torch.zeros(0)
    image = torch.zeros(1, 3, image_size, image_size, dtype=like.dtype, device=like.device, requires_grad=True)
    with unchanged(network), torch.enable_grad():
        network.eval()
        for parameter in learnable:
            parameter.requires_grad_(True)
        # A copy, because some networks normalise their input in place.
        nodes, users = _graph(network.forward(image.clone()))
    from_image = _reached((node for node in nodes if getattr(node, "variable", None) is image), users)
    expected = f"a network whose last layer with weights has a row for each of the {num_classes} classes"
    if not from_image:
        expected = "a network whose logits have a gradient for its image: layers that get none, do not learn anyway"
    head = _head(nodes, from_image)
    if not any(_weighs(each) and num_classes in each.shape for each in head):
        settings = ["model.freeze", "model.backbone_lr_factor"]
        raise InvalidValueError("model.backbone", name, f"{expected}, for {' and '.join(settings)}", settings)
    return head


def train_head_alone(network: nn.Module, head: Sequence[nn.Parameter]) -> None:
    """Put a network into evaluation mode, but for the modules that own parameters of the head and no others."""
    network.eval()
    of_head = {id(each) for each in head}
    for module in network.modules():
        own = any(True for _ in module.parameters(recurse=False))
        if own and all(id(each) in of_head for each in module.parameters()):
            module.training = True
            if isinstance(module, ParametrizationList):
                module.train()  # Spectral norm has its state in a module without parameters.


def _graph(logits: torch.Tensor) -> tuple[list[Node], dict[Node, list[Node]]]:
    """The operations behind logits, from the last one on, and those that use each one's result."""
    nodes = [] if logits.grad_fn is None else [logits.grad_fn]
    users: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:  # It grows meanwhile.
        for used in _inputs(node):
            if used not in users:
                nodes.append(used)
            users.setdefault(used, []).append(node)
    return nodes, users


def _reached(start: Iterable[Node], users: dict[Node, list[Node]]) -> set[Node]:
    """The operations that depend on the results of some."""
    reached = dict.fromkeys(start)
    waiting = [*reached]
    for node in waiting:
        new = [user for user in dict.fromkeys(users[node]) if user not in reached]
        reached |= dict.fromkeys(new)
        waiting += new
    return {*reached}


def _head(nodes: Sequence[Node], from_image: set[Node]) -> list[nn.Parameter]:
    """The parameters of the last operation with weights on each way from the image to the logits, and of later ones."""
    head: dict[nn.Parameter, None] = {}
    waiting = [node for node in nodes[:1] if node in from_image]
    for node in waiting:
        # What does not depend on the image, such as a weight that is normalised first, comes from parameters alone.
        before = [used for used in _inputs(node) if used not in from_image]
        for used in before:
            before += [other for other in _inputs(used) if other not in before]
        own = [used.variable for used in before if hasattr(used, "variable")]
        head |= dict.fromkeys(own)
        if not any(map(_weighs, own)):
            waiting += [used for used in _inputs(node) if used in from_image and used not in waiting]
    return [*head]


def _inputs(node: Node) -> list[Node]:
    return [used for used, _ in node.next_functions if used is not None]


def _weighs(parameter: torch.Tensor) -> bool:
    """Whether a parameter is a matrix or kernel, and no scale or bias of any shape, such as (1, 1) or (1, classes)."""
    return parameter.numel() > max(parameter.shape, default=1) or (parameter.ndim == 2 and len(parameter) > 1)
