"""Drawings of the backbones, made from the networks themselves.

    ```{drawings} lenet resnet18 resnet18/cifar
    ```                           the stem is imagenet unless it is given

A network is built without memory (on torch's meta device) and given one image. Every bar is a stage: all that works on
maps of one size. Its width is the size of the maps, its height the number of channels, both on a logarithmic scale.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from torch import Tensor, nn

from cnn_compare.backbones import BackboneEntry, Stem, build_backbone, costs_of, find_backbone
from cnn_compare.formatting import format_count

# What a block is called, and what is drawn of it: arcs around it, or branches inside it. A block that is not here is
# called by its class.
BLOCKS = {
    "BasicBlock": ("residual block", "shortcut"),
    "OptionABlock": ("residual block", "shortcut"),
    "Bottleneck": ("bottleneck block", "shortcut"),
    "InvertedResidual": ("inverted residual block", "shortcut"),
    "_DenseLayer": ("dense layer", "dense"),
    "_Transition": ("transition", ""),
    **{f"Inception{letter}": ("inception block", "branches") for letter in ("", *"ABCDE")},
}
POOLINGS = nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d
WIDTH, BAR_WIDTH, GAP, LINE = 370, 120, 7, 34


@dataclass
class Stage:
    """All that works on maps of one size, or a fully connected layer.

    Args:
        size: Height of the maps in pixels; 0 for a fully connected layer.
        channels: At the stage's end.
        parts: How many of which layers and blocks.
        glyph: What is drawn of the blocks.
    """

    size: int
    channels: int
    parts: Counter[str] = field(default_factory=Counter)
    glyph: str = ""

    @property
    def heading(self) -> str:
        """Channels and size."""
        return f"{self.channels:,} × {self.size} × {self.size}" if self.size else f"{self.channels:,}"

    @property
    def text(self) -> str:
        """The parts in words."""
        return ", ".join(
            f"{number_in_words(count)} {what}s" if count > 1 else what for what, count in self.parts.items()
        )


def number_in_words(number: int) -> str:
    """Small numbers as words, because ``3 3×3 convolutions`` is hard to read."""
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if number < len(words) else str(number)


def units(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """The layers and blocks that a network is a chain of, and the classes of the blocks among them."""
    found: list[tuple[nn.Module, str]] = []
    for module in network.children():
        kind = type(module).__name__
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        if kind in BLOCKS:
            found.append((module, kind))
        elif isinstance(module, nn.Conv2d | nn.Linear | POOLINGS):
            found.append((module, ""))
        elif isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            found += units(module)
        elif len(layers) == 1:
            found.append((layers[0], ""))
        elif layers:
            found.append((module, kind))
    return found


def stages(network: nn.Module, image_size: int) -> list[Stage]:
    """The stages of a network that is on the meta device, from the input to the logits."""
    found = [Stage(image_size, 3, Counter(["image"]))]

    def note(module: nn.Module, kind: str, output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            found.append(Stage(0, output.shape[-1], Counter(["fully connected"])))
            return
        if output.ndim != 4:
            return
        channels, size = output.shape[1], output.shape[2]
        if isinstance(module, POOLINGS) and size == found[-1].size:
            return  # Adaptive pooling does nothing at the paper's image size.
        if size != found[-1].size or "image" in found[-1].parts:
            found.append(Stage(size, channels))
        stage = found[-1]
        # A dense layer returns its new channels alone, and adds them to those before.
        stage.channels = stage.channels + channels if kind == "_DenseLayer" and stage.parts else channels
        words, glyph = BLOCKS.get(kind, (kind, ""))
        stage.parts[words or layer_in_words(module)] += 1
        stage.glyph = stage.glyph or glyph

    hooks = [
        module.register_forward_hook(lambda module, _, output, kind=kind: note(module, kind, output))
        for module, kind in units(network)
    ]
    with torch.no_grad():
        network.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def layer_in_words(layer: nn.Module) -> str:
    """Such as ``3×3 convolution``."""
    if isinstance(layer, nn.Conv2d):
        height, width = layer.kernel_size
        return f"{height}×{width} convolution"
    return "average pooling" if "Avg" in type(layer).__name__ else "max pooling"


def drawing(name: str, stem: Stem, entry: BackboneEntry) -> str:
    """A network as SVG, which takes its colours from the page."""
    size = costs_of(entry, stem).image_size
    with torch.device("meta"):
        network = build_backbone(name, stem=stem)
    found = stages(network, size)
    largest = math.log2(size) + 1
    bars, top = [], 4.0
    for stage in found:
        height = max(13.0, 5.0 * math.log2(stage.channels + 1) - 8) if stage.size else 13.0
        width = BAR_WIDTH * (math.log2(stage.size) + 1) / largest if stage.size else 8.0
        lines = textwrap.wrap(stage.text, LINE)
        row = max(height, 16.0 + 13 * len(lines))
        left, y = (BAR_WIDTH - width) / 2 + 14, top + (row - height) / 2
        bars.append(f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"/>')
        bars += glyphs(stage.glyph, left, y, width, height)
        x, first = BAR_WIDTH + 42, top + (row - 16 - 13 * len(lines)) / 2 + 12
        bars.append(f'<text class="size" x="{x}" y="{first:.1f}">{stage.heading}</text>')
        bars += [
            f'<text x="{x}" y="{first + 13 * number:.1f}">{escape(line)}</text>' for number, line in enumerate(lines, 1)
        ]
        top += row + GAP
    label = escape(f"{name}: " + "; ".join(f"{stage.heading} {stage.text}" for stage in found), quote=True)
    opening = f'<svg class="network" viewBox="0 0 {WIDTH} {top:.0f}" role="img" aria-label="{label}">'
    return "".join([opening, *bars, "</svg>"])


def glyphs(kind: str, left: float, top: float, width: float, height: float) -> list[str]:
    """What shows a stage's blocks: a shortcut around it, several for dense layers, or branches side by side."""
    right, bottom = left + width, top + height
    if kind == "branches":
        lines = [left + width * part / 4 for part in (1, 2, 3)]
        return [f'<path class="branch" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>' for x in lines]
    reach = {"shortcut": (14,), "dense": (7, 12, 17)}.get(kind, ())
    return [
        f'<path class="shortcut" d="M{right:.1f} {top + 1:.1f}C{right + far} {top + 1:.1f} {right + far} '
        f'{bottom - 1:.1f} {right:.1f} {bottom - 1:.1f}"/>'
        for far in reach
    ]


class Drawings(SphinxDirective):
    """Backbones side by side, each with its idea, its costs and its drawing."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """One figure a backbone."""
        figures = []
        for argument in self.arguments[0].split():
            name, _, suffix = argument.partition("/")
            stem: Stem = "cifar" if suffix == "cifar" else "imagenet"
            entry = find_backbone(name)
            costs = costs_of(entry, stem)
            facts = f"{entry.year}, {entry.depth} layers; {format_count(costs.params)} parameters at 10 classes; "
            facts += f"{format_count(costs.macs)} MACs at {costs.image_size} px"
            title = name if stem == "imagenet" else f"{name}, stem {stem}"
            figures.append(
                f"<figure>{drawing(name, stem, entry)}<figcaption><strong>{title}</strong>: {escape(entry.key_idea)}. "
                f"<small>{facts}.</small></figcaption></figure>"
            )
        return [nodes.raw("", f'<div class="networks">{"".join(figures)}</div>', format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("drawings", Drawings)
    return {"parallel_read_safe": True}
