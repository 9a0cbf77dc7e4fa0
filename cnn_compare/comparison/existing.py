"""What a comparison's folder holds already, and what a command is to do about it. Reading changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from cnn_compare.backbones import code_fingerprint
from cnn_compare.checkpointing import read_stored
from cnn_compare.comparison.plan import Comparison, path_name, require_own_folders, without_fold
from cnn_compare.comparison.runner import finished_result
from cnn_compare.comparison.spec import Config, RunSpec
from cnn_compare.configs import differences
from cnn_compare.data import FolderDataModule
from cnn_compare.errors import CheckpointFileError, ComparisonExistsError, InvalidValueError, ResultError
from cnn_compare.experiment import make_data, resolve_config
from cnn_compare.files import read_json
from cnn_compare.formatting import format_list
from cnn_compare.machine import versions
from cnn_compare.results import MANIFEST, SEARCH, RunFolder, RunResult, run_folders

OnExisting = Literal["resume", "error", "overwrite"]


@dataclass(frozen=True)
class Request:
    """What to do about runs that exist already; the fields are as for `compare`."""

    on_existing: OnExisting = "resume"
    rerun: Sequence[str] = ()
    drop: Sequence[str] = ()


@dataclass(frozen=True)
class Existing:
    """What a comparison's folder holds already.

    Args:
        manifest: What earlier commands have recorded; empty for a new comparison.
        recorded: Whether the manifest is that of a command that came to its end.
        results: Of the planned runs that ended earlier and are not run again, by the run's name.
        remove: Folders to delete before anything runs.
        notes: What the user must know of it, in sentences.
    """

    manifest: Config = field(default_factory=dict)
    recorded: bool = False
    results: dict[str, RunResult] = field(default_factory=dict)
    remove: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine(comparison: Comparison, specs: Sequence[RunSpec], request: Request) -> Existing:
    """Read what there is, and decide what is kept.

    Raises:
        ComparisonExistsError: If the folder holds something that is not to be resumed or deleted.
        InvalidValueError: If ``rerun`` names no planned run, ``drop`` no backbone of an earlier command, or two
            backbones would share a folder.
    """
    folder = comparison.folder
    reruns = _named_runs(specs, request.rerun)
    # The trials of a search, and their lock, come before its comparison.
    if not folder.exists() or all(SEARCH in path.name.split(".") for path in folder.iterdir()):
        _require_known(request.drop, [], comparison)
        return Existing()
    if request.on_existing == "error":
        raise ComparisonExistsError(folder, "")
    notes: list[str] = []
    try:
        manifest: Config = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("config"), dict):
            raise ValueError("it holds no manifest")
    except (OSError, ValueError):
        manifest = _rebuilt_manifest(comparison, specs, request)
        notes.append(f"{folder / MANIFEST} was missing or damaged, and is rebuilt from the runs' configurations.")
    if request.on_existing == "overwrite":
        return Existing(remove=[path for path in folder.iterdir() if comparison.search is None or path.name != SEARCH])
    _require_known(request.drop, manifest["backbones"], comparison)
    kept_backbones = [backbone for backbone in manifest["backbones"] if backbone not in request.drop]
    require_own_folders([*kept_backbones, *comparison.backbones])
    if changed := _changed_setting(manifest, comparison):
        runs = run_folders(folder, RunFolder.CONFIG)
        if any(_worth_keeping(run) for run in runs):
            raise ComparisonExistsError(folder, f" with another configuration ({changed})")
        notes.append(f"{changed}: no run in {folder} has finished, so all of them begin anew.")
        return Existing(remove=[run.path for run in runs], notes=notes)
    remove = [path for backbone in request.drop for path in _network_folders(folder, backbone)]
    remove += [spec.folder.path for spec in reruns if spec.folder.path.exists()]
    if others := _with_other_pictures(folder, remove):
        names = {spec.folder.path: run_name(spec) for spec in specs}
        known = [names.get(run.path) for run in others]
        rerun = "" if None in known else f"; --rerun='[{','.join(map(str, known))}]' trains them with the present ones"
        listed = format_list([run.path.relative_to(folder).as_posix() for run in others])
        raise ComparisonExistsError(
            folder, f" with runs of other pictures, labels, decoder or splits than there are now ({listed}{rerun})"
        )
    results = {spec.name: result for spec in specs if spec not in reruns and (result := finished_result(spec.folder))}
    recorded = not notes and "controlled" in manifest
    notes += _other_code(specs, results)
    return Existing({**manifest, "backbones": kept_backbones}, recorded, results, list(dict.fromkeys(remove)), notes)


def _named_runs(specs: Sequence[RunSpec], names: Sequence[str]) -> list[RunSpec]:
    by_name = {run_name(spec): spec for spec in specs}
    for name in names:
        if name not in by_name:
            raise InvalidValueError("rerun", name, f"a run of this command: {', '.join(by_name)}")
    return [by_name[name] for name in names]


def run_name(spec: RunSpec) -> str:
    """How ``rerun`` names a run: ``lenet/0``, ``lenet+flat/0`` in the variant ``flat``, ``lenet/0/2`` of fold 2.

    With 500 training images it is ``lenet/train_500/0``.
    """
    subset = "" if spec.train_subset is None else f"/train_{spec.train_subset}"
    fold = "" if spec.fold is None else f"/{spec.fold}"
    return f"{spec.backbone}{f'+{spec.variant}' if spec.variant else ''}{subset}/{spec.seed}{fold}"


def _require_known(drop: Sequence[str], known: Sequence[str], comparison: Comparison) -> None:
    for backbone in drop:
        if backbone in comparison.backbones:
            raise InvalidValueError("drop", backbone, "left out of backbones")
        if backbone not in known:
            raise InvalidValueError("drop", backbone, f"one of {', '.join(known) or 'none'}, which are there")


def _changed_setting(manifest: Config, comparison: Comparison) -> str | None:
    """The first setting that has changed since, in words."""
    # Resolved again, because an older version may have known fewer settings.
    was, now = without_backbone(resolve_config(manifest["config"])), without_backbone(comparison.config)
    was["folds"], now["folds"] = manifest.get("folds"), comparison.folds
    for name in manifest.get("variants", {}).keys() & comparison.variants.keys():
        was[name], now[name] = manifest["variants"][name], comparison.variants[name]
    return next(
        (f"{setting} is {old!r} there and {new!r} now" for setting, (old, new) in differences([was, now]).items()), None
    )


def _rebuilt_manifest(comparison: Comparison, specs: Sequence[RunSpec], request: Request) -> Config:
    """The manifest that the runs' own configurations give.

    Raises:
        ComparisonExistsError: If there are no runs, or runs that were configured otherwise than those now planned.
    """
    folder = comparison.folder
    runs = run_folders(folder, RunFolder.CONFIG)
    configs = [yaml.safe_load(run.config.read_text(encoding="utf-8")) for run in runs]
    if not configs:
        raise ComparisonExistsError(folder, f", and holds no comparison (no readable {MANIFEST})")
    planned = [_without_seed(spec.config) for spec in specs]
    for config in configs:
        stored = _without_seed({**config, **resolve_config(_without_seed(config))})
        # Only the network may differ from what is planned now.
        if request.on_existing == "resume" and without_backbone(stored) not in map(without_backbone, planned):
            setting, (old, new) = next(
                iter(differences([without_backbone(stored), without_backbone(planned[0])]).items())
            )
            raise ComparisonExistsError(
                folder, f" with another configuration ({setting} is {old!r} there and {new!r} now)"
            )
    return {
        "backbones": list(dict.fromkeys(config["model"]["backbone"] for config in configs)),
        "seeds": sorted({config["seed_everything"] for config in configs}),
        "folds": _folds_of(configs),
        "config": without_backbone(comparison.config),
        "threads": configs[0].get("threads"),
    }


def _folds_of(configs: Sequence[Config]) -> int | None:
    """In how many folds runs were cut; the most, where they differ."""
    return max((fold[1] for config in configs if (fold := config["data"]["init_args"].get("fold"))), default=None)


def _without_seed(config: Config) -> Config:
    """A run's configuration without what the comparison has filled in, and what only `fit` has."""
    filled_in = ("seed_everything", "threads", "allow_other_data", "recipe")
    return without_fold({name: value for name, value in config.items() if name not in filled_in})


def without_backbone(config: Config) -> Config:
    """A configuration without the backbone, which is a run's own."""
    return {**config, "model": {name: value for name, value in config["model"].items() if name != "backbone"}}


def _with_other_pictures(folder: Path, removed: Sequence[Path]) -> list[RunFolder]:
    """The stored runs that were shown other data than the same configuration gives now.

    Published data is not asked: its files have checksums. Of the folds of a repeat, which hold the same pictures, the
    first there is stands for all.
    """
    shown: dict[str, list[tuple[RunFolder, Config, RunResult]]] = {}
    fold_of: dict[str, Any] = {}
    for run in run_folders(folder, RunFolder.CONFIG):
        result = _shown(run)
        if result is None or any(run.path.is_relative_to(path) for path in removed):
            continue
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        fold = config["data"]["init_args"].get("fold")
        if fold_of.setdefault(json.dumps(without_fold(config)["data"], sort_keys=True), fold) == fold:
            shown.setdefault(json.dumps(config["data"], sort_keys=True), []).append((run, config, result))
    others = []
    for runs in shown.values():
        data = make_data(runs[0][1])
        if type(data).load.__module__.startswith("cnn_compare.") and not isinstance(data, FolderDataModule):
            continue
        own_seed = runs[0][1]["data"]["init_args"].get("seed")
        for run, config, result in runs:
            data.seed = config["seed_everything"] if own_seed is None else own_seed
            same = result.data_fingerprint == data.fingerprint()
            if not same or result.pictures not in (None, data.pictures_fingerprint()):
                others.append(run)
    return others


def _shown(run: RunFolder) -> RunResult | None:
    """What a run that has finished, or can go on, says of its data; None if nothing."""
    result = None
    with suppress(ResultError):
        result = run.load_result()
    if result is None or result.status == "failed":
        with suppress(CheckpointFileError):
            fingerprint = read_stored(run.checkpoints / run.LAST).get("data_fingerprint")
            result = RunResult(backbone="", seed=0, status="failed", data_fingerprint=fingerprint)
    return result if result and result.data_fingerprint else None


def _network_folders(folder: Path, backbone: str) -> list[Path]:
    name = path_name(backbone)
    return [path for path in folder.iterdir() if path.is_dir() and path.name.partition("+")[0] == name]


def _worth_keeping(run: RunFolder) -> bool:
    """Whether a run has an accuracy, or was stopped and can go on from a checkpoint."""
    try:
        return run.load_result().status == "finished"
    except ResultError:
        return (run.checkpoints / run.LAST).exists()


def _other_code(specs: Sequence[RunSpec], results: dict[str, RunResult]) -> list[str]:
    """A sentence for all runs whose code has changed in the same way since they ended."""
    here, fingerprint = versions(), cache(code_fingerprint)
    runs: dict[str, list[str]] = {}
    for spec in specs:
        if spec.name not in results:
            continue
        result, changes = results[spec.name], []
        if result.code_fingerprint:
            model = spec.config["model"]
            try:
                now = fingerprint(spec.backbone, model["num_classes"], model["stem"])
            except Exception as error:  # It runs the user's code, which can raise anything.
                changes.append(f"the network can no longer be built ({type(error).__name__}: {error})")
            else:
                parts = {"file": "the network's source file", "graph": "the network's graph"}
                changes += [
                    f"{text} has changed since"
                    for part, text in parts.items()
                    if now.get(part) != result.code_fingerprint.get(part)
                ]
        changes += [
            f"{package} was {version} and is {here[package]} now"
            for package, version in result.versions.items()
            if package in here and here[package] != version
        ]
        if changes:
            runs.setdefault("; ".join(changes), []).append(run_name(spec))
    return [
        f"{', '.join(names)} finished earlier with other code: {changes}. --rerun='[{','.join(names)}]' trains "
        "them with the present code, --on_existing=overwrite all runs."
        for changes, names in runs.items()
    ]
