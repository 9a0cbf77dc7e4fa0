"""A comparison in one call: plan, run, and record what was controlled."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.comparison.lock import comparison_lock
from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.comparison.runner import run_all
from cnn_compare.comparison.spec import Config, RunSpec
from cnn_compare.configs import differences
from cnn_compare.data import ImageDataModule
from cnn_compare.errors import ComparisonExistsError, InvalidValueError
from cnn_compare.experiment import resolve_config
from cnn_compare.files import read_json, write_json
from cnn_compare.results import MANIFEST, RunResult

MANIFEST_SCHEMA = 1
OnExisting = Literal["resume", "error", "overwrite"]


def compare(
    name: str,
    backbones: Sequence[str],
    seeds: Sequence[int] = (0,),
    on_existing: OnExisting = "resume",
    log_dir: str = "lightning_logs",
    recipe: str | Path | None = None,
    trainer: Config | None = None,
    model: Config | None = None,
    data: Config | ImageDataModule | None = None,
    target_acc: float | None = None,
    own_recipe: bool = False,
    # Bare dicts: into a dict[str, Any], jsonargparse would write every default of a class that it names.
    variants: dict[str, dict] | None = None,  # type: ignore[type-arg]
    published: dict | None = None,  # type: ignore[type-arg]
    retries: int = 0,
    executor: Executor | None = None,
) -> Path:
    """Train every backbone with every seed under one recipe, and keep all results.

    A run that fails is recorded with its reason, and the others go on. The same call again repeats no finished run,
    and resumes an interrupted one from its last checkpoint.

    Args:
        name: Of the comparison: its folder is ``<log_dir>/<name>``.
        backbones: Names, as `build_backbone` takes them.
        seeds: Each backbone is trained once with each.
        on_existing: What to do about a comparison of that name.
        log_dir: Folder of all logs.
        recipe: A YAML file of settings; the arguments below take precedence.
        trainer: Arguments of Lightning's ``Trainer``.
        model: Arguments of `ClassifierModule`, without ``backbone``.
        data: An `ImageDataModule`, or its ``class_path`` and ``init_args``; CIFAR-10 by default.
        target_acc: End each run once its validation accuracy reaches this share, and record when.
        own_recipe: Let a backbone's own recipe take the place of ``recipes/modern.yaml``'s settings.
        variants: Train every backbone in each of these ways: a name, and what it changes of the options above, such as
            ``{published: {}, cifar: {model: {stem: cifar}}, own: {own_recipe: true}}``. The report shows what differs.
        published: Figures for the report to show beside the results: ``source``, ``conditions`` and ``figures``, as in
            ``configs/published/report_2023.yaml``.
        retries: How often a run that fails is begun again, from its last checkpoint.
        executor: Where the runs take place; None: on this machine, one after the other.

    Returns:
        The comparison's folder: a folder a run, and ``manifest.json``.

    Raises:
        UsageError: If the request cannot be carried out; nothing has been run or changed then.
    """
    _refuse_objects(backbones)
    settings = {"trainer": trainer, "model": model, "data": _data_config(data), "target_acc": target_acc}
    config = resolve_config({**settings, "own_recipe": own_recipe or None}, recipe)
    recipe_name = None if recipe is None else Path(recipe).stem
    comparison = Comparison(name, backbones, seeds, config, recipe_name, variants or {}, published, log_dir)
    return run_comparison(comparison, plan_runs(comparison), executor or LocalExecutor(), on_existing, retries)


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
    on_existing: OnExisting = "resume",
    retries: int = 0,
) -> Path:
    """Run the ``specs`` that `plan_runs` made of a comparison, and write its manifest; otherwise as `compare`."""
    if retries < 0:
        raise InvalidValueError("retries", retries, "0 or more")
    with comparison_lock(comparison.folder):
        before = _prepare_folder(comparison, on_existing)
        manifest: Config = {
            "schema": MANIFEST_SCHEMA,
            "name": comparison.name,
            "recipe": comparison.recipe,
            "backbones": list(dict.fromkeys([*before.get("backbones", []), *comparison.backbones])),
            "seeds": list(dict.fromkeys([*before.get("seeds", []), *comparison.seeds])),
            "variants": {**before.get("variants", {}), **comparison.variants},
            "published": comparison.published or before.get("published"),
            "config": _without_backbone(comparison.config),
            "varied": differences([spec.config for spec in specs]),
            "machine": {"system": platform.platform(), "cpu_count": os.cpu_count()},
        }
        write_json(comparison.folder / MANIFEST, manifest)
        results = run_all(specs, executor, retries)
        write_json(comparison.folder / MANIFEST, {**manifest, "controlled": _controlled(results)})
    return comparison.folder


def _prepare_folder(comparison: Comparison, on_existing: OnExisting) -> Config:
    """The manifest of the comparison to be resumed; empty for a new one.

    Raises:
        ComparisonExistsError: If the folder holds something that is not to be resumed or deleted.
    """
    folder = comparison.folder
    if not folder.exists() or not any(folder.iterdir()):
        return {}
    try:
        before: Config = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        raise ComparisonExistsError(folder, f", and holds no comparison (no readable {MANIFEST})") from None
    if on_existing == "error":
        raise ComparisonExistsError(folder, "")
    if on_existing == "overwrite":
        shutil.rmtree(folder)
        return {}
    # Resolved again, because an older version may have known fewer settings.
    was, now = _without_backbone(resolve_config(before.get("config", {}))), _without_backbone(comparison.config)
    for name in before.get("variants", {}).keys() & comparison.variants.keys():
        was[name], now[name] = before["variants"][name], comparison.variants[name]
    if changed := differences([was, now]):
        setting, (old, new) = next(iter(changed.items()))
        raise ComparisonExistsError(folder, f" with another configuration ({setting} is {old!r} there and {new!r} now)")
    return before


def _without_backbone(config: Config) -> Config:
    """A configuration without the backbone, which is a run's own."""
    return {**config, "model": {name: value for name, value in config["model"].items() if name != "backbone"}}


def _controlled(results: Sequence[RunResult]) -> dict[str, bool]:
    """What was the same in all finished runs, by their own records."""
    finished = [result for result in results if result.status == "finished"]
    fingerprints_by_seed: dict[int, set[str | None]] = {}
    for result in finished:
        fingerprints_by_seed.setdefault(result.seed, set()).add(result.data_fingerprint)
    return {
        "data": all(len(fingerprints) == 1 for fingerprints in fingerprints_by_seed.values()),
        "device": len({result.device for result in finished}) <= 1,
        "precision": len({result.precision for result in finished}) <= 1,
        "versions": len({tuple(sorted(result.versions.items())) for result in finished}) <= 1,
    }
