"""From stored runs to a `Summary`: figures, tests, warnings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_compare.configs import differences
from cnn_compare.errors import ResultError
from cnn_compare.formatting import format_list
from cnn_compare.report import statistics
from cnn_compare.report.load import StoredRun, StoredRuns, distinct
from cnn_compare.report.published import find_published
from cnn_compare.report.statistics import Difference, Estimate
from cnn_compare.report.summary import MOST_CLASSES, Curves, Mistake, Network, Pair, Summary, class_name
from cnn_compare.report.verdict import verdict
from cnn_compare.results import RunFolder, first_reached, over_seeds

# Settings that differ between the runs of every comparison, and settings that cannot change a result.
EXPECTED_DIFFERENCES = {"seed_everything", "model.backbone", "own_recipe"}
IRRELEVANT = {"data.init_args.data_dir", "trainer.default_root_dir", "trainer.logger"}
HARDEST = MISTAKES = 10
UNFINISHED = "not finished; the same command again goes on with it"


def analyze(stored: StoredRuns) -> Summary:
    """Compute everything that a report shows."""
    runs = stored.finished
    results = [run.result for run in runs]
    groups = _groups(runs)
    levels = _levels(runs)
    warnings, varied, ranked = _conditions(stored)
    correct = _correct(groups)
    networks = [_network(name, members, correct[name], levels) for name, members in groups.items()]
    networks.sort(key=lambda network: -network.accuracy_pct.value)
    networks = _ranked(networks, correct, ranked)
    pairs = _pairs(networks, groups, correct)
    names = next((result.class_names for result in results if result.class_names), [])
    labels = next((run.predictions.labels for run in runs if run.predictions), None)
    problems = list(stored.problems)
    try:
        published = find_published(stored)
    except ResultError as error:
        published = None
        problems.append(error)
    unfinished = _unfinished(stored)
    return Summary(
        name=str(stored.manifest.get("name", stored.folder.resolve().name)),
        unfinished=unfinished,
        recipe=stored.manifest.get("recipe"),
        devices=distinct(result.device for result in results),
        precisions=distinct(result.precision for result in results),
        fingerprints=distinct(result.data_fingerprint for result in results),
        # What was skipped of the user's files makes no times unequal, and is shown all the same.
        warnings=[*warnings, *distinct(text for result in results for text in result.data.get("warnings", []))],
        declared_changes=_declared_changes(groups),
        varied=varied,
        timings_ranked=ranked,
        variants=_variants(stored),
        class_names=names,
        class_images=[] if labels is None else np.bincount(labels).tolist(),
        test_images=max((result.test_images for result in results if result.test_images), default=None),
        networks=networks,
        pairs=pairs,
        verdict=verdict(networks, pairs, ranked, complete=unfinished is None),
        hardest=_hardest(runs, names),
        without_result=_without_result(stored, problems),
        published=published,
    )


def _unfinished(stored: StoredRuns) -> str | None:
    """A sentence about what is still missing; None if every planned run is finished."""
    finished, planned = stored.finished, stored.planned
    counts = {
        "failed": len(stored.runs) - len(finished),
        "not finished": len(stored.unfinished),
        "with an unreadable result": sum(error.path.name == RunFolder.RESULT for error in stored.problems),
    }
    begun = len(finished) + sum(counts.values())
    total = max(begun, sum(map(len, planned.values())))
    if len(finished) == total:
        return None
    rest = ", ".join(f"{count} {what}" for what, count in {**counts, "not begun": total - begun}.items() if count)
    missing = [name for name in planned if name not in _groups(finished)]
    which = f"; networks without a finished run: {format_list(missing)}" if missing else ""
    return f"{len(finished)} of {total} runs are finished ({rest}){which}."


def _groups(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    groups: dict[str, list[StoredRun]] = {}
    for run in sorted(runs, key=lambda run: run.result.seed):
        groups.setdefault(run.network, []).append(run)
    return groups


def _correct(groups: dict[str, list[StoredRun]]) -> dict[str, statistics.Correct | None]:
    """``(seeds, images)`` of each network; None unless all its runs were tested on the same images as all others."""
    all_runs = [run for members in groups.values() for run in members]
    labels = next((run.predictions.labels for run in all_runs if run.predictions), np.empty(0))

    def comparable(run: StoredRun) -> bool:
        return run.predictions is not None and np.array_equal(run.predictions.labels, labels)

    return {
        name: np.stack([run.predictions.predictions == labels for run in members if run.predictions])
        if all(comparable(run) for run in members)
        else None
        for name, members in groups.items()
    }


def _conditions(stored: StoredRuns) -> tuple[list[str], dict[str, list[str]], bool]:
    """Warnings, the settings that varied, and whether times can be compared; all from the runs' own records."""
    runs = stored.finished
    results = [run.result for run in runs]
    configured = [run.config for run in runs if run.config]
    different = differences(configured) if configured else {}
    varied = {
        name: sorted(set(map(str, values)))
        for name, values in different.items()
        if name not in IRRELEVANT and not name.startswith("trainer.callbacks")
    }
    mixed = {
        "devices": distinct(result.device for result in results),
        "precisions": distinct(result.precision for result in results),
        "recipes": distinct(result.recipe for result in results),
        "versions": distinct(_versions(result.versions) for result in results if result.versions),
    }
    warnings = [f"mixed {what}: {'; '.join(values)}" for what, values in mixed.items() if len(values) > 1]
    declared = {name for result in results for name in result.declared_changes}
    if recipes := {name: values for name, values in varied.items() if name not in EXPECTED_DIFFERENCES | declared}:
        settings = "; ".join(f"{name} is {' or '.join(values)}" for name, values in recipes.items())
        warnings.append(f"mixed recipes: {settings}")
    shown: dict[tuple[int, str], set[str | None]] = {}
    for result in results:
        data = {name: value for name, value in sorted(result.declared_changes.items()) if name.startswith("data.")}
        shown.setdefault((result.seed, str(data)), set()).add(result.data_fingerprint)
    if any(len(fingerprints) > 1 for fingerprints in shown.values()):
        warnings.append("mixed data: networks with the same seed had different images, orders or augmentation")
    if contended := list(dict.fromkeys(run.network for run in runs if run.result.contended)):
        warnings.append(f"contended: other processes used the machine while {', '.join(contended)} trained")
    if untimed := list(dict.fromkeys(run.network for run in runs if run.result.value("train_epoch_s") is None)):
        warnings.append(f"no time per epoch: {', '.join(untimed)} did not reach the end of one")
    return warnings, varied, not warnings


def _variants(stored: StoredRuns) -> list[str]:
    """In the order of the manifest, where it has them."""
    trained = [run.result.variant for run in stored.finished if run.result.variant is not None]
    manifest = stored.manifest.get("variants")
    order = list(manifest) if isinstance(manifest, dict) else []
    return [name for name in dict.fromkeys([*order, *trained]) if name in trained]


def _declared_changes(groups: dict[str, list[StoredRun]]) -> list[str]:
    """Sentences about settings that differ between networks on purpose."""
    names: dict[str, list[str]] = {}
    for name, members in groups.items():
        changed = members[0].result.declared_changes.items()
        settings = ", ".join(f"{setting} = {value}" for setting, value in changed if value is not None)
        names.setdefault(settings, []).append(name)
    return [
        f"declared, not controlled: {settings} for {format_list(names[settings])}" for settings in names if settings
    ]


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))


def _percent(estimate: Estimate) -> Estimate:
    return Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high)


def _network(
    name: str, runs: Sequence[StoredRun], correct: statistics.Correct | None, levels: Sequence[int]
) -> Network:
    results = [run.result for run in runs]
    accuracies = [result.metrics["test_acc_pct"].value for result in results]
    names = set.intersection(*(set(result.metrics) for result in results))
    several = len(accuracies) > 1
    predictions = [run.predictions for run in runs if run.predictions]
    by_class = _by_class(runs) if correct is not None else {"class_acc_pct": [], "confusion": [], "mistakes": []}
    return Network(
        name=name,
        backbone=results[0].backbone,
        variant=results[0].variant,
        seeds=[result.seed for result in results],
        test_acc_pct=accuracies,
        accuracy_pct=_percent(_accuracy(accuracies, results[0].test_images, correct)),
        sd_points=float(np.std(accuracies, ddof=1)) if several else None,
        seeds_pct=statistics.seed_interval(accuracies) if several else None,
        metrics={name: over_seeds([result.metrics[name] for result in results]) for name in sorted(names)},
        contended=any(result.contended for result in results),
        architecture=next((result.architecture for result in results if result.architecture), {}),
        calibration=statistics.calibration(
            np.concatenate([run.confidence for run in predictions]).astype(np.float32),
            np.concatenate([run.predictions == run.labels for run in predictions]),
        )
        if predictions
        else None,
        **by_class,
        curves=_curves(runs),
        seconds_to_pct={level: _seconds_to(runs, level) for level in levels},
    )


def _accuracy(accuracies_pct: Sequence[float], images: int | None, correct: statistics.Correct | None) -> Estimate:
    if correct is not None:
        estimate = statistics.accuracy_estimate(correct)
    else:
        estimate = statistics.accuracy_from_shares([accuracy / 100 for accuracy in accuracies_pct], images)
    return _possible(estimate, least=0)


def _possible(estimate: Estimate, least: float) -> Estimate:
    """Clip an interval to possible values: with two seeds it may be wider. NaN stays NaN."""
    return Estimate(estimate.value, *np.clip([estimate.low, estimate.high], least, 1).tolist())


def _by_class(runs: Sequence[StoredRun]) -> dict[str, Any]:
    """Accuracy of each class, and the confusion over all seeds or, with many classes, the commonest mistakes."""
    predictions = [run.predictions for run in runs if run.predictions]
    labels = np.concatenate([run.labels for run in predictions]).astype(int)
    answers = np.concatenate([run.predictions for run in predictions]).astype(int)
    classes = 1 + int(max(labels.max(), answers.max()))
    images = np.maximum(np.bincount(labels, minlength=classes), 1)
    right = np.bincount(labels[labels == answers], minlength=classes)
    found: dict[str, Any] = {"class_acc_pct": (100 * right / images).tolist(), "confusion": [], "mistakes": []}
    if classes <= MOST_CLASSES:
        counts = np.bincount(labels * classes + answers, minlength=classes * classes)
        return {**found, "confusion": counts.reshape(classes, classes).tolist()}
    wrong = labels != answers
    pairs, counts = np.unique(labels[wrong] * classes + answers[wrong], return_counts=True)
    for index in np.argsort(-counts, kind="stable")[:MISTAKES]:
        label, answer = divmod(int(pairs[index]), classes)
        found["mistakes"].append(Mistake(label, answer, 100 * float(counts[index] / images[label])))
    return found


def _column(run: StoredRun, name: str, rows: int) -> np.ndarray:
    """A curve's first rows; NaN if there is no such curve."""
    if name not in run.curves:
        return np.full(rows, np.nan)
    return run.curves[name].to_numpy(float)[:rows]


def _curves(runs: Sequence[StoredRun]) -> Curves | None:
    lengths = [len(run.curves) for run in runs if "val/acc" in run.curves]
    if not lengths:
        return None
    rows = min(lengths)  # Early stopping ends seeds at different epochs; the curve goes as far as all of them.
    with_curves = [run for run in runs if "val/acc" in run.curves]

    def over_seeds(name: str) -> np.ndarray:
        return np.stack([_column(run, name, rows) for run in with_curves])

    validation = 100 * over_seeds("val/acc")
    return Curves(
        epochs=[int(epoch) for epoch in with_curves[0].curves["epoch"][:rows]],
        seconds=np.cumsum(over_seeds("time/train_epoch_s").mean(0)).tolist(),
        val_acc_pct=validation.mean(0).tolist(),
        lowest_pct=validation.min(0).tolist(),
        highest_pct=validation.max(0).tolist(),
        train_acc_pct=(100 * over_seeds("train/acc").mean(0)).tolist(),
        train_loss=over_seeds("train/loss").mean(0).tolist(),
        val_loss=over_seeds("val/loss").mean(0).tolist(),
    )


def _levels(runs: Sequence[StoredRun]) -> list[int]:
    """Up to four round validation accuracies, in percent, that at least one run reached."""
    best = max((100 * run.curves["val/acc"].max() for run in runs if "val/acc" in run.curves), default=0.0)
    rounded = [*range(10, 90, 10), 90, 92, 94, 95, 96, 97, 98, 99]
    return [level for level in rounded if level <= best][-4:]


def _seconds_to(runs: Sequence[StoredRun], level_pct: int) -> float | None:
    """Median over seeds of the training seconds until a validation accuracy is first reached; None unless all do."""
    seconds = [
        first_reached((100 * run.curves["val/acc"]).tolist(), run.curves["time/train_epoch_s"].tolist(), level_pct)
        for run in runs
        if {"val/acc", "time/train_epoch_s"} <= set(run.curves)
    ]
    reached = [value for value in seconds if value is not None]
    return float(np.median(reached)) if reached and len(reached) == len(seconds) else None


def _ranked(networks: list[Network], correct: dict[str, Any], timings_ranked: bool) -> list[Network]:
    """With Pareto front and rank stability."""
    added: list[dict[str, Any]] = [{} for _ in networks]
    timed = [network for network in networks if network.epoch_s is not None]
    if timings_ranked and len(timed) == len(networks):
        accuracies = [network.accuracy_pct.value for network in networks]
        dominating = statistics.dominated_by(accuracies, [network.epoch_s or 0.0 for network in networks])
        for more, index in zip(added, dominating, strict=True):
            more |= {"on_front": index is None, "dominated_by": None if index is None else networks[index].name}
    answers = [correct[network.name] for network in networks]
    if len(networks) > 1 and all(answer is not None for answer in answers):
        for more, shares in zip(added, statistics.rank_probabilities(answers), strict=True):
            more["rank_shares"] = shares.tolist()
    return [Network(**{**vars(network), **more}) for network, more in zip(networks, added, strict=True)]


def _pairs(
    networks: Sequence[Network],
    groups: dict[str, list[StoredRun]],
    correct: dict[str, statistics.Correct | None],
) -> list[Pair]:
    compared = []
    for first, second in itertools.combinations(networks, 2):
        seeds = [seed for seed in first.seeds if seed in second.seeds]
        difference = _difference(first, second, seeds, correct, groups[first.name][0].result.test_images)
        p_paired_t = None
        if len(seeds) > 1:
            p_paired_t = statistics.paired_t_p(
                *(_at(network.seeds, network.test_acc_pct, seeds) for network in (first, second))
            )
        compared.append((first.name, second.name, difference, p_paired_t))
    corrected = statistics.holm([difference.p for _, _, difference, _ in compared])
    return [
        Pair(
            first=first,
            second=second,
            points=_percent(_possible(difference.share, least=-1)),
            p=difference.p,
            p_holm=p_holm,
            differs=p_holm <= statistics.LEVEL,
            seeds=difference.seeds,
            method=difference.method,
            seeds_needed=difference.seeds_needed,
            p_paired_t=p_paired_t,
        )
        for (first, second, difference, p_paired_t), p_holm in zip(compared, corrected, strict=True)
    ]


def _at(seeds: Sequence[int], values: Any, chosen: Sequence[int]) -> list[Any]:
    return [values[seeds.index(seed)] for seed in chosen]


def _difference(
    first: Network, second: Network, seeds: Sequence[int], correct: dict[str, Any], images: int | None
) -> Difference:
    answers = [correct[network.name] for network in (first, second)]
    if seeds and all(answer is not None for answer in answers):
        paired = [
            answer[_at(network.seeds, range(len(answer)), seeds)]
            for answer, network in zip(answers, (first, second), strict=True)
        ]
        return statistics.paired_difference(*paired)
    first_shares, second_shares = (
        [accuracy / 100 for accuracy in _at(network.seeds, network.test_acc_pct, seeds or network.seeds)]
        for network in (first, second)
    )
    return statistics.difference_of_shares(first_shares, second_shares, images or 1, paired=bool(seeds))


def _hardest(runs: Sequence[StoredRun], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The test images that most runs got wrong, with the answer most often given."""
    answered = [run.predictions for run in runs if run.predictions]
    answered = [run for run in answered if np.array_equal(run.labels, answered[0].labels)]
    if len(answered) < 2:
        return []
    labels = answered[0].labels
    answers = np.stack([run.predictions for run in answered])
    wrong = (answers != labels).mean(0)

    return [
        {
            "image": int(image),
            "label": class_name(class_names, int(labels[image])),
            "answer": class_name(
                class_names, int(np.bincount(answers[:, image][answers[:, image] != labels[image]]).argmax())
            ),
            "wrong_pct": 100 * float(wrong[image]),
        }
        for image in np.argsort(-wrong, kind="stable")[:HARDEST]
        if wrong[image] > 0
    ]


def _without_result(stored: StoredRuns, problems: Sequence[ResultError]) -> list[dict[str, str]]:
    """Failed and unfinished runs, and unusable files, each with the reason."""

    def entry(path: Path, status: str, reason: str, log: str = "") -> dict[str, str]:
        return {"run": path.relative_to(stored.folder).as_posix(), "status": status, "reason": reason, "log": log}

    failed = [
        entry(
            run.folder,
            run.result.status,
            ("diverged: " if run.result.status == "diverged" else "") + (run.result.reason or "unknown"),
            "\n".join(run.result.log_tail),
        )
        for run in stored.runs
        if run.result.status != "finished"
    ]
    unfinished = [entry(path, "unfinished", UNFINISHED) for path in stored.unfinished]
    return failed + unfinished + [entry(error.path, "file", error.reason) for error in problems]
