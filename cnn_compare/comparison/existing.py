"""The content of a comparison's folder, and what a command is to do about it. Nothing is run or deleted here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cnn_compare.archive import unpack
from cnn_compare.backbones import code_fingerprint
from cnn_compare.checkpointing import read_stored
from cnn_compare.comparison.plan import Comparison, require_own_folders, without_fold
from cnn_compare.comparison.runner import finished_result
from cnn_compare.comparison.spec import Config, RunSpec
from cnn_compare.configs import as_list, differing_settings
from cnn_compare.data import FolderDataModule
from cnn_compare.errors import CheckpointFileError, ComparisonExistsError, InvalidValueError, ResultError
from cnn_compare.experiment import make_data, resolve_config
from cnn_compare.formatting import format_list
from cnn_compare.machine import versions
from cnn_compare.results import MANIFEST, SEARCH, RunFolder, RunResult, read_manifest, run_folders
from cnn_compare.run_key import RunKey, network_paths
from cnn_compare.trusted import untrusted


@dataclass(frozen=True)
class Existing:
    """The content of a comparison's folder, and what is to be done about it.

    Args:
        manifest: The record of earlier commands; empty for a new comparison.
        recorded: Whether the manifest is that of a command that came to its end.
        results: Results of the planned runs that ended earlier and are not run again.
        remove: Folders to delete before anything runs.
        notes: Sentences for the user.
    """

    manifest: Config = field(default_factory=dict)
    recorded: bool = False
    results: dict[RunKey, RunResult] = field(default_factory=dict)
    remove: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine(comparison: Comparison, specs: Sequence[RunSpec]) -> Existing:
    """Read what there is, and decide what is kept.

    Raises:
        ComparisonExistsError: If the folder holds something that is not to be resumed or deleted.
        InvalidValueError: As `require_names`, or if two backbones would share a folder.
    """
    folder = comparison.folder
    unpack(folder)
    # The trials of a search, and their lock, come before its comparison.
    if not folder.exists() or all(SEARCH in path.name.split(".") for path in folder.iterdir()):
        require_names(comparison, [spec.key for spec in specs], {})
        return Existing()
    if comparison.on_existing == "error":
        raise ComparisonExistsError(folder, "")
    notes: list[str] = []
    manifest = read_manifest(folder)
    if not isinstance(manifest.get("config"), dict):
        manifest = _rebuilt_manifest(comparison, specs)
        notes.append(f"{folder / MANIFEST} was missing or damaged, and is rebuilt from the runs' configurations.")
    require_names(comparison, [spec.key for spec in specs], manifest)
    if comparison.on_existing == "overwrite":
        return Existing(remove=[path for path in folder.iterdir() if comparison.search is None or path.name != SEARCH])
    kept_backbones = [backbone for backbone in manifest["backbones"] if backbone not in as_list(comparison.drop)]
    require_own_folders([*kept_backbones, *comparison.all_backbones])
    if changed := _changed_setting(manifest, comparison):
        runs = run_folders(folder, RunFolder.CONFIG)
        if any(_worth_keeping(run) for run in runs):
            raise ComparisonExistsError(folder, f" with another configuration ({changed})")
        notes.append(f"{changed}: no run in {folder} has finished, so all of them begin anew.")
        return Existing(remove=[run.path for run in runs], notes=notes)
    remove = [path for backbone in as_list(comparison.drop) for path in network_paths(folder, backbone)]
    reruns = [spec for spec in specs if spec.key.label in as_list(comparison.rerun)]
    remove += [spec.folder.path for spec in reruns if spec.folder.path.exists()]
    if others := _with_other_pictures(folder, remove):
        labels = {spec.folder.path: spec.key.label for spec in specs}
        known = [labels.get(run.path) for run in others]
        rerun = "" if None in known else f"; --rerun='[{','.join(map(str, known))}]' trains them with the present ones"
        listed = format_list([run.path.relative_to(folder).as_posix() for run in others])
        raise ComparisonExistsError(
            folder, f" with runs of other pictures, labels, decoder or splits than there are now ({listed}{rerun})"
        )
    results = {spec.key: result for spec in specs if spec not in reruns and (result := finished_result(spec.folder))}
    recorded = not notes and manifest.get("ended") is True
    notes += _other_code(specs, results)
    return Existing({**manifest, "backbones": kept_backbones}, recorded, results, list(dict.fromkeys(remove)), notes)


def require_names(comparison: Comparison, keys: Sequence[RunKey], manifest: Config) -> None:
    """Check the networks and runs that a command names besides ``backbones``.

    Args:
        comparison: The comparison.
        keys: Its runs.
        manifest: The record of earlier commands, of which ``overwrite`` leaves nothing.

    Raises:
        InvalidValueError: If ``rerun`` names no planned run, ``drop`` no backbone of an earlier command, or the
            baseline is no network of the comparison.
    """
    if comparison.on_existing == "overwrite":
        manifest = {}
    drop, earlier = as_list(comparison.drop), manifest.get("backbones", [])
    labels = [key.label for key in keys]
    for name in as_list(comparison.rerun):
        if name not in labels:
            raise InvalidValueError("rerun", name, f"a run of this command: {', '.join(labels)}")
    for backbone in drop:
        if backbone in comparison.all_backbones:
            raise InvalidValueError("drop", backbone, "left out of backbones")
        if backbone not in earlier:
            expected = f"one of {', '.join(earlier)}" if earlier else "left out: no backbone is there yet"
            raise InvalidValueError("drop", backbone, expected)
    kept = (key for run in manifest.get("runs", []) if (key := RunKey(**run)).backbone not in drop)
    networks = dict.fromkeys(key.network for key in (*keys, *kept))
    if comparison.baseline is not None and comparison.baseline not in networks:
        expected = f"one of the compared {', '.join(networks)}"
        raise InvalidValueError("baseline", comparison.baseline, expected)


def _changed_setting(manifest: Config, comparison: Comparison) -> str | None:
    """The first setting that has changed since, in words."""
    _require_named(comparison.folder, manifest["config"])
    # Resolved again, because an older version may have known fewer settings.
    was, now = without_backbone(resolve_config(manifest["config"])), without_backbone(comparison.config)
    before, variants = manifest.get("variants", {}), comparison.variants or {}
    pairs = [({"folds": manifest.get("folds"), **was}, {"folds": comparison.folds, **now})]
    # Each by itself: a variant may be called like a section of the configuration.
    pairs += [
        ({"variants": {name: before[name]}}, {"variants": {name: changes}})
        for name, changes in variants.items()
        if name in before
    ]
    changed = (change for pair in pairs for change in differing_settings(pair).items())
    return next((f"{setting} is {old!r} there and {new!r} now" for setting, (old, new) in changed), None)


def _require_named(folder: Path, stored: Config) -> None:
    """Check that a stored configuration names no code but what the command names: resolving it would import it."""
    if names := untrusted(stored):
        raise ComparisonExistsError(folder, f" with another configuration ({', '.join(names)} is named there alone)")


def _rebuilt_manifest(comparison: Comparison, specs: Sequence[RunSpec]) -> Config:
    """The manifest that the runs' own configurations give.

    Raises:
        ComparisonExistsError: If there are no runs, or runs that were configured otherwise than those now planned.
    """
    folder = comparison.folder
    runs = run_folders(folder, RunFolder.CONFIG)
    configs = [run.load_config() for run in runs]
    if not configs:
        raise ComparisonExistsError(folder, f", and holds no comparison (no readable {MANIFEST})")
    planned = [_without_seed(spec.config) for spec in specs]
    for config in configs if comparison.on_existing == "resume" else ():
        # Only the network may differ from what is planned now.
        _require_named(folder, without_backbone(config))
        stored = _without_seed({**config, **resolve_config(_without_seed(config))})
        if without_backbone(stored) not in map(without_backbone, planned):
            setting, (old, new) = next(
                iter(differing_settings([without_backbone(stored), without_backbone(planned[0])]).items())
            )
            raise ComparisonExistsError(
                folder, f" with another configuration ({setting} is {old!r} there and {new!r} now)"
            )
    return {
        "backbones": list(dict.fromkeys(config["model"]["backbone"] for config in configs)),
        "seeds": sorted({config["seed_everything"] for config in configs}),
        # The most, where they differ.
        "folds": max((fold[1] for each in configs if (fold := each["data"]["init_args"].get("fold"))), default=None),
        "config": without_backbone(comparison.config),
        "threads": configs[0].get("threads"),
    }


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
        config = run.load_config()
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
    """A record of the data of a run that has finished or can go on; None where nothing is known of it."""
    result = None
    with suppress(ResultError):
        result = run.load_result()
    if result is None or result.status == "failed":
        with suppress(CheckpointFileError):
            fingerprint = read_stored(run.checkpoints / run.LAST).get("data_fingerprint")
            result = RunResult(backbone="", seed=0, status="failed", data_fingerprint=fingerprint)
    return result if result and result.data_fingerprint else None


def _worth_keeping(run: RunFolder) -> bool:
    """Whether a run has an accuracy, or was stopped and can go on from a checkpoint."""
    try:
        return run.load_result().status == "finished"
    except ResultError:
        return (run.checkpoints / run.LAST).exists()


def _other_code(specs: Sequence[RunSpec], results: dict[RunKey, RunResult]) -> list[str]:
    """A sentence for all runs whose code has changed in the same way since they ended."""
    here, fingerprint = versions(), cache(code_fingerprint)
    runs: dict[str, list[str]] = {}
    for spec in specs:
        if spec.key not in results:
            continue
        result, changes = results[spec.key], []
        if result.code_fingerprint:
            model = spec.config["model"]
            try:
                now = fingerprint(spec.key.backbone, model["num_classes"], model["stem"])
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
            runs.setdefault("; ".join(changes), []).append(spec.key.label)
    return [
        f"{', '.join(names)} finished earlier with other code: {changes}. --rerun='[{','.join(names)}]' trains "
        "them with the present code, --on_existing=overwrite all runs."
        for changes, names in runs.items()
    ]
