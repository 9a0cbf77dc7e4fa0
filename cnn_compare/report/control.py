"""Control of a comparison: what varied between its runs, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_compare.configs import differing_settings, find_setting
from cnn_compare.formatting import format_list
from cnn_compare.report.answers import by_network
from cnn_compare.report.load import StoredRun, StoredRuns, distinct
from cnn_compare.results import RunFolder, different_pictures

# Settings that differ between the runs of every comparison, and settings that cannot change a result.
EXPECTED_DIFFERENCES = {"seed_everything", "model.backbone", "own_recipe"}
TRAIN_SUBSET = "data.init_args.train_subset"
FOLD_SETTINGS = {"data.init_args.fold", "data.init_args.split_seed"}
IRRELEVANT = {"data.init_args.data_dir", "trainer.default_root_dir", "trainer.logger"}


@dataclass(frozen=True)
class Control:
    """Control of a comparison, from the runs' own records.

    Args:
        warnings: Why it is not, or why its times cannot be compared.
        varied: Dotted name of each setting that was not the same in all runs -> its values.
        timings_ranked: Whether times can be compared.
    """

    warnings: list[str]
    varied: dict[str, list[str]]
    timings_ranked: bool


def control(stored: StoredRuns) -> Control:
    """Find what varied between the runs, and whether that was meant."""
    runs = stored.all_finished
    results = [run.result for run in runs]
    configured = [run.config for run in runs if run.config]
    different = differing_settings(configured) if configured else {}
    different = {name: values for name, values in different.items() if _is_known(name, configured)}
    varied = {
        name: sorted(set(map(str, values)))
        for name, values in different.items()
        if name not in IRRELEVANT and not name.startswith("trainer.callbacks")
    }
    mixed = {
        "devices": distinct(result.device for result in results),
        "precisions": distinct(result.precision for result in results),
        "recipes": distinct(result.recipe for result in results),
        "versions": distinct(
            ", ".join(f"{package} {version}" for package, version in sorted(result.versions.items()))
            for result in results
            if result.versions
        ),
    }
    warnings = [f"mixed {what}: {'; '.join(values)}" for what, values in mixed.items() if len(values) > 1]
    declared = {name for result in results for name in result.declared_changes}
    expected = EXPECTED_DIFFERENCES | declared
    if all(result.fold is not None for result in results):
        expected |= FOLD_SETTINGS
    if any(result.train_subset is not None for result in results):
        expected |= {TRAIN_SUBSET}
    if recipes := {name: values for name, values in varied.items() if name not in expected}:
        settings = "; ".join(f"{name} is {' or '.join(values)}" for name, values in recipes.items())
        warnings.append(f"mixed recipes: {settings}")
    shown: dict[tuple[int, int | None, int | None, str], set[str | None]] = {}
    for result in results:
        data = {name: value for name, value in sorted(result.declared_changes.items()) if name.startswith("data.")}
        which = (result.seed, result.fold, result.train_subset, str(data))
        shown.setdefault(which, set()).add(result.data_fingerprint)
    if any(len(fingerprints) > 1 for fingerprints in shown.values()):
        warnings.append("mixed data: networks with the same seed had different images, orders or augmentation")
    if stored.times is not None:
        if stored.times.contended:
            warnings.append(
                "contended: other processes used the machine while the networks took turns to measure their times; "
                "the seconds are those of a busy machine, and the ratios have wider intervals"
            )
        return Control(warnings, varied, True)
    runs = stored.finished
    if contended := list(dict.fromkeys(run.network for run in runs if run.result.contended)):
        warnings.append(f"contended: other processes used the machine while {', '.join(contended)} trained")
    if untimed := list(dict.fromkeys(run.network for run in runs if run.result.value("train_epoch_s") is None)):
        warnings.append(f"no time per epoch: {', '.join(untimed)} did not reach the end of one")
    return Control(warnings, varied, not warnings)


def _is_known(setting: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the version behind each run knew a setting; a later one has added it, and kept what was before."""
    above, _, name = setting.rpartition(".")
    sections = (find_setting(config, above) for config in configs)
    return not any(isinstance(section, Mapping) and name not in section for section in sections)


def declared_changes(groups: Mapping[str, Sequence[StoredRun]]) -> list[str]:
    """Sentences about settings that differ between networks on purpose."""
    names: dict[str, list[str]] = {}
    for name, members in groups.items():
        changed = members[0].result.declared_changes.items()
        settings = ", ".join(f"{setting} = {value}" for setting, value in changed if value is not None)
        names.setdefault(settings, []).append(name)
    return [
        f"declared, not controlled: {settings} for {format_list(names[settings])}" for settings in names if settings
    ]


def unfinished(stored: StoredRuns) -> str | None:
    """A sentence about what is still missing; None if every planned run is finished."""
    finished = stored.all_finished
    counts = {
        "failed": len(stored.all_runs) - len(finished),
        "not finished": len(stored.unfinished),
        "with an unreadable result": sum(error.path.name == RunFolder.RESULT for error in stored.problems),
    }
    begun = len(finished) + sum(counts.values())
    total = max(begun, len(stored.planned_runs))
    if len(finished) == total:
        return None
    rest = ", ".join(f"{count} {what}" for what, count in {**counts, "not begun": total - begun}.items() if count)
    missing = [name for name in stored.planned if name not in by_network(stored.finished)]
    which = f"; networks without a finished run: {format_list(missing)}" if missing else ""
    return f"{len(finished)} of {total} runs are finished ({rest}){which}."


def other_pictures(stored: StoredRuns) -> str | None:
    """A sentence if runs that are taken together had different pictures; None if nothing says so."""
    runs = {id(run.result): run.folder.relative_to(stored.folder).as_posix() for run in stored.all_finished}
    parts = []
    for results in different_pictures([run.result for run in stored.all_finished]):
        images = sum(split["images"] for split in results[0].data.get("splits", {}).values())
        others = f" and {len(results) - 1} more" if len(results) > 1 else ""
        parts.append(f"{runs[id(results[0])]}{others}" + (f" ({images:,} images)" if images else ""))
    return (
        f"Runs of different pictures are taken together in all that follows: {'; '.join(parts)}. "
        "`cnn-compare compare` trains those that --rerun names with the present pictures."
        if parts
        else None
    )
