"""A comparison in one call: plan, run, and record what was controlled."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.existing import OnExisting, Request, examine, without_backbone
from cnn_compare.comparison.local import LocalExecutor, require_main_guard
from cnn_compare.comparison.lock import comparison_lock
from cnn_compare.comparison.plan import Comparison, plan_runs, repeated, unsuited
from cnn_compare.comparison.runner import finished_result, run_all
from cnn_compare.comparison.search import RunTrials, read_search, with_tuned
from cnn_compare.comparison.spec import Config, RunSpec
from cnn_compare.comparison.turns import When, measure_times_if_needed
from cnn_compare.configs import as_list, differences
from cnn_compare.data import ImageDataModule
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import make_data, resolve_config, with_num_classes
from cnn_compare.files import write_json, write_text
from cnn_compare.results import MANIFEST, SPLITS, RunResult
from cnn_compare.times import Times

MANIFEST_SCHEMA = 1


def compare(
    name: str,
    backbones: Sequence[str] | str,
    seeds: Sequence[int] | int = (0,),
    folds: int | None = None,
    repeats: int | None = None,
    train_subsets: Sequence[int] = (),
    on_existing: OnExisting = "resume",
    log_dir: str = "lightning_logs",
    recipe: str | Path | None = None,
    trainer: Config | None = None,
    model: Config | None = None,
    data: Config | ImageDataModule | None = None,
    target_acc: float | None = None,
    monitor: str | None = None,
    patience: int | None = None,
    own_recipe: bool = False,
    threads: int | None = None,
    # Bare dicts: into a dict[str, Any], jsonargparse would write every default of a class that it names.
    variants: dict[str, dict] | None = None,  # type: ignore[type-arg]
    search: dict | str | None = None,  # type: ignore[type-arg]
    trials: int = 8,
    search_budget_s: float | None = None,
    published: dict | None = None,  # type: ignore[type-arg]
    baseline: str | None = None,
    margin: float | None = None,
    retries: int = 0,
    rerun: Sequence[str] = (),
    drop: Sequence[str] = (),
    times: When = "auto",
    executor: Executor | None = None,
) -> Path:
    """Train every backbone with every seed under one recipe, and keep all results.

    A run that fails is recorded with its reason, and the others go on. The same call again repeats no finished run,
    and resumes an interrupted one from its last checkpoint.

    Args:
        name: Of the comparison: its folder is ``<log_dir>/<name>``.
        backbones: Names, as `build_backbone` takes them, or one name.
        seeds: Each backbone is trained once with each; or one seed.
        folds: Cross-validation: the images, also those of a test set that the data has, are cut into so many folds, the
            same for all backbones, and each is tested by a network that was trained without it, nor with its groups.
        repeats: How often this is done, each time with other folds: seeds 0, 1 and so on.
        train_subsets: Train every backbone with each of these numbers of training images, in ascending order; smaller
            subsets are parts of larger ones. The report compares the largest, and shows how accuracy grows with images.
        on_existing: What to do about a comparison of that name.
        log_dir: Folder of all logs.
        recipe: A YAML file of settings, or the name of a recipe of the package, such as ``modern``; the arguments below
            take precedence.
        trainer: Arguments of Lightning's ``Trainer``.
        model: Arguments of `ClassifierModule`, without ``backbone``.
        data: An `ImageDataModule`, or its ``class_path`` and ``init_args``; CIFAR-10 by default.
        target_acc: End each run once its validation accuracy reaches this share, and record when.
        monitor: What tells the best epoch, whose weights are tested: ``val/acc``, the default, ``val/balanced_acc``,
            ``val/macro_f1`` or ``val/loss``.
        patience: End each run after so many epochs without a better value of it.
        own_recipe: Let a backbone's own recipe take the place of ``recipes/modern.yaml``'s settings.
        threads: Of torch, in each process of a run; None: chosen for the machine, and kept when the comparison goes on.
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
        retries: How often a run that fails is begun again, from its last checkpoint.
        rerun: Runs whose files are deleted, and that are begun anew: ``lenet/0`` is the backbone lenet with seed 0,
            ``lenet+flat/0`` the same in the variant flat.
        drop: Backbones of earlier commands that no longer belong to the comparison: their runs are deleted.
        times: Whether the networks take turns alone on this machine after all runs, to measure the seconds of an epoch:
            ``auto``: if runs disturbed each other or were disturbed, within a tenth of the training's time;
            ``always``: until the ratio between any two is known to 5 %, or for 30 s a network; ``never``.
        executor: Where the runs take place; None: on this machine, one a GPU, or without GPUs as many at a time as make
            the comparison end first.

    Returns:
        The comparison's folder: a folder a run, and ``manifest.json``.

    Raises:
        UsageError: If the request cannot be carried out; nothing has been run or changed then.
    """
    require_main_guard()
    if model and "backbone" in model:
        raise InvalidValueError("model.backbone", model["backbone"], "left out: backbones names what is compared")
    _refuse_objects(as_list(backbones))
    settings = {"trainer": trainer, "model": model, "data": _data_config(data), "own_recipe": own_recipe or None}
    settings |= {"target_acc": target_acc, "monitor": monitor, "patience": patience, "threads": threads}
    config = with_num_classes(resolve_config(settings, recipe))
    recipe_name = None if recipe is None else Path(recipe).stem
    names, numbers = as_list(backbones), repeated(as_list(seeds), folds, repeats)
    question = question_of(baseline, margin)
    comparison = Comparison(
        name,
        names,
        numbers,
        config,
        recipe_name,
        variants or {},
        published,
        question,
        folds=folds,
        train_subsets=train_subsets,
        log_dir=log_dir,
    )
    request = Request(on_existing, as_list(rerun), as_list(drop))
    if search is not None:
        if executor is not None:
            raise InvalidValueError("executor", type(executor).__name__, "left out with search, which takes several")
        run_trials = trial_runner(LocalExecutor, request, retries)
        comparison = with_tuned(comparison, read_search(search, trials, search_budget_s), run_trials)
    specs = plan_runs(comparison)
    return run_comparison(comparison, specs, executor or LocalExecutor(), request, retries, times).folder


def trial_runner(make_executor: Callable[[], Executor], request: Request, retries: int) -> RunTrials:
    """What `with_tuned` runs trials with; ``on_existing`` of the request is about the first ones."""
    on_existing: Iterator[OnExisting] = itertools.chain([request.on_existing], itertools.repeat("resume"))

    def run(trials: Comparison, specs: Sequence[RunSpec]) -> list[RunResult]:
        stage = Request(next(on_existing))
        return run_comparison(trials, specs, make_executor(), stage, retries, times="never").results

    return run


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Args:
        folder: The comparison's.
        results: Of the planned runs, in their order.
        changed: Whether anything was run, deleted or recorded.
    """

    folder: Path
    results: list[RunResult]
    changed: bool = True


def question_of(baseline: str | None, margin: float | None) -> Config:
    """What was given of the two.

    Raises:
        InvalidValueError: If the margin is not positive.
    """
    if margin is not None and not margin > 0:
        raise InvalidValueError("margin", margin, "more than 0 points")
    return {name: value for name, value in (("baseline", baseline), ("margin", margin)) if value is not None}


def _refuse_objects(backbones: Sequence[object]) -> None:
    for backbone in backbones:
        if not isinstance(backbone, str):
            expected = "names, because each run builds its own network: my_nets:MyNet instead of MyNet()"
            raise InvalidValueError("backbones", type(backbone).__name__, expected)


def _data_config(data: object) -> object:
    """What to resolve: a data module as its class and arguments."""
    if isinstance(data, ImageDataModule):
        return data.config()
    if data is None or isinstance(data, (Mapping, str)):
        return data
    raise InvalidValueError("data", type(data).__name__, "an ImageDataModule, or class_path and init_args of one")


def run_comparison(
    comparison: Comparison,
    specs: Sequence[RunSpec],
    executor: Executor,
    request: Request = Request(),  # noqa: B008, it is frozen
    retries: int = 0,
    times: When = "auto",
) -> Outcome:
    """Run the ``specs`` that `plan_runs` made of a comparison, and write its manifest; otherwise as `compare`."""
    if retries < 0:
        raise InvalidValueError("retries", retries, "0 or more")
    executor.check([spec for spec in specs if finished_result(spec.folder) is None])
    with comparison_lock(comparison.folder):
        existing = examine(comparison, specs, request)
        before = existing.manifest
        record: Config = {
            "recipe": comparison.recipe,
            "backbones": list(dict.fromkeys([*before.get("backbones", []), *comparison.backbones])),
            "seeds": list(dict.fromkeys([*before.get("seeds", []), *comparison.seeds])),
            "variants": {**before.get("variants", {}), **comparison.variants},
            "published": comparison.published or before.get("published"),
            "question": {**before.get("question", {}), **comparison.question},
            "looks": list(comparison.looks) or before.get("looks", []),
            "folds": comparison.folds,
            "search": comparison.search or before.get("search"),
            "threads": before.get("threads"),
        }
        changed = (
            not existing.recorded
            or bool(existing.remove)
            or len(existing.results) < len(specs)
            # An older version did not record what was empty.
            or any((before.get(name) or None) != (value or None) for name, value in record.items())
        )
        changed = changed or (times == "always" and not Times.path(comparison.folder).exists())
        if not changed:
            _say(_all_finished(comparison.folder, list(existing.results.values())))
        for note in existing.notes:
            _say(note)
        for sentence in unsuited([spec for spec in specs if spec.name not in existing.results]):
            _say(sentence)
        if not changed:
            return Outcome(comparison.folder, [existing.results[spec.name] for spec in specs], changed=False)
        for path in existing.remove:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            Times.path(comparison.folder).unlink(missing_ok=True)
        remaining = [spec for spec in specs if spec.name not in existing.results]
        if remaining:
            # As before, so that a run that was stopped ends in the same bits, and all runs have equal conditions.
            record["threads"] = executor.plan(remaining, before.get("threads"))
            specs = [spec.with_threads(record["threads"]) for spec in specs]
        manifest: Config = {
            "schema": MANIFEST_SCHEMA,
            "name": comparison.name,
            **record,
            "runs": _planned_runs(before.get("runs", []), specs, request.drop),
            "config": without_backbone(comparison.config),
            "varied": differences([spec.config for spec in specs]),
            "machine": {"system": platform.platform(), "cpu_count": os.cpu_count()},
        }
        write_json(comparison.folder / MANIFEST, manifest)
        write_all_splits(comparison.folder, specs)
        results = run_all(specs, executor, retries)
        # Before the manifest says that all is done, so that the same command again measures if this one is stopped.
        measure_times_if_needed(comparison.folder, times, results, executor)
        write_json(comparison.folder / MANIFEST, {**manifest, "controlled": _controlled(results)})
    return Outcome(comparison.folder, results)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def write_all_splits(folder: Path, specs: Sequence[RunSpec]) -> None:
    """Write ``splits.csv`` for data that is the user's own; a variant, repeat or subset of it has a file of its own."""
    seen: list[Config] = []
    written: set[str] = set()
    for spec in specs:
        if spec.config["data"] in seen or spec.fold:  # All folds of a repeat are in one file.
            continue
        seen.append(spec.config["data"])
        splits = make_data(spec.config).splits_csv()
        if splits is not None and splits not in written:
            name = Path(SPLITS)
            parts = [name.stem, spec.variant, None if spec.fold is None else f"seed_{spec.seed}"]
            parts += [None if spec.train_subset is None else f"train_{spec.train_subset}"]
            own_name = "+".join(part for part in parts if part) + name.suffix
            write_text(folder / (own_name if written else name), splits)
            written.add(splits)


def _planned_runs(before: list[Config], specs: Sequence[RunSpec], drop: Sequence[str]) -> list[Config]:
    """The runs of this and earlier commands without dropped backbones, so that a report knows which are missing."""
    planned = [
        {"backbone": spec.backbone, "variant": spec.variant, "seed": spec.seed}
        | ({} if spec.fold is None else {"fold": spec.fold})
        | ({} if spec.train_subset is None else {"train_subset": spec.train_subset})
        for spec in specs
    ]
    return [*(run for run in before if run not in planned and run["backbone"] not in drop), *planned]


def _all_finished(folder: Path, results: Sequence[RunResult]) -> str:
    days = sorted({result.finished_at[:10] for result in results if result.finished_at})
    when = f" ({' to '.join(dict.fromkeys([days[0], days[-1]]))})" if days else ""
    what = f"all {len(results)} runs" if len(results) > 1 else "the run"
    return (
        f"{folder}: {what} finished earlier{when}. Nothing is run, and no file changes. To run "
        "anew: another --log_dir or --name, or --on_existing=overwrite, which deletes what is there."
    )


def _controlled(results: Sequence[RunResult]) -> dict[str, bool]:
    """What was the same in all finished runs, by their own records."""
    finished = [result for result in results if result.status == "finished"]
    shown: dict[tuple[int, int | None, int | None], set[str | None]] = {}
    for result in finished:
        shown.setdefault((result.seed, result.fold, result.train_subset), set()).add(result.data_fingerprint)
    return {
        "data": all(len(fingerprints) == 1 for fingerprints in shown.values()),
        "device": len({result.device for result in finished}) <= 1,
        "precision": len({result.precision for result in finished}) <= 1,
        "versions": len({tuple(sorted(result.versions.items())) for result in finished}) <= 1,
    }
