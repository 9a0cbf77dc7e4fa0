"""Backbones x variants x seeds -> specs: what a comparison is going to run, checked before anything does."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cnn_compare.comparison.spec import Config, RunSpec
from cnn_compare.configs import differences, flatten, merge_config
from cnn_compare.errors import ImageTooSmallError, InvalidValueError
from cnn_compare.results import RunFolder

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
NAME_RULE = "letters, digits, '_', '-' and '.', not beginning with '-' or '.'"
UNDECLARED = {"model.backbone", "own_recipe"}


def plan_runs(
    folder: Path,
    backbones: Sequence[str],
    seeds: Sequence[int],
    config: Config,
    recipe: str | None = None,
    variants: Mapping[str, Config] | None = None,
    resolve: Callable[[Config], Config] = copy.deepcopy,
) -> list[RunSpec]:
    """One spec for each backbone, variant and seed, differing in nothing but what is declared.

    A backbone whose configuration is the same in two variants, as where it has no recipe of its own, runs once.

    Args:
        folder: The comparison's folder; a spec's is ``<backbone>/seed_<n>`` or ``<backbone>+<variant>/seed_<n>`` in it.
        backbones: Names, as `build_backbone` takes them.
        seeds: Values for ``seed_everything``.
        config: Resolved ``trainer``, ``model`` and ``data`` sections.
        recipe: Name of the recipe that they come from.
        variants: What each changes in ``config``; None: nothing is to vary.
        resolve: Completes and checks a configuration that has been changed.

    Raises:
        InvalidValueError: If there is no backbone or seed, one is given twice, a seed is out of range, or a variant
            has an unusable name or changes what a comparison varies by itself.
        UnknownBackboneError: If a backbone does not exist.
        ImageTooSmallError: If the images are too small for a backbone.
    """
    from cnn_compare.backbones import find_backbone  # Brings torch: see `start_server`.

    for option, values in (("--backbones", backbones), ("--seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise InvalidValueError(option, list(values), "a list of at least one, each different from the others")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
        raise InvalidValueError("--seeds", wrong[0], "from 0 to 4294967295")
    for name, changes in (variants or {}).items():
        if not re.fullmatch(NAME, name):
            raise InvalidValueError("a name in --variants", name, NAME_RULE)
        if taken := {"seed_everything", "model.backbone"} & set(flatten(changes)):
            raise InvalidValueError(f"--variants.{name}", sorted(taken)[0], "without what --backbones and --seeds vary")
    specs = []
    for backbone in backbones:
        entry = find_backbone(backbone)
        planned: list[Config] = []
        for variant, changes in variants.items() if variants else [(None, {})]:
            refined = merge_config(config, changes)
            own = entry.recipe_changes if refined.get("own_recipe") else {}
            resolved = resolve(merge_config(refined, own)) if changes or own else copy.deepcopy(config)
            resolved["model"]["backbone"] = backbone
            stem, image_size = resolved["model"]["stem"], resolved["data"]["init_args"].get("image_size")
            if image_size is not None and image_size < entry.min_size(stem):
                raise ImageTooSmallError(backbone, stem, entry.min_size(stem), image_size)
            what_runs = {key: value for key, value in resolved.items() if key != "own_recipe"}
            if what_runs in planned:
                continue
            planned.append(what_runs)
            declared = {
                name: new for name, (_, new) in differences([config, resolved]).items() if name not in UNDECLARED
            }
            run_folder = folder / (path_name(backbone) + (f"+{variant}" if variant else ""))
            specs += [
                RunSpec(
                    backbone,
                    seed,
                    {"seed_everything": seed, **resolved},
                    RunFolder(run_folder / f"seed_{seed}"),
                    recipe,
                    variant,
                    declared,
                )
                for seed in seeds
            ]
    return specs


def path_name(backbone: str) -> str:
    """A backbone's name as the name of one folder: ``timm/resnet26`` becomes ``timm_resnet26``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", backbone).lstrip(".")
