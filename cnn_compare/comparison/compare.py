"""A comparison in one call: plan, run, and record."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cnn_compare.archive import ARCHIVE
from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.existing import Existing, examine, without_backbone
from cnn_compare.comparison.local import LocalExecutor, require_main_guard
from cnn_compare.comparison.lock import comparison_lock
from cnn_compare.comparison.plan import Comparison, plan_runs, unsuited, until_decided
from cnn_compare.comparison.runner import finished_result, run_all
from cnn_compare.comparison.search import read_search, with_tuned
from cnn_compare.comparison.spec import Config, RunSpec
from cnn_compare.comparison.turns import measure_times_if_needed
from cnn_compare.configs import as_list
from cnn_compare.data import ImageDataModule
from cnn_compare.data.once import reading_once
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import make_data, read_classes, resolve_config
from cnn_compare.files import write_json, write_text
from cnn_compare.results import MANIFEST, SPLITS_FILE, RunResult
from cnn_compare.run_key import RunKey
from cnn_compare.times import Times

MANIFEST_SCHEMA = 2
SETTINGS = ("trainer", "model", "data", "target_acc", "monitor", "patience", "own_recipe", "threads")
"""What a run's configuration consists of."""
RECORDED = ("backbones", "seeds", "variants", "recipe", "published", "baseline", "margin", "looks", "folds", "search")
"""What the manifest keeps of a `Comparison` besides its configuration: what the report needs."""


def compare(
    name: str,
    backbones: Sequence[str] | str,
    *,
    recipe: str | Path | None = None,
    executor: Executor | None = None,
    **options: Any,
) -> Path:
    """Train every backbone with every seed under one recipe, and keep all results.

    A run that fails is recorded with its reason, and the others go on. The same call again repeats no finished run,
    and resumes an interrupted one from its last checkpoint.

    Args:
        name: See `Comparison`.
        backbones: See `Comparison`.
        recipe: A YAML file of settings, or the name of a recipe of the package, such as ``modern``; the options below
            take precedence.
        executor: Where the runs take place; None: on this machine, one a GPU, or without GPUs as many at a time as make
            the comparison end first.
        options: Any other option of `Comparison` but ``seeds_until_decided``, and the settings of every run:
            ``trainer``, arguments of Lightning's ``Trainer``; ``model``, those of `ClassifierModule` without
            ``backbone``; ``data``, an `ImageDataModule` or its ``class_path`` and ``init_args``, CIFAR-10 by default;
            ``target_acc``, ``monitor``, ``patience``, ``own_recipe`` and ``threads`` as for ``cnn-compare fit``.

    Returns:
        The comparison's folder: a folder a run, and ``manifest.json``.

    Raises:
        UsageError: If the request cannot be carried out; nothing has been run or changed then.
        TypeError: If there is no such option.
    """
    require_main_guard()
    if (given := (options.get("model") or {}).get("backbone")) is not None:
        raise InvalidValueError("model.backbone", given, "left out: backbones names what is compared")
    _refuse_objects(as_list(backbones))
    settings = {name: options.pop(name) for name in SETTINGS if name in options}
    recipe_name = None if recipe is None else Path(recipe).stem
    with reading_once():
        config = read_classes(resolve_config({**settings, "data": _data_config(settings.get("data"))}, recipe))
        comparison = Comparison(name, backbones, **options, config=config, recipe=recipe_name)
        if executor is not None and comparison.search is not None:
            raise InvalidValueError("executor", type(executor).__name__, "left out with search, which takes several")
        return carry_out(comparison, lambda: executor or LocalExecutor()).folder


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command.

    Args:
        folder: The comparison's folder.
        results: The results of the planned runs, in their order.
        changed: Whether anything was run, deleted or recorded.
    """

    folder: Path
    results: list[RunResult]
    changed: bool = True

    @property
    def failed(self) -> list[str]:
        """Labels of the runs without an accuracy."""
        return [result.key.label for result in self.results if result.status != "finished"]


def carry_out(
    comparison: Comparison,
    make_executor: Callable[[], Executor],
    undecided: Callable[[Path], int] | None = None,
) -> Outcome:
    """Search settings if that is asked for, and run the comparison, with more seeds until all is decided.

    Args:
        comparison: Its options.
        make_executor: Makes the executor of each stage.
        undecided: How many differences a comparison's folder leaves undecided; needed for ``seeds_until_decided``.
    """
    stages = until_decided(comparison)
    specs = plan_runs(stages[0])  # Wrong options are refused before anything is run.
    if comparison.search is not None:
        search = read_search(comparison.search, comparison.trials, comparison.search_budget_s)
        stages = [with_tuned(comparison, search, lambda trials: run_comparison(trials, make_executor()).results)]
        specs = plan_runs(stages[0])
    outcome = run_comparison(stages[0], make_executor(), specs)
    for stage in [*stages[1:], None]:
        if undecided is None or comparison.seeds_until_decided is None or outcome.failed:
            break
        open_pairs, seeds = undecided(outcome.folder), {result.seed for result in outcome.results}
        _say(f"after {len(seeds)} seeds, {open_pairs} differences are undecided")
        if not open_pairs or stage is None:
            break
        outcome = run_comparison(stage, make_executor())
    return outcome


def _refuse_objects(backbones: Sequence[object]) -> None:
    for backbone in backbones:
        if not isinstance(backbone, str):
            expected = "names, because each run builds its own network: my_nets:MyNet instead of MyNet()"
            raise InvalidValueError("backbones", type(backbone).__name__, expected)


def _data_config(data: object) -> object:
    """The data of a configuration: a data module as its class and arguments."""
    if isinstance(data, ImageDataModule):
        return data.config()
    if data is None or isinstance(data, (Mapping, str)):
        return data
    raise InvalidValueError("data", type(data).__name__, "an ImageDataModule, or class_path and init_args of one")


def run_comparison(comparison: Comparison, executor: Executor, specs: list[RunSpec] | None = None) -> Outcome:
    """Run what is planned and not finished, and write the manifest; ``specs``: those of `plan_runs`, if at hand."""
    specs = specs or plan_runs(comparison)
    executor.check([spec for spec in specs if finished_result(spec.folder) is None])
    with comparison_lock(comparison.folder):
        existing = examine(comparison, specs)
        before = existing.manifest
        record = _record(comparison, before)
        changed = (
            not existing.recorded
            or bool(existing.remove)
            or len(existing.results) < len(specs)
            or any((before.get(name) or None) != (record[name] or None) for name in RECORDED)
            or (comparison.times == "always" and not Times.path(comparison.folder).exists())
        )
        if not changed:
            _say(_all_finished(comparison.folder, list(existing.results.values())))
        for note in existing.notes:
            _say(note)
        for sentence in unsuited([spec for spec in specs if spec.key not in existing.results]):
            _say(sentence)
        if not changed:
            return Outcome(comparison.folder, [existing.results[spec.key] for spec in specs], changed=False)
        _remove(comparison.folder, existing)
        remaining = [spec for spec in specs if spec.key not in existing.results]
        if remaining:
            # As before, so that a run that was stopped ends in the same bits, and all runs have equal conditions.
            record["threads"] = executor.plan(remaining, before.get("threads"))
            specs = [spec.with_threads(record["threads"]) for spec in specs]
        record["runs"] = _planned_runs(before.get("runs", []), specs, as_list(comparison.drop))
        write_json(comparison.folder / MANIFEST, record)
        write_all_splits(comparison.folder, specs)
        results = run_all(specs, executor, comparison.retries)
        # Before the manifest says that all is done, so that the same command again measures if this one is stopped.
        measure_times_if_needed(comparison.folder, comparison.times, results, executor)
        write_json(comparison.folder / MANIFEST, {**record, "ended": True})
    return Outcome(comparison.folder, results)


def _record(comparison: Comparison, before: Config) -> Config:
    """The manifest: the comparison with what earlier commands have asked for."""
    now = asdict(replace(comparison, backbones=comparison.all_backbones, seeds=comparison.all_seeds))
    for name in ("backbones", "seeds"):
        now[name] = list(dict.fromkeys([*before.get(name, []), *now[name]]))
    now["variants"] = {**before.get("variants", {}), **(comparison.variants or {})}
    for name in ("published", "baseline", "margin", "search"):
        now[name] = before.get(name) if now[name] is None else now[name]
    now["looks"] = list(comparison.looks) or before.get("looks", [])
    kept = {name: now[name] for name in ("name", *RECORDED)}
    config = without_backbone(comparison.config)
    kept["command"] = now["command"] or before.get("command")
    return {"schema": MANIFEST_SCHEMA, **kept, "config": config, "threads": before.get("threads")}


def _remove(folder: Path, existing: Existing) -> None:
    """Delete what is not kept."""
    # From here on the runs lie in the folder, where they were unpacked: the archive would bring back those deleted.
    (folder / ARCHIVE).unlink(missing_ok=True)
    for path in existing.remove:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        Times.path(folder).unlink(missing_ok=True)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def write_all_splits(folder: Path, specs: Sequence[RunSpec]) -> None:
    """Write ``splits.csv`` for data that is the user's own; a variant, repeat or subset of it has a file of its own."""
    seen: list[Config] = []
    written: set[str] = set()
    for spec in specs:
        if spec.config["data"] in seen or spec.key.fold:  # All folds of a repeat are in one file.
            continue
        seen.append(spec.config["data"])
        splits = make_data(spec.config).splits_csv()
        if splits is not None and splits not in written:
            name = Path(SPLITS_FILE)
            key = spec.key
            parts = [name.stem, key.variant, None if key.fold is None else f"seed_{key.seed}"]
            parts += [None if key.train_subset is None else f"train_{key.train_subset}"]
            own_name = "+".join(part for part in parts if part) + name.suffix
            write_text(folder / (own_name if written else name), splits)
            written.add(splits)


def _planned_runs(before: list[Config], specs: Sequence[RunSpec], drop: Sequence[str]) -> list[Config]:
    """The runs of this and earlier commands without dropped backbones, so that a report knows which are missing."""
    planned = [spec.key for spec in specs]
    kept = [key for run in before if (key := RunKey(**run)) not in planned and key.backbone not in drop]
    return [asdict(key) for key in (*kept, *planned)]


def _all_finished(folder: Path, results: Sequence[RunResult]) -> str:
    days = sorted({result.finished_at[:10] for result in results if result.finished_at})
    when = f" ({' to '.join(dict.fromkeys([days[0], days[-1]]))})" if days else ""
    what = f"all {len(results)} runs" if len(results) > 1 else "the run"
    return (
        f"{folder}: {what} finished earlier{when}. Nothing is run, and no file changes. To run "
        "anew: another --log_dir or --name, or --on_existing=overwrite, which deletes what is there."
    )
