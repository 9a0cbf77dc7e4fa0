"""A comparison's options, and the runs that it takes, checked before any of them starts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cnn_compare.backbones import find_backbone
from cnn_compare.callbacks import StopWithoutProgress
from cnn_compare.checks import check_settings
from cnn_compare.comparison.jobs import planned_work
from cnn_compare.comparison.local import world_size
from cnn_compare.comparison.spec import Config, RunSpec
from cnn_compare.configs import as_list, differing_settings, flatten, merge_config
from cnn_compare.data.module import SPLIT_SEED
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import apply_own_recipe, read_classes, resolve_config, stop_at
from cnn_compare.formatting import format_list
from cnn_compare.results import RunFolder
from cnn_compare.run_key import RunKey, path_name
from cnn_compare.trusted import names_in, trust

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
BY_BACKBONE = "backbones"
"""In a variant: backbone -> what it changes for that backbone alone."""
OnExisting = Literal["resume", "error", "overwrite"]
When = Literal["auto", "always", "never"]
PASSES_OPTIONS = "a class whose constructor passes **options on to its base class, because of {}"
NAME_RULE = "letters, digits, '_', '-' and '.', not beginning with '-' or '.'"

# What a comparison decides itself, and how.
OWN_SETTINGS = {
    "logger": "each run logs into its own folder",
    "enable_checkpointing": "each run is tested with its best checkpoint, and resumed from its last one",
    "default_root_dir": "log_dir names the folder of all logs",
}


@dataclass(frozen=True)
class Comparison:
    """Every option of a comparison: `compare` and the command make it, and the manifest stores it.

    Args:
        name: Name of the comparison: its folder is ``<log_dir>/<name>``.
        backbones: Names, as `build_backbone` takes them, or one name.
        seeds: Each backbone is trained once with each; or one seed. With ``folds``, each cuts them anew.
        folds: Cross-validation: the images, also those of a test set that the data has, are cut into so many folds, the
            same for all backbones, and each is tested by a network that was trained without it, nor with its groups.
        train_subsets: Train every backbone with each of these numbers of training images, in ascending order; smaller
            subsets are parts of larger ones. The report compares the largest, and shows how accuracy grows with images.
        on_existing: What to do about a comparison of that name.
        log_dir: Folder of all logs.
        variants: Train every backbone in each of these ways: a name, and what it changes of the options above, such as
            ``{published: {}, cifar: {model: {stem: cifar}}, own: {own_recipe: true}}``. The report shows what differs.
        search: Settings to try for every network before the comparison, each with its distribution; or a YAML file of
            them, or the name of one, such as ``sgd``. Validation chooses, and the network is also trained with that.
        trials: How many settings are tried for each network: the same ones for all.
        search_budget_s: A network begins no further trial once its trials have trained for so many seconds; None: no
            limit.
        published: Figures for the report to show beside the results: ``source``, ``conditions`` and ``figures``, as in
            ``configs/published/report_2023.yaml``.
        baseline: The network that each other one is compared with in the report; None: every pair is compared.
        margin: Points of accuracy below which two networks count as the same; None: nothing counts as that.
        seeds_until_decided: Add seeds, up to so many, until every difference is established, or by ``margin`` excluded.
            There are up to three looks at the results, and each gets its part of the 5 % of comparisons that may be
            wrong.
        retries: How often a run that fails is begun again, from its last checkpoint.
        rerun: Runs whose files are deleted, and that are begun anew: ``lenet/0`` is the backbone lenet with seed 0,
            ``lenet+flat/0`` the same in the variant flat.
        drop: Backbones of earlier commands that no longer belong to the comparison: their runs are deleted.
        times: Whether the networks take turns alone on this machine after all runs, to measure the seconds of an epoch:
            ``auto``: if runs disturbed each other or were disturbed, for a tenth of training's time, at least five
            turns each; ``always``: until the ratio between any two is known to 5 %, or for 30 s a network; ``never``.
        config: The settings that all runs have in common, as `resolve_config` and `read_classes` return them.
        recipe: Name of the file that ``config`` comes from, for the report.
        command: The command line, for the report; None from Python.
        looks: Numbers of seeds at which the report is looked at, where it decides whether to go on.
        tested: Whether the networks see the test images; the trials of a search do not.
    """

    name: str
    backbones: Sequence[str] | str
    seeds: Sequence[int] | int = (0,)
    folds: int | None = None
    train_subsets: Sequence[int] = ()
    on_existing: OnExisting = "resume"
    log_dir: str = "lightning_logs"
    # Bare dicts: into a dict[str, Any], jsonargparse would write every default of a class that it names.
    variants: dict[str, dict] | None = None  # type: ignore[type-arg]
    search: dict | str | None = None  # type: ignore[type-arg]
    trials: int = 8
    search_budget_s: float | None = None
    published: dict | None = None  # type: ignore[type-arg]
    baseline: str | None = None
    margin: float | None = None
    seeds_until_decided: int | None = None
    retries: int = 0
    rerun: Sequence[str] = ()
    drop: Sequence[str] = ()
    times: When = "auto"
    config: Config = field(default_factory=dict)
    recipe: str | None = None
    command: str | None = None
    looks: Sequence[int] = ()
    tested: bool = True

    @property
    def all_backbones(self) -> list[str]:
        """The backbones as a list."""
        return as_list(self.backbones)

    @property
    def all_seeds(self) -> list[int]:
        """The seeds as a list; with folds, each cuts new ones, which is a repeat of the cross-validation."""
        return as_list(self.seeds)

    @property
    def folder(self) -> Path:
        """The comparison's folder."""
        return Path(self.log_dir).expanduser() / self.name


def plan_runs(comparison: Comparison) -> list[RunSpec]:
    """One spec for each backbone, variant, training subset, seed and fold; they differ in these and what they declare.

    All networks of the first seed or fold come first, then those of the next: a machine that becomes slower does so for
    all networks alike, and a comparison that is stopped has the same ones of each. Within them, the network that takes
    the longest comes first, so that at the end no core waits for it; one for which that is not known precedes it.

    Two variants that mean the same for a backbone are one run: a backbone without a recipe of its own is not trained
    again in a variant that only sets ``own_recipe``.

    Returns:
        Specs, each with the folder that its key names.

    Raises:
        InvalidValueError: If the name is unusable, there is no backbone or seed, one is given twice, two backbones
            would share a folder, a seed is out of range, a variant has an unusable name or changes backbone or seed,
            data cannot be cut into folds, training subsets do not become larger, or a setting has an impossible value
            or means nothing in a comparison.
        ConfigurationError: If a variant changes a setting that does not exist.
        UnknownBackboneError: If a backbone does not exist.
        UsageError: If the images are too small for a backbone.
    """
    _check(comparison)
    trust(*names_in([comparison.backbones, comparison.config, comparison.variants]))
    networks: list[list[RunSpec]] = []
    variants: dict[str | None, Config] = dict((comparison.variants or {}).items())
    for backbone in comparison.all_backbones:
        planned: list[Config] = []
        for variant, changes in (variants or {None: {}}).items():
            own = changes.get(BY_BACKBONE, {}).get(backbone, {})
            shared = {name: value for name, value in changes.items() if name != BY_BACKBONE}
            config = _network_config(comparison.config, backbone, merge_config(shared, own))
            if config in planned:
                continue
            planned.append(config)
            changed = differing_settings([comparison.config, config])
            declared_changes = {
                name: new for name, (_, new) in changed.items() if name not in ("model.backbone", "own_recipe")
            }
            if comparison.folds is not None:
                _require_no_fold(config)
            if comparison.train_subsets:
                _require_all_images(config)
            # The largest first: the subsets of a network whose cost is not known stay in this order.
            subsets: list[int | None] = [*reversed(comparison.train_subsets)]
            for subset in subsets or [None]:
                networks.append([])
                for seed, fold in itertools.product(comparison.all_seeds, range(comparison.folds or 1)):
                    key = RunKey(backbone, variant, subset, seed, None if comparison.folds is None else fold)
                    run_config: Config = {"seed_everything": seed, **config}
                    cut: Config = {}
                    if subset is not None:
                        cut = {"train_subset": subset}
                    if comparison.folds is not None:
                        cut = {"fold": [fold, comparison.folds], "split_seed": seed}
                    networks[-1].append(
                        RunSpec(
                            key,
                            merge_config(run_config, {"data": {"init_args": cut}}) if cut else run_config,
                            RunFolder(comparison.folder / key.path),
                            comparison.recipe,
                            declared_changes,
                            comparison.tested,
                        )
                    )
    if len(networks) > 1:
        networks.sort(key=lambda runs: planned_work(runs[0]), reverse=True)
    return [spec for of_one_seed in zip(*networks, strict=True) for spec in of_one_seed]


def unsuited(specs: Sequence[RunSpec]) -> list[str]:
    """Sentences about networks that are known to learn nothing with their settings, for before the first run."""
    found: dict[tuple[str, float], dict[str, None]] = {}
    for spec in specs:
        model, least = spec.config["model"], find_backbone(spec.key.backbone).stuck_adam_lr
        optimizer = model["optimizer"]["class_path"].rpartition(".")[2]
        lr = model["optimizer"].get("init_args", {}).get("lr", 0)
        random = not model["pretrained"] and not model["weights"] and model["stem"] == "imagenet"
        if least is not None and random and optimizer in ("Adam", "AdamW") and lr >= least:
            found.setdefault((optimizer, lr), {})[spec.key.network] = None
    return [
        f"{format_list(list(names))}: known to learn nothing from random weights with {optimizer} at a learning rate "
        f"of {lr:g}; a lower one (--model.optimizer.init_args.lr=0.0003) or --own_recipe=true helps."
        for (optimizer, lr), names in found.items()
    ]


def without_fold(config: Config) -> Config:
    """A run's configuration as the comparison has it: without the fold, and the seed that has cut it."""
    if config["data"]["init_args"].get("fold") is None:
        return config
    return merge_config(config, {"data": {"init_args": {"fold": None, "split_seed": SPLIT_SEED}}})


def until_decided(comparison: Comparison) -> list[Comparison]:
    """The comparison with more and more seeds, up to ``seeds_until_decided``; itself alone where that is None.

    Raises:
        InvalidValueError: If that is not more than the number of seeds, or there are fewer than two of these.
    """
    most, seeds = comparison.seeds_until_decided, comparison.all_seeds
    if most is None:
        return [comparison]
    if comparison.folds is not None:
        expected = "left out with folds: more repeats test the same images again"
        raise InvalidValueError("seeds_until_decided", most, expected)
    if comparison.search is not None:
        raise InvalidValueError("search", comparison.search, "left out with seeds_until_decided")
    first = len(seeds)
    if first < 2:
        raise InvalidValueError("seeds", seeds, "at least two: one seed decides nothing about others")
    if most <= first:
        raise InvalidValueError("seeds_until_decided", most, f"more than the {first} seeds to begin with")
    unused = (seed for seed in itertools.count() if seed not in seeds)
    seeds += itertools.islice(unused, most - first)
    looks = sorted({first, (first + most) // 2, most})
    stages = [replace(comparison, seeds=seeds[:look], looks=looks) for look in looks]
    return [stages[0], *(replace(stage, on_existing="resume", rerun=(), drop=()) for stage in stages[1:])]


def _require_no_fold(config: Config) -> None:
    """Check that nothing but the comparison decides what is tested."""
    options = config["data"].get("init_args", {})
    if "fold" not in options:
        raise InvalidValueError("data", config["data"]["class_path"], PASSES_OPTIONS.format("folds"), ["folds"])
    if options["fold"] is not None:
        raise InvalidValueError("data.fold", options["fold"], "left out with folds: every fold is tested")
    if options["split_seed"] != SPLIT_SEED:
        raise InvalidValueError("data.split_seed", options["split_seed"], "left out with folds: seeds cut them")


def _require_all_images(config: Config) -> None:
    """Check that nothing but the comparison decides how many images a network is trained with."""
    options = config["data"].get("init_args", {})
    if "train_subset" not in options:
        expected = PASSES_OPTIONS.format("train_subsets")
        raise InvalidValueError("data", config["data"]["class_path"], expected, ["train_subsets"])
    if options["train_subset"] is not None:
        raise InvalidValueError("data.train_subset", options["train_subset"], "left out with train_subsets")


def _check_train_subsets(comparison: Comparison) -> None:
    subsets, classes = list(comparison.train_subsets), comparison.config["model"]["num_classes"]
    if comparison.folds is not None:
        raise InvalidValueError("train_subsets", subsets, "left out with folds")
    if len(subsets) < 2 or any(larger <= smaller for smaller, larger in itertools.pairwise(subsets)):
        expected = "two numbers of training images or more, each larger than the one before"
        raise InvalidValueError("train_subsets", subsets, expected)
    if subsets[0] < classes:
        raise InvalidValueError("train_subsets", subsets, f"numbers from {classes}, one image a class")


def _check(comparison: Comparison) -> None:
    if not re.fullmatch(NAME, comparison.name):
        raise InvalidValueError("name", comparison.name, NAME_RULE)
    for setting, values in (("backbones", comparison.all_backbones), ("seeds", comparison.all_seeds)):
        if not values or len(set(values)) < len(values):
            raise InvalidValueError(setting, list(values), "a list of at least one, each different from the others")
    require_own_folders(comparison.all_backbones)
    if comparison.margin is not None and not 0 < comparison.margin <= 100:
        raise InvalidValueError("margin", comparison.margin, "more than 0 points, up to 100")
    if comparison.retries < 0:
        raise InvalidValueError("retries", comparison.retries, "0 or more")
    if comparison.folds is not None and comparison.folds < 2:
        raise InvalidValueError("folds", comparison.folds, "at least 2")
    if comparison.train_subsets:
        _check_train_subsets(comparison)
    for seed in comparison.all_seeds:
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InvalidValueError("seeds", seed, "whole numbers from 0 to 4294967295")
    for variant, changes in (comparison.variants or {}).items():
        if not re.fullmatch(NAME, variant):
            raise InvalidValueError("variants", variant, f"named with {NAME_RULE}")
        if unknown := changes.get(BY_BACKBONE, {}).keys() - set(comparison.all_backbones):
            expected = f"one of the compared {', '.join(comparison.all_backbones)}"
            raise InvalidValueError(f"variants.{variant}.{BY_BACKBONE}", min(unknown), expected)
        of_all = [changes, *changes.get(BY_BACKBONE, {}).values()]
        if taken := {"seed_everything", "model.backbone"} & {name for some in of_all for name in flatten(some)}:
            raise InvalidValueError(f"variants.{variant}", min(taken), "without what backbones and seeds vary")


def require_own_folders(backbones: Sequence[str]) -> None:
    """Refuse two backbones whose folders would have the same name.

    Raises:
        InvalidValueError: If there are such; the message names both.
    """
    by_folder: dict[str, str] = {}
    for backbone in backbones:
        first = by_folder.setdefault(path_name(backbone), backbone)
        if first != backbone:
            expected = f"of different folders (two would write to {path_name(backbone)}/: rename or drop one)"
            raise InvalidValueError("backbones", [first, backbone], expected)


def _network_config(shared: Config, backbone: str, changes: Config) -> Config:
    """The configuration of a backbone in one variant, checked."""
    entry = find_backbone(backbone)
    merged = merge_config(merge_config(shared, changes), {"model": {"backbone": backbone}})
    config = apply_own_recipe(merged)
    if changes or config != merged:
        config = resolve_config(config)
    image_size = config["data"]["init_args"].get("image_size")
    if image_size is not None:
        entry.require_image_size(config["model"]["stem"], image_size)
    for setting, instead in OWN_SETTINGS.items():
        if config["trainer"].get(setting) not in (None, True):
            raise InvalidValueError(f"trainer.{setting}", config["trainer"][setting], f"left out: {instead}")
    if config["trainer"].get("fast_dev_run"):
        raise InvalidValueError(
            "trainer.fast_dev_run", config["trainer"]["fast_dev_run"], "false: it stores no results"
        )
    check_settings(config, ("train", "val", "test"))
    # Looked up once for all networks, because a large folder takes seconds to read.
    if [config["data"], config["model"]["num_classes"]] != [shared["data"], shared["model"]["num_classes"]]:
        config = read_classes(config)
    if config["target_acc"] is not None:
        stop_at(config["target_acc"])
    if config["patience"] is not None:
        StopWithoutProgress(config["monitor"], config["patience"])
    world_size(config)
    return config
