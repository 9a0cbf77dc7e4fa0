"""The comparison as one call: plan, run, and say what was controlled."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cnn_compare.comparison.plan import Config, plan_cells
from cnn_compare.comparison.runner import run_cells
from cnn_compare.errors import ComparisonExistsError, InvalidValueError
from cnn_compare.results import RunResult, differences, write_text

MANIFEST_SCHEMA = 1


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
) -> Path:
    """Train every backbone with every seed under one recipe, and keep all that came of it.

    Runs go one after the other. A run that fails is recorded with its reason and the others go on. The same call again
    repeats nothing that is finished and continues a half-done run from its last epoch.

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

    Returns:
        The comparison's folder: a folder a run, and ``manifest.json``.

    Raises:
        UsageError: If the request cannot be carried out; nothing has been run or changed then.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise InvalidValueError("--name", name, "letters, digits, '_', '-' and '.', not beginning with '-' or '.'")
    from cnn_compare.experiment import experiment_parser, plain, stop_at

    if target_acc is not None:
        stop_at(target_acc)  # Refuses what is no share before anything runs.

    parser = experiment_parser(exit_on_error=False)
    sections = {"trainer": trainer, "model": model, "data": data, "target_acc": target_acc}
    config = plain(parser, parser.parse_object({key: value for key, value in sections.items() if value}))
    del config["model"]["backbone"]
    folder = Path(log_dir) / name
    cells = plan_cells(folder, backbones, seeds, config, recipe)
    before = _make_room(folder, on_existing, config)
    manifest: Config = {
        "schema": MANIFEST_SCHEMA,
        "name": name,
        "recipe": recipe,
        "backbones": list(dict.fromkeys([*before.get("backbones", []), *backbones])),
        "seeds": list(dict.fromkeys([*before.get("seeds", []), *seeds])),
        "config": config,
        "varied": differences([cell.config for cell in cells]),
        "machine": _machine(),
    }
    _write_manifest(folder, manifest)
    results = run_cells(cells)
    _write_manifest(folder, {**manifest, "controlled": _controlled(results)})
    return folder


def _make_room(folder: Path, on_existing: str, config: Config) -> Config:
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
    if changed := differences([before.get("config", {}), config]):
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
