"""Labels that the networks contradict with confidence, and how many of these are likely to be wrong.

Source:
    Northcutt, Jiang and Chuang 2021, arXiv:1911.00068, section 3.1: the confident joint, and its off-diagonal entries;
    section 3.2: the order by normalised margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.integer[Any]]
Shares = NDArray[np.floating[Any]]

LEAST_PRECISION = 0.2
"""A list ends where fewer of its labels than this share are likely to be wrong."""
MOST_LISTED = 50
LEAST_EXPLAINED = 0.1
"""Wrong labels are only believed in where they explain at least this share of what is contradicted: less shows that the
networks are too weak to tell a wrong label from a hard image."""
MOST_RATE = 0.2
"""A larger share is never believed in: such a network has learned little, and is as sure where it is wrong."""


@dataclass(frozen=True)
class Doubts:
    """Doubts of labels from one run's answers.

    Args:
        instead: ``(N,)``, the class that is counted with confidence instead of the label; the label where none is.
        margin: ``(N,)``, from −1 to 1: the label's probability less that of the most probable other class.
        flipped_doubt: ``(N,)``, whether the label would be in doubt if it were `flipped`.
        flipped_margin: ``(N,)``, the margin that it would have then.
    """

    instead: Classes
    margin: Shares
    flipped_doubt: NDArray[np.bool_]
    flipped_margin: Shares


@dataclass(frozen=True)
class Suspicion:
    """A label that most networks contradict.

    Args:
        image: Its place among the images.
        instead: The class that the runs name most often.
        contradicted_pct: Percent of the runs that name another class, every network counting the same.
        margin: Mean of `Doubts.margin` over the networks; −1 is the strongest doubt.
    """

    image: int
    instead: int
    contradicted_pct: float
    margin: float


def flipped(labels: Classes, places: Classes, classes: int) -> Classes:
    """``(N,)``: for every image another class than its label, drawn by its place; the same on every machine."""
    drawn = (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)
    others = (drawn % np.uint64(max(classes - 1, 1))).astype(np.int64)
    return (labels.astype(np.int64) + 1 + others) % max(classes, 1)


def doubts(
    labels: Classes,
    answers: Classes,
    probabilities: Shares,
    places: Classes | None = None,
    known: tuple[Classes, Shares] | None = None,
) -> Doubts:
    """Find which labels a run's answers put in doubt; it was not trained with them.

    A label is in doubt if the answer is another one, and of the classes whose probability is at least usual (that
    class's mean probability over the images labelled so) the most probable is another one.

    Args:
        labels: ``(N,)``.
        answers: ``(N,)``.
        probabilities: ``(N, classes)``; or ``(N,)``, those of the answers alone. Then the label's own probability,
            where it was not the answer, is taken for as large as it may be, so that fewer labels are in doubt.
        places: ``(N,)``, each image's place among all, which labels are `flipped` by; None: their order.
        known: ``instead`` and ``margin``, where they were stored beside the probabilities of the answers alone.
    """
    places = np.arange(len(labels)) if places is None else places
    with np.errstate(invalid="ignore"):  # A diverged network may have answered with infinite or NaN probabilities.
        return _doubts(labels, answers, probabilities.astype(np.float32), places, known)


def _doubts(
    labels: Classes, answers: Classes, shares: Shares, places: Classes, known: tuple[Classes, Shares] | None
) -> Doubts:
    right, rows = labels == answers, np.arange(len(labels))
    if shares.ndim == 1:
        answered, classes = shares, int(max(labels.max(), answers.max())) + 1
        of_wrong: Shares = np.minimum(answered, 1 - answered) if known is None else answered + known[1]
        of_label: Shares = np.where(right, answered, of_wrong)
        usual = _usual(labels, of_label, classes)
        most, confident = answers, answered >= usual[answers]
        other = flipped(labels, places, classes)
        # The other classes share evenly what is left: the mean over all that a label may be flipped to.
        of_other: Shares = (1 - answered - np.where(right, 0, of_label)) / np.where(
            right, classes - 1, max(classes - 2, 1)
        )
        runner_up = np.where(right, 1 - answered, answered)
    else:
        answered, classes = shares[rows, answers], shares.shape[1]
        of_label = shares[rows, labels]
        sure = np.where(shares >= _usual(labels, of_label, classes), shares, -1.0)
        most = sure.argmax(1)
        confident = sure[rows, most] >= 0
        other = flipped(labels, places, classes)
        of_other = shares[rows, other]
        shares[rows, labels] = -1.0
        runner_up = shares.max(1)
    instead, margin = np.where(right | ~confident, labels, most), of_label - runner_up
    if known is not None:
        instead, margin = known
    agrees = answers == other
    return Doubts(
        instead.astype(labels.dtype),
        margin,
        ~agrees & confident & (most != other),
        np.where(agrees, answered - of_label, of_other - answered),
    )


def _usual(labels: Classes, of_label: Shares, classes: int) -> Shares:
    """The mean probability that each class has on the images labelled so; infinity for a class without images."""
    images = np.bincount(labels, minlength=classes)
    means = np.bincount(labels, weights=of_label, minlength=classes) / np.maximum(images, 1)
    return np.where(images > 0, means, np.inf).astype(np.float32)


def suspicious(labels: Classes, networks: Sequence[Sequence[Doubts]]) -> list[Suspicion]:
    """Labels that most networks contradict, the most suspicious first.

    Args:
        labels: ``(N,)``.
        networks: Doubts of each network's runs; every network counts the same.
    """
    if not networks:
        return []
    contradicted = _mean([[run.instead != labels for run in runs] for runs in networks])
    margins = _mean([[run.margin for run in runs] for runs in networks])
    chosen = np.flatnonzero(contradicted > 0.5)
    found = []
    for image in chosen[np.argsort(margins[chosen], kind="stable")].tolist():
        named = [int(run.instead[image]) for runs in networks for run in runs]
        others = np.bincount([name for name in named if name != labels[image]])
        share, margin = 100 * float(contradicted[image]), float(margins[image])
        found.append(Suspicion(image, int(others.argmax()), share, margin))
    return found


def _mean(networks: Sequence[Sequence[NDArray[Any]]]) -> Shares:
    """The mean over networks of each network's mean over its runs, image by image."""
    mean: Shares = np.mean([np.mean(runs, 0, np.float32) for runs in networks], 0)
    return mean


def precision(found: Sequence[Suspicion], networks: Sequence[Sequence[Doubts]]) -> Shares:
    """``(len(found),)``: about which share of so many labels listed first is wrong.

    Every label is flipped once: how many of these are at least as suspicious as the k-th that was found shows how
    easily a wrong label gets so far. There cannot be more wrong labels than would fill the list faster, at any length,
    than it is filled. A list of right labels of hard images fills late, where most flipped labels are far ahead.

    Args:
        found: All of them, as `suspicious` returns them.
        networks: See `suspicious`.
    """
    if not found:
        return np.empty(0)
    doubt = _mean([[run.flipped_doubt for run in runs] for runs in networks]) > 0.5
    margins = np.sort(_mean([[run.flipped_margin for run in runs] for runs in networks])[doubt])
    of_found = np.array([each.margin for each in found])
    # Of equal margins none comes first.
    ahead, count = (np.searchsorted(of_all, of_found, "right").astype(float) for of_all in (margins, of_found))
    rate = float(np.min(count / np.maximum(ahead, 1e-9)))
    if rate > MOST_RATE or rate * ahead[-1] / len(found) < LEAST_EXPLAINED:
        return np.zeros(len(found))
    shares: Shares = rate * ahead / (count + 1)  # One more, because so many wrong labels are the most there can be.
    return shares


def worth_a_look(found: Sequence[Suspicion], networks: Sequence[Sequence[Doubts]]) -> tuple[list[Suspicion], float]:
    """The first of the suspicious labels, as many as `LEAST_PRECISION` and `MOST_LISTED` allow, and their precision.

    Args:
        found: See `precision`.
        networks: See `suspicious`.

    Returns:
        The labels, and the share of them that is likely to be wrong; nothing, and 0, where none is worth it.
    """
    shares = precision(found, networks)[:MOST_LISTED]
    enough = np.flatnonzero(shares > LEAST_PRECISION)
    length = int(enough[-1]) + 1 if len(enough) else 0
    return list(found[:length]), float(shares[length - 1]) if length else 0.0
