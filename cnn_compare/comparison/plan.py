"""Backbones x seeds -> cells: what a comparison is going to run, checked before anything does."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_compare.errors import ImageTooSmallError, InvalidValueError

Config = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run: a backbone, a seed, the whole configuration, and the folder for its artefacts."""

    backbone: str
    seed: int
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        """How messages and tables call it."""
        return f"{self.backbone} seed {self.seed}"


def plan_cells(folder: Path, backbones: Sequence[str], seeds: Sequence[int], config: Config) -> list[Cell]:
    """One cell for each backbone and seed, differing in nothing else.

    Args:
        folder: The comparison's folder; a cell's is ``<backbone>/seed_<n>`` in it.
        backbones: Names, as `build_backbone` takes them.
        seeds: Values for ``seed_everything``.
        config: Resolved ``trainer``, ``model`` and ``data`` sections.

    Raises:
        InvalidValueError: If there is no backbone or seed, one is given twice, or a seed is out of range.
        UnknownBackboneError: If a backbone does not exist.
        ImageTooSmallError: If the images are too small for a backbone.
    """
    from cnn_compare.backbones import find_backbone  # Brings torch: see `start_server`.

    for option, values in (("--backbones", backbones), ("--seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise InvalidValueError(option, list(values), "a list of at least one, each different from the others")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
        raise InvalidValueError("--seeds", wrong[0], "from 0 to 4294967295")
    stem = config["model"]["stem"]
    image_size = config["data"]["init_args"].get("image_size")
    for name in backbones:
        min_size = find_backbone(name).min_size(stem)
        if image_size is not None and image_size < min_size:
            raise ImageTooSmallError(name, stem, min_size, image_size)
    return [
        Cell(name, seed, _cell_config(config, name, seed), folder / path_name(name) / f"seed_{seed}")
        for name in backbones
        for seed in seeds
    ]


def _cell_config(config: Config, backbone: str, seed: int) -> Config:
    resolved = copy.deepcopy(config)
    resolved["model"]["backbone"] = backbone
    return {"seed_everything": seed, **resolved}


def path_name(backbone: str) -> str:
    """A backbone's name as the name of one folder: ``timm/resnet26`` becomes ``timm_resnet26``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", backbone).lstrip(".")


def differences(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """Dotted names of the settings that are not the same in all configurations, each with its values."""
    flat = [flatten(config) for config in configs]
    names = sorted({name for each in flat for name in each})
    values = {name: [each.get(name) for each in flat] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def flatten(config: Config, prefix: str = "") -> Config:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: Config = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
