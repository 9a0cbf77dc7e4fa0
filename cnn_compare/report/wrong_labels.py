"""Which labels the networks contradict with confidence.

Source:
    Northcutt, Jiang and Chuang 2021, arXiv:1911.00068, section 3.1: the confident joint, and its off-diagonal entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.integer[Any]]
Shares = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Doubts:
    """What one run's answers say of the labels.

    Args:
        instead: ``(N,)``, the class that is counted with confidence instead of the label; the label where none is.
        margin: ``(N,)``, from −1 to 1: the label's probability less that of the most probable other class.
    """

    instead: Classes
    margin: Shares


@dataclass(frozen=True)
class Suspicion:
    """A label that most networks contradict.

    Args:
        image: Its place among the images.
        instead: The class that the runs name most often.
        contradicted_pct: In how many runs, of each network the same part.
        margin: Mean of `Doubts.margin` over the networks; −1 is the strongest doubt.
    """

    image: int
    instead: int
    contradicted_pct: float
    margin: float


def doubts(labels: Classes, answers: Classes, probabilities: Shares) -> Doubts:
    """What a run says of labels that it was not trained with.

    A label is in doubt if the answer is another one, and of the classes whose probability is at least usual (that
    class's mean probability over the images labelled so) the most probable is another one.

    Args:
        labels: ``(N,)``.
        answers: ``(N,)``.
        probabilities: ``(N, classes)``; or ``(N,)``, those of the answers alone. Then the label's own probability,
            where it was not the answer, is taken for as large as it may be, so that fewer labels are in doubt.
    """
    with np.errstate(invalid="ignore"):  # A diverged network may have answered with infinite or NaN probabilities.
        return _doubts(labels, answers, probabilities)


def _doubts(labels: Classes, answers: Classes, probabilities: Shares) -> Doubts:
    right = labels == answers
    if probabilities.ndim == 1:
        answered = probabilities.astype(np.float32)
        of_label = np.where(right, answered, np.minimum(answered, 1 - answered))
        usual = _usual(labels, of_label, int(max(labels.max(), answers.max())) + 1)
        instead = np.where(right | (answered < usual[answers]), labels, answers)
        return Doubts(instead.astype(labels.dtype), of_label - np.where(right, 1 - answered, answered))
    rows = np.arange(len(labels))
    shares = probabilities.astype(np.float32)
    of_label = shares[rows, labels]
    usual = _usual(labels, of_label, shares.shape[1])
    confident = np.where(shares >= usual, shares, -1.0)
    most = confident.argmax(1)
    instead = np.where(right | (confident[rows, most] < 0), labels, most)
    shares[rows, labels] = -1.0
    return Doubts(instead.astype(labels.dtype), of_label - shares.max(1))


def _usual(labels: Classes, of_label: Shares, classes: int) -> Shares:
    """The mean probability that each class has on the images labelled so; infinity for a class without images."""
    images = np.bincount(labels, minlength=classes)
    means = np.bincount(labels, weights=of_label, minlength=classes) / np.maximum(images, 1)
    return np.where(images > 0, means, np.inf).astype(np.float32)


def suspicious(labels: Classes, networks: Sequence[Sequence[Doubts]]) -> list[Suspicion]:
    """Labels that most networks contradict, the most suspicious first.

    Args:
        labels: ``(N,)``.
        networks: Of each network, the doubts of its runs; every network counts the same.
    """
    if not networks:
        return []
    contradicted = np.mean([np.mean([run.instead != labels for run in runs], 0) for runs in networks], 0)
    margins = np.mean([np.mean([run.margin for run in runs], 0, np.float32) for runs in networks], 0)
    chosen = np.flatnonzero(contradicted > 0.5)
    found = []
    for image in chosen[np.argsort(margins[chosen], kind="stable")].tolist():
        named = [int(run.instead[image]) for runs in networks for run in runs]
        others = np.bincount([name for name in named if name != labels[image]])
        share, margin = 100 * float(contradicted[image]), float(margins[image])
        found.append(Suspicion(image, int(others.argmax()), share, margin))
    return found
