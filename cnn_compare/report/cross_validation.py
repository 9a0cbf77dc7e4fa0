"""Intervals and tests of cross-validation, on top of scipy.

Each fold is tested by a network that the other folds trained. Networks are compared by their differences on the same
folds. These are not independent, because any two trainings share images: their plain variance of the mean is too small.
Nadeau and Bengio's correction adds the share of test to other images, in place of what cannot be estimated. What is
established then holds for other training images, test images and seeds. Shares run from 0 to 1.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cnn_compare.report.intervals import LEVEL, POWER, Difference, Error, Estimate, wilson_interval


@dataclass(frozen=True)
class Fold:
    """One network's result on one fold.

    Args:
        accuracy: Share of right answers.
        test_images: How many images were tested.
        folds: Number of folds that the images were cut into.
    """

    accuracy: float
    test_images: int
    folds: int


Folds = Mapping[tuple[int, int | None], Fold]
"""One network's folds, by seed and number."""


def corrected_error(values: Sequence[float], test_images: float, folds: float) -> Error:
    """The error of the mean of a value that each fold has: Student's, with one degree of freedom less.

    Args:
        values: One a fold, of all repeats; at least two.
        test_images: How many images are tested in a fold.
        folds: Number of folds that the images were cut into: there is one test image for ``folds - 1`` others.

    Source:
        Nadeau and Bengio 2003, doi:10.1023/A:1024068626366. For repeats: Bouckaert and Frank 2004,
        doi:10.1007/978-3-540-24775-3_3.
    """
    # Folds that all differ by the same do not show that none ever differs otherwise: one answer may in each.
    variance = max(float(np.var(values, ddof=1)), 1 / test_images**2)
    return Error(((math.sqrt(variance * (1 / len(values) + 1 / (folds - 1))), len(values) - 1.0),), 0.0)


def accuracy_estimate(results: Folds) -> Estimate:
    """Mean accuracy over folds, with an interval in the form of Wilson's; one fold alone leaves it open."""
    accuracies = [fold.accuracy for fold in results.values()]
    mean = float(np.mean(accuracies))
    if len(results) < 2:
        return Estimate(mean, 0.0, 1.0)
    test_images, folds = _sizes([*results.values()])
    half_width = corrected_error(accuracies, test_images, folds).half_width()
    return wilson_interval(mean, half_width, test_images * len(results) / len({seed for seed, _ in results}))


def fold_differences(networks: Sequence[Folds], pairs: Sequence[tuple[int, int]]) -> list[Difference]:
    """Compare pairs of networks on the folds that both have, with Holm's correction for how many pairs there are.

    Intervals are simultaneous. They are Bonferroni's; where Holm's test, which establishes more, excludes 0 and
    Bonferroni's interval does not, it ends just before 0.

    Args:
        networks: Their folds.
        pairs: Numbers of the networks: by how much the first is more accurate than the second. A pair with fewer than
            two folds in common has an open interval.

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6, 65. For the intervals: Guilbaud 2008,
        doi:10.1002/bimj.200710449.
    """
    found = [_difference(networks[first], networks[second], LEVEL / len(pairs)) for first, second in pairs]
    smallest_p, result = 0.0, dict[int, Difference]()
    for rank, index in enumerate(sorted(range(len(pairs)), key=lambda index: found[index].p)):
        share, p, error = found[index].share, found[index].p, found[index].error
        smallest_p = max(smallest_p, min(1.0, p * (len(pairs) - rank)))
        if smallest_p <= LEVEL:
            nearly_0 = sys.float_info.min
            low, high = (
                (max(share.low, nearly_0), share.high) if share.value > 0 else (share.low, min(share.high, -nearly_0))
            )
            share = Estimate(share.value, low, high)
        result[index] = Difference(share, p, smallest_p, error)
    return [result[index] for index in range(len(pairs))]


def smallest_difference(error: float, count: int, folds: int, repeats: int, pair_count: int = 1) -> float:
    """The smallest difference that is established in four comparisons of five with so many repeats.

    Args:
        error: Standard error of a difference, as `corrected_error` has it.
        count: Number of folds, of all repeats, behind that error.
        folds: Number of folds in a repeat.
        repeats: Number of repeats that are asked about.
        pair_count: How many pairs are compared.
    """
    runs = folds * repeats
    of_repeats = error * math.sqrt((1 / runs + 1 / (folds - 1)) / (1 / count + 1 / (folds - 1)))
    half_width = Error(((of_repeats, runs - 1.0),), 0.0).half_width(LEVEL / pair_count)
    return half_width + float(stats.norm.ppf(POWER)) * of_repeats


def shared_folds(first: Folds, second: Folds) -> list[tuple[int, int | None]]:
    """Seed and number of each fold that both networks have."""
    return [key for key in first if key in second and first[key].folds == second[key].folds]


def _difference(first: Folds, second: Folds, level: float) -> Difference:
    """The difference of one pair; its corrected p value is not corrected yet."""
    shared = shared_folds(first, second)
    values = [first[key].accuracy - second[key].accuracy for key in shared]
    if len(shared) < 2:
        means = [float(np.mean([fold.accuracy for fold in folds.values()])) for folds in (first, second)]
        return Difference(Estimate(means[0] - means[1], -1.0, 1.0), 1.0, 1.0, Error((), 0.0))
    error = corrected_error(values, *_sizes([network[key] for network in (first, second) for key in shared]))
    mean, half = float(np.mean(values)), error.half_width(level)
    p = error.p(mean)
    return Difference(Estimate(mean, max(mean - half, -1.0), min(mean + half, 1.0)), p, p, error)


def _sizes(results: Sequence[Fold]) -> tuple[float, float]:
    """Mean number of images that are tested in a fold, and the number of folds."""
    return float(np.mean([fold.test_images for fold in results])), float(np.mean([fold.folds for fold in results]))
