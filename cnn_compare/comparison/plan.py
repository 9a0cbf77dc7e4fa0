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
    """One run: a backbone, a seed, the whole configuration, the folder for its artefacts, the recipe's name."""

    backbone: str
    seed: int
    config: Config
    folder: Path
    recipe: str | None = None

    @property
    def name(self) -> str:
        """How messages and tables call it."""
        return f"{self.backbone} seed {self.seed}"


def plan_cells(
    folder: Path, backbones: Sequence[str], seeds: Sequence[int], config: Config, recipe: str | None = None
) -> list[Cell]:
    """One cell for each backbone and seed, differing in nothing else.

    Args:
        folder: The comparison's folder; a cell's is ``<backbone>/seed_<n>`` in it.
        backbones: Names, as `build_backbone` takes them.
        seeds: Values for ``seed_everything``.
        config: Resolved ``trainer``, ``model`` and ``data`` sections.
        recipe: Name of the recipe that they come from.

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
        Cell(name, seed, _cell_config(config, name, seed), folder / path_name(name) / f"seed_{seed}", recipe)
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
