"""Heat maps by Grad-CAM, of any backbone.

Source:
    Selvaraju et al. 2017, arXiv:1610.02391; computed by captum (extra ``explain``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cnn_compare.errors import MissingExtraError, RunError
from cnn_compare.network_state import unchanged

# A feature map with fewer places shows nothing of where.
LEAST_SIDE = 4
# Images that are computed at a time, which bounds the memory.
_TOGETHER = 4
# Of the heat map's colour where it is strongest; where there is no heat, the image is seen unchanged.
_OPACITY = 0.65
# Modules whose output is a copy, or a summary, of what the last convolution found.
_NO_FEATURES = ("Pool", "Dropout", "Identity", "Flatten")


def require_captum(field: str) -> None:
    """Check that heat maps can be made; ``field`` is what asks for them.

    Raises:
        MissingExtraError: If captum is not installed.
    """
    if find_spec("captum") is None:
        raise MissingExtraError(field, "explain")


def heat_maps(network: nn.Module, inputs: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Compute where a network finds what speaks for its own answers.

    Args:
        network: Maps inputs to logits ``(B, classes)``. Its activations no longer work in place afterwards.
        inputs: ``(N, 3, H, W)``, prepared for the network.

    Returns:
        Heat maps ``(N, h, w)`` from 0 to 1, each with a largest value of 1 unless nothing speaks for the answer; and
        the classes answered, ``(N,)``.

    Raises:
        RunError: If the network has no feature map.
    """
    from captum.attr import LayerGradCam

    network.eval()
    for module in network.modules():
        if getattr(module, "inplace", False):
            vars(module)["inplace"] = False  # It would overwrite the feature map that is looked at.
    layer = feature_layer(network, inputs[:1])
    found, answers = [], []
    for part in torch.split(inputs, _TOGETHER):
        with torch.no_grad():
            answer = network(part).argmax(1)
        maps = LayerGradCam(network, layer).attribute(part, answer, relu_attributions=True)
        assert isinstance(maps, Tensor), "the layer has one output"
        found.append(maps.detach()[:, 0].float())
        answers.append(answer)
    maps = torch.cat(found)
    largest = maps.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, maps / largest, 0).numpy(), torch.cat(answers).numpy()


def feature_layer(network: nn.Module, example: Tensor) -> nn.Module:
    """The module with the last feature map that the whole answer depends on, of those with at least 4x4 places.

    A branch of a block is none: what goes another way past it would not be seen. Neither is pooling, nor a module that
    is called more than once, because captum could not tell its outputs apart. Where a small image leaves no such map,
    it is a smaller one.

    Args:
        network: One in evaluation mode.
        example: An input ``(1, 3, H, W)``.

    Raises:
        RunError: If there is no feature map with several places.
    """
    outputs: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            outputs.append((module, min(output.shape[2:])))

    with _hooks(network.modules(), note), torch.no_grad():
        network(example)
    calls = Counter(id(module) for module, _ in outputs)
    maps = [
        (module, side)
        for module, side in reversed(outputs)
        if side > 1 and calls[id(module)] == 1 and not any(word in type(module).__name__ for word in _NO_FEATURES)
    ]
    # A stable sort: of those that are large enough, the last one computed stays first.
    maps.sort(key=lambda found: -min(found[1], LEAST_SIDE))
    layer = next((module for module, _ in maps if _carries_all(network, module, example)), None)
    if layer is None:
        name = type(network).__name__
        reason = "no module of it has a feature map that all answers depend on"
        raise RunError(f"{name} cannot be explained, because {reason}.")
    return layer


def _carries_all(network: nn.Module, module: nn.Module, example: Tensor) -> bool:
    """Whether the answer depends on the input through a module's output alone."""
    # Without the module no gradient is left: then nothing goes past it.
    image = example.detach().requires_grad_()
    with (
        unchanged(network),
        _hooks([module], lambda module, inputs, output: output.detach()),
        torch.enable_grad(),
    ):
        network.requires_grad_(False)
        return not network(image).requires_grad


@contextmanager
def _hooks(modules: Iterable[nn.Module], hook: Any) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def blend_heat_map(pixels: NDArray[np.uint8], heat: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """An image under its heat map.

    Args:
        pixels: ``(H, W, 3)``.
        heat: ``(h, w)``, from 0 to 1, of the whole image.
        side: Height and width of the result, in pixels.

    Returns:
        ``(side, side, 3)``.
    """
    import matplotlib as mpl

    enlarged = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    hot = Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    strength = np.asarray(hot).clip(0, 1)
    colours = mpl.colormaps["inferno"](strength)[..., :3] * 255
    opacity = _OPACITY * strength[..., None]
    mixed: NDArray[np.uint8] = (np.asarray(enlarged) * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return mixed
