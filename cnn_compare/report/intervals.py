"""Intervals and tests as pure functions, on top of scipy.

A measured accuracy varies with the seed of the run and with the sample of test images. Networks with several seeds are
compared by both: what is established holds for other seeds and other test images. A network with one seed is compared
by its answers to the test images alone: what is established holds for the trained network. Where test images belong to
groups, such as the pictures of one person, groups are taken as independent, and not the images. Shares run from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from scipy.special import digamma, expit, ndtr, polygamma

LEVEL = 0.05
POWER = 0.8
BINS = 15
# Seed variances of other networks count as much as this many seeds more, at most: with more, the tests are wrong too
# often where true deviations differ.
MOST_PRIOR_FREEDOM = 4.0
# A network keeps its own variance where it exceeds the others' by more than chance does in four cases of five.
STANDS_OUT = 0.8
# How often chance is drawn to see how large the largest of several errors becomes.
DRAWS = 20_000
# Where true deviations differ by three times and more, few seeds let more than 5 % of comparisons claim what is not so;
# `benchmarks/false_positives.py` has measured how many at most, with one network of five that deviates fifty times as
# much as the others. Estimated ones differ more, by chance.
UNLIKE = 5.0
MOST_FEW_SEEDS = 5
MOST_WRONG = 0.1
# From so many groups on, Student's t is as good as normal: at 95 % it is wider by 0.6 %.
MANY_GROUPS = 200

Correct = NDArray[np.bool_]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A difference in accuracy of two networks, as one of several that are looked at together.

    Args:
        share: The difference. All intervals together hold the truth in 95 % of comparisons.
        p: The p-value of this difference alone, without any correction for the others.
        p_corrected: How often chance makes the largest of all differences as clear as this one.
        error: Its error.
    """

    share: Estimate
    p: float
    p_corrected: float
    error: Error


@dataclass(frozen=True)
class Calibration:
    """Agreement of a network's confidence with its accuracy.

    Args:
        ece: Expected calibration error: the mean gap between confidence and accuracy, weighted by images; of several
            seeds, the mean of theirs.
        ece_by_chance: The error that chance exceeds in one case of twenty where confidence is always right.
        confidence: Mean confidence of each bin that is not empty, over all seeds.
        accuracy: Share of right answers in each bin.
        images: Number of answers in each bin.
    """

    ece: float
    ece_by_chance: float
    confidence: list[float]
    accuracy: list[float]
    images: list[int]


@dataclass(frozen=True)
class Sample:
    """One network's right and wrong answers, for the tests.

    Args:
        accuracies: Shares of right answers, one a seed.
        size: Number of test images; where they belong to groups, of groups.
        correct: ``(seeds, size)``, whether each answer was right: 0 or 1; of a group, what it makes of the accuracy,
            such that the mean over groups is the accuracy. None where single answers are not at hand.
        group_sizes: Number of images in each group; None where there are no groups.
    """

    accuracies: Sequence[float]
    size: int
    correct: Correct | Vector | None = None
    group_sizes: NDArray[np.integer] | None = None

    @classmethod
    def of(cls, correct: Correct, groups: NDArray[np.integer] | None = None) -> Sample:
        """Make a sample of answers ``(seeds, images)``; a single group is none: it says nothing about others.

        Args:
            correct: Whether each was right.
            groups: ``(images,)``, a number for each image's group; None: all images are independent.

        Source:
            For groups of unequal size, the linearised ratio of Cochran 1977, "Sampling Techniques", section 9A.
        """
        accuracies = correct.mean(1)
        ungrouped = cls(accuracies.tolist(), correct.shape[1], correct)
        if groups is None:
            return ungrouped
        _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if len(sizes) < 2:
            return ungrouped
        right = np.stack([np.bincount(numbers, each, len(sizes)) for each in correct])
        mean = accuracies.mean()
        by_group = mean + (right - mean * sizes) * len(sizes) / correct.shape[1]
        return cls(accuracies.tolist(), len(sizes), by_group, sizes)

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.accuracies)

    @cached_property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return float(np.mean(self.accuracies))

    @cached_property
    def effective_size(self) -> float:
        """The number of independent images that would leave a seed's accuracy as uncertain; at most all there are."""
        if self.group_sizes is None or self.correct is None:
            return self.size
        between = float(np.mean([accuracy * (1 - accuracy) for accuracy in self.accuracies]))
        if between == 0:  # All answers are right, or all wrong: as if every group were one image.
            return self.size
        variance = float(np.var(self.correct, axis=1, ddof=1).mean()) / self.size
        return min(between / variance if variance else math.inf, float(self.group_sizes.sum()))

    @cached_property
    def image_freedom(self) -> float:
        """Degrees of freedom with which the error of the test images is known: infinite, unless there are few groups.

        Groups of unequal size count for as many equal ones as leave the same variance.
        """
        if self.group_sizes is None:
            return math.inf
        sizes = self.group_sizes.astype(float)
        freedom = max(1.0, float(sizes.sum() ** 2 / (sizes**2).sum()) - 1)
        return freedom if freedom < MANY_GROUPS else math.inf

    @cached_property
    def image_means(self) -> Vector:
        """``(size,)``: the share of seeds that answered an image right."""
        assert self.correct is not None, "only where the answers are at hand"
        means: Vector = self.correct.mean(0)
        return means

    @cached_property
    def noise(self) -> float:
        """Variance of an answer that neither the image nor the seed's accuracy explains; of several seeds.

        It is that of the two-way analysis of variance, and the largest possible one where the answers are not at hand.
        It is never 0: that no answer changed with the seed does not show that none ever does.
        """
        if self.correct is None:
            noise = self.mean * (1 - self.mean)
        else:
            by_image = float(np.var(self.correct, axis=0, ddof=1).mean())
            noise = by_image - float(np.var(self.accuracies, ddof=1))
        return max(noise, self.size / self.effective_size**2)


@dataclass(frozen=True)
class SeedVariance:
    """Variance of one seed's accuracy on these test images, and the degrees of freedom that it is known with."""

    variance: float
    freedom: float


def seed_variances(samples: Sequence[Sample]) -> list[SeedVariance]:
    """Variance over seeds of each network, shrunken towards what the networks have in common.

    Three seeds alone say little about their variance. Where the variances of at least three such networks scatter no
    more than equal ones do by chance, their mean, weighted by degrees of freedom, is evidence as well. A network whose
    variance stands out keeps its own, and so does one with two seeds, because nothing shows what it is like. No
    variance is less than the noise of single answers, which equal accuracies of all seeds would hide.

    Args:
        samples: Samples of networks with at least two seeds each.

    Source:
        After Smyth 2004, doi:10.2202/1544-6115.1027, with bounded degrees of freedom; for networks whose variance
        stands out, Phipson et al. 2016, doi:10.1214/16-AOAS920.
    """
    variances = np.array([max(float(np.var(s.accuracies, ddof=1)), s.noise / s.size) for s in samples])
    freedoms = np.array([s.seeds - 1.0 for s in samples])
    shows = freedoms >= 2
    if _alike(variances[shows], freedoms[shows]):
        common = float(np.average(variances[shows], weights=freedoms[shows]))
        # Half of what the others know at most; and less for a network with fewer seeds, which has shown less of itself.
        most = min(MOST_PRIOR_FREEDOM, float(freedoms[shows].sum() - freedoms[shows].max()) / 2)
        prior_freedom = most * freedoms / freedoms.max()
        shrinks = shows & (variances / common <= stats.f.ppf(STANDS_OUT, freedoms, prior_freedom))
        freedoms += np.where(shrinks, prior_freedom, 0)
        variances = np.where(shrinks, variances + prior_freedom / freedoms * (common - variances), variances)
    return [SeedVariance(*each) for each in zip(variances.tolist(), freedoms.tolist(), strict=True)]


def _alike(variances: Vector, freedoms: Vector) -> bool:
    """Whether at least three networks' variances scatter no more than those of equal true ones do on average."""
    if len(variances) < 3:
        return False
    # Logarithms of sample variances, corrected for their bias, scatter by trigamma(freedom / 2) around a common value.
    logs = np.log(variances) - digamma(freedoms / 2) + np.log(freedoms / 2)
    return bool(np.var(logs, ddof=1) <= polygamma(1, freedoms / 2).mean())


# Where chi-squared variables are integrated: equal steps of the logit of their quantiles reach far into both tails.
LOGITS = np.linspace(-26, 26, 79)
WEIGHTS = expit(LOGITS) * expit(-LOGITS) * (LOGITS[1] - LOGITS[0])


@lru_cache(maxsize=1024)
def _variance_factors(freedom: float) -> Vector:
    """Possible true variances at each of `LOGITS`, as factors of the estimated one: ``freedom / chi2``."""
    low = stats.chi2.ppf(expit(LOGITS), freedom)
    high = stats.chi2.isf(expit(-LOGITS), freedom)  # Precise where ``low`` is not, and the other way round.
    factors: Vector = freedom / np.maximum(np.where(LOGITS > 0, high, low), 1e-300)
    return factors


@dataclass(frozen=True)
class Error:
    """The error of a mean accuracy, or of a difference of two.

    Each network's error over seeds is Student's, with its own degrees of freedom; the error of the test images is
    normal, as there are many of them, or Student's where there are groups. The sum of two networks' errors is Behrens
    and Fisher's problem. With three seeds of each and more it is solved by the prior that keeps the level in repeated
    comparisons: in effect, the network whose variance matters less is known with two degrees of freedom more. With two
    seeds that would be wrong too often, and the solution is Fisher's own.

    Args:
        seeds: Standard error and degrees of freedom, for each network with several seeds.
        image_error: Standard error that other test images add.
        image_freedom: Degrees of freedom with which that is known.

    Source:
        Ghosh and Kim 2001, doi:10.2307/3316047; Fisher 1935, doi:10.1111/j.1469-1809.1935.tb02120.x.
    """

    seeds: tuple[tuple[float, float], ...]
    image_error: float
    image_freedom: float = math.inf

    @cached_property
    def _deviations(self) -> tuple[Vector, Vector]:
        """Standard deviations that the error may have, and how probable each is."""
        # Three terms are many points. Twice the step is precise to 1e-4, but not where a network has two seeds.
        few = min((freedom for _, freedom in self.seeds), default=1) < 2
        step = 2 if len(self.seeds) > 1 and math.isfinite(self.image_freedom) and not few else 1
        squares, weights = np.zeros(1), np.ones(1)
        matching = len(self.seeds) == 2 and not few
        for error, freedom in self.seeds:
            factors = _variance_factors(freedom)[::step]
            squares = (squares[:, None] + error**2 * factors).ravel()
            weights = (weights[:, None] * step * WEIGHTS[::step] / (factors if matching else 1.0)).ravel()
        if matching and squares.any():
            weights = weights * squares / (weights @ squares)
        if math.isfinite(self.image_freedom):
            squares = (squares[:, None] + self.image_error**2 * _variance_factors(self.image_freedom)[::step]).ravel()
            weights = (weights[:, None] * step * WEIGHTS[::step]).ravel()
        else:
            squares = squares + self.image_error**2
        matter = weights > 1e-16
        return np.sqrt(squares[matter]), weights[matter]

    def p(self, distance: float) -> float:
        """The probability that chance alone takes the value at least this far, to either side."""
        deviations, weights = self._deviations
        if distance == 0 or not deviations.any():
            return float(distance == 0)
        return min(1.0, 2 * float(weights @ ndtr(-abs(distance) / np.maximum(deviations, 1e-300))))

    def half_width(self, level: float = LEVEL) -> float:
        """Half of an interval that misses the truth in a share ``level`` of cases."""
        # Each error beyond such a bound in its part of the level: their sum is within all bounds together.
        part = level / (2 * (len(self.seeds) + 1))
        most = self.image_error * stats.t.isf(part, self.image_freedom) + sum(
            error * stats.t.isf(part, df) for error, df in self.seeds
        )
        return float(brentq(lambda distance: self.p(distance) - level, 0, 1.1 * most, rtol=1e-7)) if most else 0.0


def accuracy_estimates(samples: Sequence[Sample]) -> list[Estimate]:
    """Mean accuracy of each network, with an interval for other test images and, with several seeds, other seeds.

    With one seed the interval is Wilson's. With several, it is that of `Error` in the form of Wilson's: accuracies
    near 0 and 1 have intervals that are not symmetric.

    Args:
        samples: Samples of one comparison, on the same test images.

    Source:
        Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    several = [sample for sample in samples if sample.seeds > 1]
    variances = iter(seed_variances(several) if several else [])
    estimates = []
    for sample in samples:
        if sample.seeds == 1:
            estimates.append(share_estimate(sample.mean, sample.effective_size, sample.image_freedom))
            continue
        variance = next(variances)
        by_images = float(_image_covariance([sample])[0, 0])
        of_seeds = ((math.sqrt(variance.variance / sample.seeds), variance.freedom),)
        error = Error(of_seeds, math.sqrt(by_images), sample.image_freedom)
        estimates.append(wilson_interval(sample.mean, error.half_width(), sample.effective_size))
    return estimates


def percent(estimate: Estimate) -> Estimate:
    """Convert to percent, within what is possible: intervals of two seeds may be wider."""
    return Estimate(100 * estimate.value, max(100 * estimate.low, -100.0), min(100 * estimate.high, 100.0))


def share_estimate(share: float, size: float, freedom: float = math.inf) -> Estimate:
    """Share of images answered right, with Wilson's interval: for other test images, not for other seeds.

    Args:
        share: The share of one seed, or the mean over several.
        size: Number of independent images; with none the interval is open (NaN).
        freedom: See `Sample.image_freedom`.
    """
    if size == 0:
        return Estimate(share, math.nan, math.nan)
    half_width = Error((), math.sqrt(share * (1 - share) / size), freedom).half_width()
    return wilson_interval(share, half_width, size)


def balanced_estimate(recalls: Sequence[Estimate], together: float = 1.0) -> Estimate:
    """Mean of recalls, with the interval that theirs give: distances from value to limit, in quadrature.

    Args:
        recalls: Recalls of the classes.
        together: How many times the variance of independent recalls their mean has, as `variance_together` gives it.

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    values, lows, highs = np.array([(recall.value, recall.low, recall.high) for recall in recalls]).T
    wider = math.sqrt(together) / len(recalls)
    below, above = (wider * float(np.linalg.norm(values - limits)) for limits in (lows, highs))
    mean = float(values.mean())
    return Estimate(mean, max(mean - below, 0.0), min(mean + above, 1.0))


def variance_together(right: Correct, labels: NDArray[np.integer], groups: NDArray[np.integer]) -> float:
    """The variance of mean recall, as a multiple of independent recalls', where groups have images of several classes.

    Args:
        right: ``(N,)``, whether each answer was right.
        labels: ``(N,)``, classes.
        groups: ``(N,)``, a number for each image's group.

    Returns:
        At least 1: recalls that vary against each other count as independent.
    """
    _, classes, images = np.unique(labels, return_inverse=True, return_counts=True)
    _, numbers = np.unique(groups, return_inverse=True)
    recalls = np.bincount(classes, right) / images
    sums = np.zeros((numbers.max() + 1, len(images)))
    np.add.at(sums, (numbers, classes), (right - recalls[classes]) / images[classes])
    apart = float((sums**2).sum())
    return max(1.0, float((sums.sum(1) ** 2).sum()) / apart) if apart else 1.0


def wilson_interval(mean: float, half_width: float, size: float) -> Estimate:
    """An interval of a mean between 0 and 1, by the half width that it would have if it were symmetric."""
    # Wilson's z² / n. A mean of 0 or 1 has no half width to take it from: then it is that of the images alone.
    between = mean * (1 - mean)
    ratio = half_width**2 / between if between else float(stats.norm.isf(LEVEL / 2)) ** 2 / size
    middle = (mean + ratio / 2) / (1 + ratio)
    half = math.sqrt(ratio * between + ratio**2 / 4) / (1 + ratio)
    return Estimate(mean, max(middle - half, 0.0), min(middle + half, 1.0))


def _image_covariance(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """``(networks, networks)``: how mean accuracies vary together when other test images are drawn."""
    size = samples[0].size
    grouped = samples[0].group_sizes is not None
    if any(sample.correct is None for sample in samples):
        # As if no two networks had anything in common, and no two seeds of one network differed: the most it can be.
        return np.diag([sample.mean * (1 - sample.mean) for sample in samples]) / size
    # Groups may be few, so that one degree of freedom less matters.
    covariance = np.atleast_2d(np.cov(np.stack([sample.image_means for sample in samples]), bias=not grouped))
    covariance -= np.diag([sample.noise / sample.seeds if sample.seeds > 1 else 0.0 for sample in samples])
    # Without the noise the estimate may be no covariance any more; this is the nearest one that is.
    values, vectors = np.linalg.eigh(covariance)
    nearest: NDArray[np.float64] = (vectors * np.maximum(values, 0)) @ vectors.T / size
    return nearest


def sample_differences(
    samples: Sequence[Sample], pairs: Sequence[tuple[int, int]], level: float = LEVEL
) -> list[Difference]:
    """Compare pairs of networks on the same test images, with a correction for how many pairs there are.

    The correction is that of the largest error among all pairs, drawn from the same model as each single error: Tukey's
    for all pairs, and Dunnett's for pairs with one network in common, with unequal variances and correlated images. A
    difference is established at ``level`` if its interval excludes 0.

    Args:
        samples: All with one seed, or all with several.
        pairs: Numbers of the networks in ``samples``: by how much the first is more accurate than the second.
        level: The share of comparisons in which an interval may miss the truth: less than `LEVEL` where other families
            of pairs, or other looks at the same ones, have their share of it. Corrected p values are for `LEVEL`.

    Source:
        Tukey 1953, "The problem of multiple comparisons"; Dunnett 1955, doi:10.1080/01621459.1955.10501294. For one
        seed: Agresti and Min 2005, doi:10.1002/sim.1781, who count one image more that tells two networks apart.
    """
    if not pairs:
        return []
    seed_errors: list[tuple[tuple[float, float], ...]] = [()] * len(samples)
    if samples[0].seeds > 1:
        seed_errors = [
            ((math.sqrt(each.variance / sample.seeds), each.freedom),)
            for sample, each in zip(samples, seed_variances(samples), strict=True)
        ]
    size, freedom = min(sample.effective_size for sample in samples), min(each.image_freedom for each in samples)
    covariance = _image_covariance(samples) + np.eye(len(samples)) / (2 * size**2)
    errors = [
        Error(
            seed_errors[first] + seed_errors[second],
            math.sqrt(covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]),
            freedom,
        )
        for first, second in pairs
    ]
    half_widths = [error.half_width(level / len(pairs)) for error in errors]
    largest = _largest_errors(seed_errors, covariance, freedom, pairs, half_widths)
    scale = min(float(np.quantile(largest, 1 - level)), 1.0)  # Bonferroni's bound, 1, holds anyway.
    found = []
    for (first, second), error, half_width in zip(pairs, errors, half_widths, strict=True):
        value, half = samples[first].mean - samples[second].mean, scale * half_width
        p = error.p(value)
        p_corrected = min(max(float(np.mean(largest >= abs(value) / half_width)), p), p * len(pairs))
        p_corrected = min(p_corrected * LEVEL / level, 1.0)
        found.append(Difference(Estimate(value, value - half, value + half), p, p_corrected, error))
    return found


def _largest_errors(
    seed_errors: Sequence[tuple[tuple[float, float], ...]],
    covariance: NDArray[np.float64],
    freedom: float,
    pairs: Sequence[tuple[int, int]],
    half_widths: Sequence[float],
) -> Vector:
    """``(DRAWS,)``: the largest error of a pair, as a share of its half width, each time chance is drawn."""
    generator = np.random.default_rng(0)
    # Cholesky's factor is unique; the signs of eigenvectors, and with them the draws, differ from machine to machine.
    errors = np.linalg.cholesky(covariance) @ generator.normal(size=(len(covariance), DRAWS))
    if math.isfinite(freedom):  # One draw for all networks: they are tested on the same groups.
        errors *= np.sqrt(freedom / generator.chisquare(freedom, DRAWS))
    for network, of_network in enumerate(seed_errors):
        for error, freedom in of_network:
            errors[network] += error * generator.standard_t(freedom, DRAWS)
    largest = np.zeros(DRAWS)
    for (first, second), half_width in zip(pairs, half_widths, strict=True):
        np.maximum(largest, np.abs(errors[first] - errors[second]) / half_width, out=largest)
    return largest


def smallest_difference(seeds: int, deviation: float, image_error: float, pair_count: int = 1) -> float:
    """The smallest difference that is established in four comparisons of five, by networks whose seeds vary alike.

    Args:
        seeds: Number of seeds of each network. With one, the difference is that of the trained networks.
        deviation: Standard deviation of one seed's accuracy on the same test images; of no effect with one seed.
        image_error: Standard error of a difference from the test images.
        pair_count: How many pairs are compared.
    """
    error = deviation / math.sqrt(seeds) if seeds > 1 else 0.0
    of_seeds = (error, seeds - 1 + (MOST_PRIOR_FREEDOM if seeds > 2 and pair_count > 1 else 0))
    half_width = Error((of_seeds, of_seeds) if seeds > 1 else (), image_error).half_width(LEVEL / pair_count)
    return half_width + float(stats.norm.ppf(POWER)) * math.hypot(error, error, image_error)


def deviations_differ(deviations: Sequence[float], seeds: Sequence[int]) -> bool:
    """Whether deviations over few seeds differ so much that more than 5 % of comparisons claim what is not so.

    Args:
        deviations: Standard deviation over seeds of each network with several; none is 0.
        seeds: How many each of these has.
    """
    few = any(3 <= count <= MOST_FEW_SEEDS for count in seeds)
    if not few or len(deviations) < 2 or max(deviations) <= UNLIKE * min(deviations):
        return False
    return not _alike(np.square(deviations), np.array(seeds) - 1.0)


def calibration(
    confidence: NDArray[np.float32],
    right: Correct,
    groups: NDArray[np.integer] | None = None,
) -> Calibration:
    """Expected calibration error, of the most probable class, and its bins: of equal width, with their upper bounds.

    The error is that of each seed, and then their mean. What chance makes of it is drawn over images or groups, on
    which all seeds are wrong together: more seeds are not more images.

    Args:
        confidence: ``(seeds, images)``, the probability of each answer.
        right: ``(seeds, images)``, whether it was right.
        groups: ``(images,)``, a number for each image's group; None: all images are independent.

    Source:
        Guo et al. 2017, arXiv:1706.04599; for the draws, the wild bootstrap of Wu 1986, doi:10.1214/aos/1176350142.
    """
    seeds, images = confidence.shape
    _, numbers = np.unique(np.arange(images) if groups is None else groups, return_inverse=True)
    bin_index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.zeros((numbers.max() + 1, seeds, BINS))
    np.add.at(gaps, (numbers, np.arange(seeds)[:, None], bin_index), right - confidence.astype(float))
    by_group = gaps.reshape(len(gaps), -1)
    # Draws of one sign a group have this covariance; of its roots the symmetric one is the same on all machines.
    values, vectors = np.linalg.eigh(by_group.T @ by_group)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    by_chance = np.abs(np.random.default_rng(0).normal(size=(1000, len(root))) @ root).sum(1) / (seeds * images)
    count = np.bincount(bin_index.ravel(), minlength=BINS)
    filled = count > 0
    return Calibration(
        ece=float(np.abs(gaps.sum(0)).sum() / (seeds * images)),
        ece_by_chance=float(np.quantile(by_chance, 1 - LEVEL)),
        confidence=(np.bincount(bin_index.ravel(), confidence.ravel(), BINS)[filled] / count[filled]).tolist(),
        accuracy=(np.bincount(bin_index.ravel(), right.ravel(), BINS)[filled] / count[filled]).tolist(),
        images=count[filled].tolist(),
    )
