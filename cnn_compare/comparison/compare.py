"""The comparison as one call: plan, run, and say what was controlled."""

from __future__ import annotations

import copy
import json
import os
import platform
import re
import shutil
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.local import LocalExecutor, world_size
from cnn_compare.comparison.lock import comparison_lock
from cnn_compare.comparison.plan import NAME, NAME_RULE, plan_runs
from cnn_compare.comparison.runner import run_all
from cnn_compare.comparison.spec import Config
from cnn_compare.configs import differences
from cnn_compare.errors import ComparisonExistsError, ConfigurationError, InvalidValueError
from cnn_compare.files import write_text
from cnn_compare.results import RunResult

MANIFEST_SCHEMA = 1

# A variant is a bare dict below: into a dict[str, Any], jsonargparse would write a class's every default.


def compare(
    name: str,
    backbones: Sequence[str],
    seeds: Sequence[int] = (0,),
    on_existing: Literal["resume", "error", "overwrite"] = "resume",
    log_dir: str = "lightning_logs",
    recipe: str | None = None,
    trainer: Config | None = None,
    model: Config | None = None,
    data: Config | None = None,
    target_acc: float | None = None,
    own_recipe: bool = False,
    variants: dict[str, dict] | None = None,  # type: ignore[type-arg]
    run_timeout_s: float | None = None,
    retries: int = 0,
    executor: Literal["local", "ray"] = "local",
    jobs: int = 1,
    ray_address: str | None = None,
    resources_per_run: dict[str, float] | None = None,
) -> Path:
    """Train every backbone with every seed under one recipe, and keep all that came of it.

    A run that fails is recorded with its reason and the others go on. The same call again repeats nothing that is
    finished and continues a half-done run from its last epoch.

    Args:
        name: Of the comparison: its folder is ``<log_dir>/<name>``.
        backbones: Names, as `build_backbone` takes them.
        seeds: Each backbone is trained once with each.
        on_existing: What to do about a comparison of that name.
        log_dir: Folder of all logs.
        recipe: Name of the recipe that the configuration comes from, for the report.
        trainer: Arguments of Lightning's ``Trainer``.
        model: Arguments of `ClassifierModule`, without ``backbone``.
        data: ``class_path`` and ``init_args`` of an `ImageDataModule`; CIFAR-10 by default.
        target_acc: End each run once its validation accuracy reaches this share, and record when.
        own_recipe: Let a backbone's own recipe take the place of ``recipes/modern.yaml``'s settings.
        variants: Train every backbone in each of these ways: a name, and what it changes of the options above, such as
            ``{published: {}, cifar: {model: {stem: cifar}}, own: {own_recipe: true}}``. The report shows what differs.
        run_timeout_s: A run that is not done after so many seconds is stopped and has failed.
        retries: How often a run that fails is begun again, from its last checkpoint.
        executor: Where the runs take place: on this machine, or on a Ray cluster (``pip install 'cnn-compare[ray]'``).
        jobs: How many runs at a time on this machine. Each gets GPUs of its own while there are enough; runs that
            share a device or the processor are timed, and marked as contended.
        ray_address: Of the cluster, ``auto`` for the one that this machine belongs to; None starts one here.
        resources_per_run: What Ray is to set aside for each run, such as ``{GPU: 1, CPU: 4}``; None: a GPU if the
            cluster has any, and a processor core.

    Returns:
        The comparison's folder: a folder a run, and ``manifest.json``.

    Raises:
        UsageError: If the request cannot be carried out; nothing has been run or changed then.
    """
    if not re.fullmatch(NAME, name):
        raise InvalidValueError("--name", name, NAME_RULE)
    from cnn_compare.experiment import experiment_parser, plain_config, stop_at

    if jobs < 1:
        raise InvalidValueError("--jobs", jobs, "1 or more")
    if retries < 0:
        raise InvalidValueError("--retries", retries, "0 or more")
    if run_timeout_s is not None and not run_timeout_s > 0:
        raise InvalidValueError("--run_timeout_s", run_timeout_s, "more than 0")
    if target_acc is not None:
        stop_at(target_acc)  # Refuses what is no share before anything runs.

    parser = experiment_parser(exit_on_error=False)

    def resolve(config: Config) -> Config:
        # A copy, because parsing puts its own objects into what it is given.
        given = {key: copy.deepcopy(value) for key, value in config.items() if value}
        try:
            resolved = plain_config(parser, parser.parse_object(given))
        except ArgumentError as error:
            raise ConfigurationError(str(error)) from error
        del resolved["model"]["backbone"]
        return resolved

    sections = {"trainer": trainer, "model": model, "data": data, "target_acc": target_acc, "own_recipe": own_recipe}
    config = resolve(sections)
    folder = Path(log_dir) / name
    specs = plan_runs(folder, backbones, seeds, config, recipe, variants, resolve)
    for spec in specs:
        world_size(spec.config)  # Refuses devices that a run cannot have.
    with comparison_lock(folder):
        before = _prepare_folder(folder, on_existing, config, variants or {}, resolve)
        manifest: Config = {
            "schema": MANIFEST_SCHEMA,
            "name": name,
            "recipe": recipe,
            "backbones": list(dict.fromkeys([*before.get("backbones", []), *backbones])),
            "seeds": list(dict.fromkeys([*before.get("seeds", []), *seeds])),
            "variants": {**before.get("variants", {}), **(variants or {})},
            "config": config,
            "varied": differences([spec.config for spec in specs]),
            "machine": _machine(),
        }
        _write_manifest(folder, manifest)
        where: Executor = LocalExecutor(jobs, run_timeout_s)
        if executor == "ray":
            from cnn_compare.comparison.cluster import RayExecutor

            where = RayExecutor(ray_address, resources_per_run, run_timeout_s)
        results = run_all(specs, where, retries)
        _write_manifest(folder, {**manifest, "controlled": _controlled(results)})
    return folder


def _prepare_folder(
    folder: Path, on_existing: str, config: Config, variants: Config, resolve: Callable[[Config], Config]
) -> Config:
    """The manifest of the comparison that is to be resumed; empty where a new one begins."""
    if not folder.exists() or not any(folder.iterdir()):
        return {}
    try:
        before: Config = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ComparisonExistsError(folder, ", and holds no comparison (no readable manifest.json)") from None
    if on_existing == "error":
        raise ComparisonExistsError(folder, "")
    if on_existing == "overwrite":
        shutil.rmtree(folder)
        return {}
    # Resolved anew: an older version may have known fewer settings.
    was, now = resolve(before.get("config", {})), dict(config)
    for name in before.get("variants", {}).keys() & variants.keys():
        was[name], now[name] = before["variants"][name], variants[name]
    if changed := differences([was, now]):
        first, (old, new) = next(iter(changed.items()))
        raise ComparisonExistsError(folder, f" with another configuration ({first} is {old!r} there and {new!r} now)")
    return before


def _controlled(results: Sequence[RunResult]) -> dict[str, bool]:
    """What was the same in every finished run, as the runs themselves recorded it."""
    finished = [result for result in results if result.status == "finished"]
    by_seed: dict[int, set[str | None]] = {}
    for result in finished:
        by_seed.setdefault(result.seed, set()).add(result.data_fingerprint)
    return {
        "data": all(len(fingerprints) == 1 for fingerprints in by_seed.values()),
        "device": len({result.device for result in finished}) <= 1,
        "precision": len({result.precision for result in finished}) <= 1,
        "versions": len({tuple(sorted(result.versions.items())) for result in finished}) <= 1,
    }


def _machine() -> dict[str, Any]:
    return {"system": platform.platform(), "cpu_count": os.cpu_count()}


def _write_manifest(folder: Path, manifest: Config) -> None:
    write_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
