"""Leaks: test images that training has seen, and what they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnn_compare.formatting import format_list, format_number, format_signed
from cnn_compare.report import intervals
from cnn_compare.report.cross_validation import Folds, accuracy_estimate
from cnn_compare.report.findings import Findings
from cnn_compare.report.intervals import Estimate
from cnn_compare.report.load import StoredRun
from cnn_compare.report.section import Section, Table

# With exact copies of more than this share of the test images, a report says so at its top.
WARNED_SHARE = 0.01


@dataclass(frozen=True)
class Leaks:
    """Test images that training has seen.

    Args:
        exact: How many have an exact copy among the training images.
        near: How many have near copies alone.
        images: Test images in all.
        complete: Whether all pairs were compared; if not, there may be more.
        without_pct: Network -> accuracy on the other test images; empty where single answers are not at hand.
        leaked_pct: Network -> accuracy on the leaked ones.
    """

    exact: int
    near: int
    images: int
    complete: bool
    without_pct: dict[str, Estimate]
    leaked_pct: dict[str, float]


def of(found: Findings) -> Section | None:
    """Each network's accuracy with and without leaks."""
    leaks = leaks_of(found)
    if leaks is None:
        return None
    return Section("leaks", "Leaks", table=_table(found, leaks), json={"leaks": leaks})


def leaks_of(found: Findings) -> Leaks | None:
    """The leaks of a comparison; None where nobody looked for any."""
    if found.stored.pictures is None:
        return None
    leaked, answers = found.stored.pictures.leaked, found.answers
    places = leaked.exact + leaked.near
    seen = np.isin(answers.places, places)
    without, of_leaked = {}, {}
    if seen.any() and not seen.all():
        right = {
            name: np.stack([run.predictions == answers.labels for run in of]) for name, of in answers.networks.items()
        }
        of_leaked = {name: 100 * float(each[:, seen].mean()) for name, each in right.items()}
        if found.folds:
            estimates = [accuracy_estimate(_without(places, found.groups[name], found.folds[name])) for name in right]
        else:
            groups = None if answers.groups is None else answers.groups[~seen]
            samples = [intervals.Sample.of(each[:, ~seen], groups) for each in right.values()]
            estimates = intervals.accuracy_estimates(samples)
        without = dict(zip(right, map(intervals.percent, estimates), strict=True))
    return Leaks(len(leaked.exact), len(leaked.near), len(seen), leaked.complete, without, of_leaked)


def _without(places: Sequence[int], runs: Sequence[StoredRun], folds: Folds) -> Folds:
    """One network's folds without some images."""
    rest = {}
    for run in runs:
        answers, key = run.predictions, (run.result.seed, run.result.fold)
        if answers is not None and answers.rows is not None:
            right = (answers.predictions == answers.labels)[~np.isin(answers.rows, places)]
            if len(right):
                rest[key] = replace(folds[key], accuracy=float(right.mean()), test_images=len(right))
    return rest


def warning(found: Leaks | None, accuracies: Mapping[str, Estimate]) -> list[str]:
    """A warning of exact copies, or of leaks that change an accuracy by more than its interval.

    Args:
        found: The leaks.
        accuracies: Accuracies of all networks on all test images.
    """
    if found is None:
        return []
    changed = [
        name
        for name, without in found.without_pct.items()
        if not accuracies[name].low <= without.value <= accuracies[name].high
    ]
    if found.exact <= WARNED_SHARE * found.images and not changed:
        return []
    what = [f"{found.exact:,} of {found.images:,} test images have an exact copy among the training images"]
    what += [f"{found.near:,} look alike one of them"] if found.near else []
    what += [f"without them the accuracy of {format_list(changed)} is outside its interval"] if changed else []
    return [
        f"leaks: {'; '.join(what)}; the table of leaks has the accuracies without them, `cnn-compare data` the pairs"
    ]


def in_words(found: Leaks | None) -> str | None:
    """Words about how many there are."""
    if found is None:
        return None
    if found.exact + found.near == 0:
        return f"no test image has a copy among the training images{'' if found.complete else ', of those compared'}"
    return f"{found.exact:,} test images have an exact copy among the training images, {found.near:,} look alike one"


def _table(found: Findings, leaks: Leaks) -> Table | None:
    rows = []
    for network in found.networks:
        if rest := leaks.without_pct.get(network.name):
            accuracy, seen = network.accuracy_pct.value, leaks.leaked_pct[network.name]
            all_, others, seen_alone = (format_number(figure, ".2f") for figure in (accuracy, rest.value, seen))
            interval, points = f"{rest.low:.2f} … {rest.high:.2f}", format_signed(rest.value - accuracy, 2)
            rows.append([network.name, all_, others, interval, points, seen_alone])
    if not rows:
        return None
    not_all = " So many images are alike that the search was ended: there may be more."
    return Table(
        ["network", "test acc. %", "without leaks %", "95 %", "points", "leaks alone %"],
        rows,
        f"Leaks: the {leaks.exact + leaks.near:,} of {leaks.images:,} test images with an equal or alike one among the "
        f"training images, {leaks.exact:,} of them an exact one. The others look alike when small, which simple "
        "pictures, such as digits, do without being copies; mirrored, turned and cut copies are not found."
        f"{'' if leaks.complete else not_all}",
    )
