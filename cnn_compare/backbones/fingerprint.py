"""The identity of a backbone's code, so that a result says which code it is of."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch

from cnn_compare.backbones.registry import Stem, find_backbone


def code_fingerprint(backbone: str, num_classes: int, stem: Stem) -> dict[str, str]:
    """Hashes of a backbone's code: equal where its source file and its graph are equal.

    Args:
        backbone: A name that `find_backbone` takes.
        num_classes: Width of the last layer.
        stem: One that `build_backbone` takes.

    Returns:
        ``file``: of the source of the module that defines it, if it has one; ``graph``: of the network as it prints
        itself, and of the names and shapes of its parameters and buffers.

    Raises:
        UnknownBackboneError: If there is no such backbone.
    """
    entry = find_backbone(backbone)
    with torch.device("meta"):
        network = entry.build(num_classes, stem)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    source = getattr(sys.modules.get(entry.module), "__file__", None)
    hashes = {} if source is None else {"file": _hash(Path(source).read_bytes())}
    return {**hashes, "graph": _hash(f"{network}\n{shapes}".encode())}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
