"""Random search: the same trials for every network, of which validation chooses; only what it chose is tested."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import yaml

from cnn_compare.comparison.existing import require_names
from cnn_compare.comparison.plan import BY_BACKBONE, Comparison, plan_runs
from cnn_compare.comparison.runner import finished_result, runs_failed
from cnn_compare.comparison.spec import Config
from cnn_compare.configs import find_file, merge_config
from cnn_compare.errors import InvalidValueError, first_line
from cnn_compare.metrics import monitors
from cnn_compare.results import COMMON, SEARCH, RunFolder, RunResult, first_best, read_manifest

RunTrials = Callable[[Comparison], Sequence[RunResult]]
DISTRIBUTIONS = {"uniform": 2, "log_uniform": 2, "choice": None}
"""Distribution -> how many numbers it takes."""


@dataclass(frozen=True)
class Search:
    """Settings to try for each network before the comparison.

    Args:
        space: Dotted name of a setting -> its distribution: ``{log_uniform: [0.001, 1]}``, ``{uniform: [0, 0.3]}`` or
            ``{choice: [none, crop_flip]}``.
        trials: For each network, at most.
        budget_s: A network begins no further trial once its trials have trained for so many seconds; None: no limit.

    Raises:
        InvalidValueError: If a distribution is unknown or impossible, or a number is out of range.

    Source:
        Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization".
    """

    space: Mapping[str, Mapping[str, Sequence[Any]]]
    trials: int = 8
    budget_s: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.space, Mapping) or not self.space:
            raise InvalidValueError("search", self.space, "settings, each with its distribution")
        for name, distribution in self.space.items():
            _check(name, distribution)
        if self.trials < 2:
            raise InvalidValueError("trials", self.trials, "at least 2")
        if self.budget_s is not None and not self.budget_s > 0:
            raise InvalidValueError("search_budget_s", self.budget_s, "more than 0")

    @property
    def variant(self) -> str:
        """Name of the variant that has each network's best settings."""
        return f"tuned_{self.trials}"

    def settings(self, trial: int, seed: int) -> Config:
        """A trial's settings, the same for every network; more trials keep those before them."""
        generator = np.random.default_rng([seed, trial])
        result: Config = {}
        for name, distribution in self.space.items():
            value: Any = _draw(distribution, generator)
            for key in reversed(name.split(".")):
                value = {key: value}
            result = merge_config(result, value)
        return result


def read_search(space: Mapping[str, Any] | str, trials: int = 8, budget_s: float | None = None) -> Search:
    """A `Search` of settings at hand, or of those in a YAML file.

    Args:
        space: One for `Search`; or a file, by its path or, of the package's own, by its name.
        trials: See `Search`.
        budget_s: See `Search`.

    Raises:
        InvalidValueError: If there is no such file, it cannot be read, or `Search` refuses it.
    """
    content: Any = space
    if isinstance(space, str):
        path = find_file("search", space, "searches")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            expected = f"a YAML file of settings and distributions ({first_line(error)})"
            raise InvalidValueError("search", space, expected) from error
    return Search(_with_numbers(content), trials, budget_s)


def _with_numbers(content: Any) -> Any:
    """Convert numbers such as ``1e-5``, which YAML takes for texts."""
    if isinstance(content, Mapping):
        return {name: _with_numbers(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_with_numbers(value) for value in content]
    with suppress(TypeError, ValueError):
        return float(content) if isinstance(content, str) else content
    return content


def _check(name: str, distribution: object) -> None:
    expected = "one of " + ", ".join(f"{{{known}: [...]}}" for known in DISTRIBUTIONS)
    if not isinstance(distribution, Mapping) or len(distribution) != 1:
        raise InvalidValueError(f"search.{name}", distribution, expected)
    ((kind, values),) = distribution.items()
    if kind not in DISTRIBUTIONS or not isinstance(values, list) or not values:
        raise InvalidValueError(f"search.{name}", distribution, expected)
    if kind == "choice":
        return
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    if not numbers or len(values) != DISTRIBUTIONS[kind] or values[0] >= values[1]:
        raise InvalidValueError(f"search.{name}", values, "two numbers, the lower one first")
    if kind == "log_uniform" and values[0] <= 0:
        raise InvalidValueError(f"search.{name}", values, "two numbers above 0")


def _draw(distribution: Mapping[str, Sequence[Any]], generator: np.random.Generator) -> Any:
    ((kind, values),) = distribution.items()
    if kind == "choice":
        return values[int(generator.integers(len(values)))]
    if kind == "uniform":
        return float(generator.uniform(*values))
    return float(np.exp(generator.uniform(*np.log(values))))


def trials_of(comparison: Comparison, search: Search) -> Comparison:
    """The trials as a comparison of their own, below the folder of the one that they are for.

    Raises:
        InvalidValueError: If the comparison has variants, folds, training subsets or own recipes, or a name is not one
            of its networks or runs (`require_names`).
    """
    if comparison.variants:
        raise InvalidValueError("search", comparison.search, "left out with variants: it makes variants of its own")
    if comparison.folds is not None:
        expected = "left out with folds: every fold would need a search of its own"
        raise InvalidValueError("search", comparison.search, expected)
    if comparison.config["own_recipe"]:
        raise InvalidValueError("own_recipe", True, "false with search: it would replace the settings that are tried")
    if comparison.train_subsets:
        raise InvalidValueError(
            "search", comparison.search, "left out with train_subsets: each would need a search of its own"
        )
    both = [replace(spec.key, variant=name) for spec in plan_runs(comparison) for name in (COMMON, search.variant)]
    require_names(comparison, both, read_manifest(comparison.folder))
    seed = comparison.all_seeds[0]
    variants = {f"trial_{trial}": search.settings(trial, seed) for trial in range(search.trials)}
    return replace(
        comparison,
        name=SEARCH,
        log_dir=str(comparison.folder),
        seeds=[seed],
        variants=variants,
        search=None,
        published=None,
        baseline=None,
        rerun=(),
        drop=(),
        times="never",
        tested=False,
    )


def with_tuned(comparison: Comparison, search: Search, run: RunTrials) -> Comparison:
    """Run the trials that are not finished yet, and have the comparison train each network as before and at its best.

    Args:
        comparison: Without variants.
        search: The settings to try.
        run: Carries out the runs of a comparison that are not finished yet.

    Returns:
        The comparison with two variants: ``common``, its own settings, and `Search.variant`.

    Raises:
        RunError: If every trial of a network failed.
    """
    trials = trials_of(comparison, search)
    settings = trials.variants or {}
    if search.budget_s is None:
        run(trials)
    else:
        _run_within_budget(trials, search.budget_s, run)
    best = {backbone: settings[trial] for backbone, trial in _best(trials).items()}
    variants = {COMMON: {}, search.variant: {BY_BACKBONE: best}}
    return replace(comparison, variants=variants, search={**asdict(search), "variant": search.variant})


def _run_within_budget(trials: Comparison, budget_s: float, run: RunTrials) -> None:
    """One trial of each network after the other, until each has used up its time."""
    spent_s = dict.fromkeys(trials.all_backbones, 0.0)
    for name, settings in (trials.variants or {}).items():
        backbones = [backbone for backbone, seconds in spent_s.items() if seconds < budget_s]
        if not backbones:
            return
        for result in run(replace(trials, backbones=backbones, variants={name: settings})):
            spent_s[result.backbone] += result.value("fit_s") or 0.0
        trials = replace(trials, on_existing="resume")


def _best(trials: Comparison) -> dict[str, str]:
    """Each backbone's trial with the best validation; of equals the first."""
    monitor, specs = trials.config["monitor"], plan_runs(trials)
    best: dict[str, str] = {}
    for backbone in trials.all_backbones:
        of_backbone = {str(spec.key.variant): spec for spec in specs if spec.key.backbone == backbone}
        values = {trial: _validated(of_backbone[trial].folder, monitor) for trial in trials.variants or {}}
        reached = {trial: value for trial, value in values.items() if value is not None}
        if not reached:
            raise runs_failed([spec.key.label for spec in of_backbone.values()], trials.folder)
        best[backbone] = [*reached][first_best([*reached.values()], monitors()[monitor])]
    return best


def _validated(folder: RunFolder, monitor: str) -> float | None:
    """The best epoch's value of what is monitored; None where the run failed or diverged."""
    result = finished_result(folder)
    if result is None or result.status != "finished":
        return None
    with folder.curves.open(encoding="utf-8") as file:
        values = [float(row[monitor]) for row in csv.DictReader(file) if row[monitor]]
    return values[first_best(values, monitors()[monitor])]
