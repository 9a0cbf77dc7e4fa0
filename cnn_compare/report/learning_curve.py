"""Learning curves: test error over the number of training images, and what more images are likely to do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cnn_compare.report.intervals import LEVEL, Estimate, Vector

FEWEST_SIZES = 3
# Means beside every curve by chance alone are rarer than this; less clear ones widen the interval.
MISFIT = 0.01
# A curve whose last step is steeper than this exponent, and so many times as steep as the one before, is in a bend.
STEEP, BEND = 0.5, 2.0
# An interval wider than this says nothing that one would not have guessed.
WIDEST = 0.25
# So many curves are drawn, each as often as it is likely, and so many quantiles of what seeds make of each.
CURVES, QUANTILES = 1000, 20


@dataclass(frozen=True)
class LearningCurve:
    """Expected accuracies by the number of training images.

    Args:
        smallest: The fewest training images that it was fitted to.
        largest: The most.
        furthest: The most that anything is said about.
        exponent: ``b`` of ``error ~ images ** -b`` at the largest number, as the families have it on average.
        images: Numbers of training images, in equal steps of their logarithm.
        accuracies: Expected with each of them.
    """

    smallest: int
    largest: int
    furthest: int
    exponent: float
    images: list[float]
    accuracies: list[Estimate]

    def accuracy(self, images: float) -> Estimate:
        """The expected mean accuracy of as many seeds with so many training images, as a share.

        Its 95 % interval covers other seeds, the fit, the family of the curve, and other test images.

        Raises:
            ValueError: If the number is outside of what the curve says anything about.
        """
        if not self.smallest <= images <= self.furthest:
            raise ValueError(f"{images} training images are outside {self.smallest} … {self.furthest}")
        rows = [(each.value, each.low, each.high) for each in self.accuracies]
        return Estimate(
            *(float(np.interp(np.log(images), np.log(self.images), row)) for row in zip(*rows, strict=True))
        )


def fit_learning_curve(errors: Mapping[int, Sequence[float]], test_images: int) -> LearningCurve | str:
    """Fit families of falling curves to the test errors of one network, or say why nothing is to be believed.

    The families of `_shapes` are averaged: each curve counts by how well it goes through the means, and the interval
    spans what they disagree on. If the means do not fall, or lie further from every curve than seeds explain, the
    smallest number of images is left out, because a network may need some number to learn at all, and the others are
    tried; at least three remain. Three reach to twice the largest number, and more to four times.

    Args:
        errors: Number of training images -> error of each seed, as shares.
        test_images: How many; the same ones for all.

    Returns:
        The curve, or the reason why there is none.

    Source:
        Viering and Loog 2021, arXiv:2103.10948, for the families; Hoeting et al. 1999, doi:10.1214/ss/1009212519, for
        averaging them; Draper and Smith 1998, "Applied Regression Analysis", section 2.1, for the test of lack of fit.
    """
    sizes = sorted(errors)
    if len(sizes) < FEWEST_SIZES:
        return f"a curve takes at least {FEWEST_SIZES} numbers of training images, and there are {len(sizes)}"
    reason = ""
    for first in range(len(sizes) - FEWEST_SIZES + 1):
        fitted = _fit({size: errors[size] for size in sizes[first:]}, test_images)
        if isinstance(fitted, LearningCurve):
            return fitted
        reason = fitted
    return reason


def _fit(errors: Mapping[int, Sequence[float]], test_images: int) -> LearningCurve | str:
    sizes, counts = list(errors), np.array([len(of_size) for of_size in errors.values()])
    means = np.array([np.mean(of_size) for of_size in errors.values()])
    if counts.min() < 2:
        single = sizes[int(counts.argmin())]
        return f"one seed with {single:,} training images does not show how far chance goes: it takes two of each size"
    for smaller, larger in itertools.pairwise(range(len(sizes))):
        if means[larger] >= means[smaller]:
            return f"its mean accuracy does not rise from {sizes[smaller]:,} to {sizes[larger]:,} training images"
    if means[-1] == 0:
        return "every test image is answered right: there is no error left to fall"
    within = int(counts.sum()) - len(sizes)
    # Errors near 0 and 1 vary less with the seed, about as single answers do; that none was wrong, or right, does not
    # show that none ever is.
    answers = _answer_variance((means * test_images + 0.5) / (test_images + 1))
    squares = [np.square(np.array(of_size) - mean).sum() for of_size, mean in zip(errors.values(), means, strict=True)]
    # Equal accuracies of all seeds do not show that seeds make no difference.
    dispersion = max(float(np.sum(squares / answers)) / within, 4 / test_images**2)
    precisions = counts / answers
    # Each curve's height is known by least squares, and what it leaves unexplained is evidence of chance, as seeds are.
    shapes = _shapes(np.array(sizes) / sizes[-1])
    known = shapes**2 @ precisions
    heights = shapes @ (precisions * means) / known
    unexplained = np.square(means - heights[:, None] * shapes) @ precisions
    best, spare = int(unexplained.argmin()), max(1, len(sizes) - 3)
    p = float(stats.f.sf(unexplained[best] / spare / dispersion, spare, within))
    if p < MISFIT:
        beside = np.abs(means - heights[best] * shapes[best]).max()
        shown = ", ".join(f"{size:,}" for size in sizes)
        return (
            f"no usual curve goes through {shown} training images: its means are up to {100 * beside:.1f} points "
            f"beside the best one, further than seeds explain (p = {p:.1g})"
        )
    freedom = within + len(sizes) - 1
    chance = (within * dispersion + unexplained) / freedom
    logs = -0.5 * np.log(known) - 0.5 * freedom * np.log(chance)
    likely = np.exp(logs - logs.max()).cumsum()
    chosen = np.searchsorted(likely / likely[-1], (np.arange(CURVES) + 0.5) / CURVES)
    reach = 4 if len(sizes) > FEWEST_SIZES else 2
    steps = np.r_[np.geomspace(sizes[0] / sizes[-1], 1, 12, endpoint=False), 2 ** np.linspace(0, np.log2(reach), 9)]
    ahead = _shapes(steps)[chosen]
    expected = heights[chosen, None] * ahead
    of_mean = ahead**2 / known[chosen, None] + _answer_variance(expected) / counts.mean()
    deviations = np.sqrt(chance[chosen, None] * of_mean + _answer_variance(expected) / test_images)
    seeds = stats.t.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, freedom)
    drawn = 1 - (expected[:, None] + deviations[:, None] * seeds[:, None]).reshape(-1, len(steps))
    quantiles = np.clip(np.quantile(drawn, (0.5, LEVEL / 2, 1 - LEVEL / 2), axis=0), 0, 1)
    accuracies = [Estimate(*of_size) for of_size in quantiles.T.tolist()]
    doubled = accuracies[steps.tolist().index(2.0)]
    if doubled.high - doubled.low > WIDEST:
        interval = f"{100 * doubled.low:.0f} … {100 * doubled.high:.0f} %"
        return f"its seeds differ too much: for twice as many, all that can be said is {interval}"
    before, last = np.diff(np.log(means[-3:])) / np.diff(np.log(sizes[-3:]))
    if last < min(-STEEP, BEND * before):
        return (
            f"its error falls much faster from {sizes[-2]:,} to {sizes[-1]:,} than before: where that ends is not known"
        )
    exponents = np.log(_shapes(np.array([0.9]))[chosen, 0]) / -np.log(0.9)
    return LearningCurve(
        smallest=sizes[0],
        largest=sizes[-1],
        furthest=reach * sizes[-1],
        exponent=float(exponents.mean()),
        images=(steps * sizes[-1]).tolist(),
        accuracies=accuracies,
    )


def _shapes(sizes: Vector) -> Vector:
    """``(curves, sizes)``: errors as multiples of that at size 1, of four families on grids of two parameters each.

    A power and an exponential that fall to a floor, a power that is flat near chance, and one that ends: its error
    stops falling at some number beyond the data, as where labels are wrong or pictures ambiguous.
    """
    grid = np.meshgrid(np.geomspace(0.03, 16, 96), np.linspace(0, 0.98, 40) ** 2)
    steepness, other = (each.ravel()[:, None] for each in grid)
    ends, bend = 4**other, 0.05 * 100 ** np.sqrt(other)
    families = (
        other + (1 - other) * sizes**-steepness,
        other + (1 - other) * np.exp(steepness * (1 - sizes)),
        (1 + bend**-steepness) / (1 + (sizes / bend) ** steepness),
        np.minimum(sizes, ends) ** -steepness,
    )
    shapes: Vector = np.concatenate(families)
    return shapes


def _answer_variance(errors: Vector) -> Vector:
    clipped = np.clip(errors, 0, 1)
    variance: Vector = clipped * (1 - clipped)
    return variance
