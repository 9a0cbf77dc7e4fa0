"""A network's number of parameters, and its multiply-accumulates for one image.

Counting all backbones takes seconds, so `costs_of` reads costs.json, which `store_costs` writes. Call that after a
change to a graph; a test compares the file with the graphs.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

from cnn_compare.backbones.registry import BackboneEntry, Stem, build_backbone, find_backbone, list_backbones
from cnn_compare.network_state import unchanged

log = logging.getLogger(__name__)

_STORED = Path(__file__).with_name("costs.json")


@dataclass(frozen=True)
class Costs:
    """A backbone's costs at 10 classes.

    Args:
        image_size: The paper's with the imagenet stem, 32 with the cifar stem.
        params: All parameters; those of auxiliary heads too, which only training uses.
        macs: Multiply-accumulates of one image in evaluation.
    """

    image_size: int
    params: int
    macs: int


def count_parameters(network: nn.Module) -> int:
    """The number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(backbone: str | nn.Module, image_size: int, num_classes: int = 10, stem: Stem = "imagenet") -> int:
    """The multiply-accumulates of one image in evaluation, in convolutions and matrix products, as papers count them.

    Args:
        backbone: A name, which is built without allocating memory; or a network, which is not changed.
        image_size: Height and width, in pixels.
        num_classes: Width of the last layer of a named backbone.
        stem: Stem of a named backbone.

    Raises:
        UnknownBackboneError: If there is no such backbone.
    """
    # Imported late: it loads torch's compiler, and to list the backbones nothing is counted.
    from torch.utils.flop_counter import FlopCounterMode

    if isinstance(backbone, str):
        with torch.device("meta"):
            network = build_backbone(backbone, num_classes, stem)
    else:
        network = backbone
    like = next(network.parameters(), torch.zeros(0))
    image = torch.empty(1, 3, image_size, image_size, dtype=like.dtype, device=like.device)
    with unchanged(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval().forward(image)  # Not as it may be compiled.
    return int(counter.get_total_flops()) // 2


def costs_of(backbone: str | BackboneEntry, stem: Stem = "imagenet") -> Costs:
    """A backbone's costs: stored for this package's backbones, counted for others."""
    entry = find_backbone(backbone) if isinstance(backbone, str) else backbone
    # In a process that has not registered ours, another package's backbone may have one of these names.
    if entry.build.__module__.startswith("cnn_compare.backbones.") and entry.name in _stored_costs():
        return Costs(**_stored_costs()[entry.name][stem])
    return _counted(entry, stem)


def describe_backbones(pattern: str = "*") -> list[dict[str, str | int | None]]:
    """Facts and costs of the registered backbones whose name matches, one JSON-ready row each.

    ``params`` and ``macs`` are those of the imagenet stem at 10 classes and ``image_size``. A backbone of another
    package that cannot be built is left out, and a warning says why.
    """
    rows: list[dict[str, str | int | None]] = []
    for entry in list_backbones(pattern):
        facts = {name: getattr(entry, name) for name in ("year", "venue", "paper", "key_idea", "min_image_size")}
        try:
            rows.append({"backbone": entry.name, **facts, **asdict(costs_of(entry))})
        except Exception as error:  # Others' code can raise anything.
            if entry.module.startswith("cnn_compare."):
                raise
            log.warning("%s of %s cannot be built: %s: %s", entry.name, entry.module, type(error).__name__, error)
    return rows


@cache
def _stored_costs() -> dict[str, dict[str, dict[str, int]]]:
    stored: dict[str, dict[str, dict[str, int]]] = json.loads(_STORED.read_text())
    return stored


def _counted(entry: BackboneEntry, stem: Stem) -> Costs:
    image_size = 32 if stem == "cifar" else entry.image_size
    with torch.device("meta"):
        network = entry.build(10, stem)
    return Costs(image_size, count_parameters(network), count_macs(network, image_size))


def store_costs() -> None:
    """Count this package's backbones anew and write costs.json beside this file."""
    stems: tuple[Stem, ...] = ("imagenet", "cifar")
    entries = [entry for entry in list_backbones() if entry.module.startswith("cnn_compare.")]
    counts = {entry.name: {stem: asdict(_counted(entry, stem)) for stem in stems} for entry in entries}
    _STORED.write_text(json.dumps(counts, indent=1) + "\n")
