"""Intervals, tests and rankings as pure functions, on top of scipy and statsmodels.

A measured accuracy varies with the seed of the run and with the sample of test images. Networks are compared image by
image and seed by seed; the intervals cover both sources wherever the data shows both. Shares run from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from scipy.special import stdtr
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.05
POWER = 0.8
CALIBRATION_BINS = 15

Correct = NDArray[np.bool_]
Scores = NDArray[np.int8] | NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much more accurate one network is than another.

    Args:
        share: The difference with its 95 % interval, of this pair alone.
        p: Of the test that there is none, before any correction for other pairs.
        seeds: How many seeds both networks have in common.
        method: Name of the test.
        seeds_needed: With how many seeds a difference of this size would be found in four comparisons of five; None
            where one seed cannot tell, `math.inf` where only more test images would help.
    """

    share: Estimate
    p: float
    seeds: int
    method: str
    seeds_needed: float | None = None


@dataclass(frozen=True)
class Calibration:
    """How well a network's confidence agrees with its accuracy.

    Args:
        ece: Expected calibration error: the mean gap between confidence and accuracy, weighted by images.
        confidence: Mean confidence of each bin that is not empty.
        accuracy: Share of right answers in each bin.
        images: Number of images in each bin.
    """

    ece: float
    confidence: list[float]
    accuracy: list[float]
    images: list[int]


def accuracy_estimate(correct: Correct) -> Estimate:
    """Accuracy over seeds, with its interval: Wilson's for one seed, else `CrossedMean`'s.

    Args:
        correct: ``(seeds, images)``, whether each answer was right.

    Source:
        Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    seeds, images = correct.shape
    if seeds == 1:
        right = int(correct.sum())
        low, high = proportion_confint(right, images, LEVEL, method="wilson")
        return Estimate(right / images, float(low), float(high))
    return CrossedMean.of(correct.astype(np.int8)).estimate


def accuracy_from_shares(shares: Sequence[float], images: int | None) -> Estimate:
    """As `accuracy_estimate`, where the answers to single images are not at hand.

    Args:
        shares: Accuracies, one a seed.
        images: Size of the test set; None leaves the interval open (NaN).
    """
    mean = float(np.mean(shares))
    if images is None:
        return Estimate(mean, math.nan, math.nan)
    if len(shares) == 1:
        low, high = proportion_confint(round(mean * images), images, LEVEL, method="wilson")
        return Estimate(mean, float(low), float(high))
    return CrossedMean(mean, _standard_error(shares), _image_error(shares, images), len(shares) - 1).estimate


def recall_estimate(share: float, images: int) -> Estimate:
    """Share of a class's images answered right, with Wilson's interval: for other test images, not for other seeds.

    Args:
        share: Mean over seeds.
        images: Of the class in the test set; with none the interval is open (NaN).

    Source:
        Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if images == 0:
        return Estimate(share, math.nan, math.nan)
    square = float(stats.norm.ppf(1 - LEVEL / 2)) ** 2 / images
    center = (share + square / 2) / (1 + square)
    half_width = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return Estimate(share, max(center - half_width, 0.0), min(center + half_width, 1.0))


def balanced_estimate(recalls: Sequence[Estimate]) -> Estimate:
    """Mean of independent recalls, with the interval that theirs give: distances from value to limit, in quadrature.

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    values, lows, highs = np.array([(recall.value, recall.low, recall.high) for recall in recalls]).T
    below, above = (float(np.linalg.norm(values - limits)) / len(recalls) for limits in (lows, highs))
    return Estimate(float(values.mean()), float(values.mean()) - below, float(values.mean()) + above)


def _standard_error(values: Sequence[float]) -> float:
    """Of the mean of at least two values."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def _image_error(shares: Sequence[float], images: int) -> float:
    """What other test images can change in the mean accuracy at most: as if all seeds were wrong on the same ones."""
    mean = float(np.mean(shares))
    return math.sqrt(mean * (1 - mean) / images)


# A normal distribution in steps, of which each is worth its density.
Z = np.linspace(-8.5, 8.5, 2001)
NORMAL = stats.norm.pdf(Z) * (Z[1] - Z[0])


@dataclass(frozen=True)
class CrossedMean:
    """Mean of a table whose rows (seeds) and columns (images) are both samples, with an error for each.

    The first error is Student's, with ``seeds - 1`` degrees of freedom: other seeds on these images. The second is what
    other images would change beyond that, from the two-way analysis of variance; there are so many images that it
    counts as known. Together they are Behrens and Fisher's problem, solved as they did: where images add nothing this
    is exactly the t-test over seeds, and nowhere is it more often wrong than it says.

    Source:
        Fisher 1935, doi:10.1111/j.1469-1809.1935.tb02120.x.
    """

    mean: float
    seed_error: float
    image_error: float
    freedom: int

    @classmethod
    def of(cls, values: Scores) -> CrossedMean:
        """Of a table ``(seeds, images)``, at least two of each."""
        seeds, images = values.shape
        by_seed, by_image, rest = _mean_squares(values)
        beyond = max(by_image - rest, 0.0)
        count = seeds * images
        return cls(float(values.mean()), math.sqrt(by_seed / count), math.sqrt(beyond / count), seeds - 1)

    def p(self, distance: float) -> float:
        """How often chance alone takes a mean at least this far, to either side."""
        if self.seed_error <= 1e-3 * self.image_error:  # Narrower than the steps of the integral below.
            return 2 * float(stats.norm.sf(distance / self.image_error)) if self.image_error else float(distance == 0)
        # The wider the seeds' part, the smoother what is summed: a tenth of the steps then gives ten digits as well.
        every = 10 if self.seed_error > 0.3 * self.image_error else 1
        moved = distance - Z[::every] * self.image_error
        tails = stdtr(self.freedom, -moved / self.seed_error)
        return min(1.0, 2 * every * float(NORMAL[::every] @ tails))

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval: every value that the test would not refuse."""
        if self.seed_error == self.image_error == 0:
            return Estimate(self.mean, self.mean, self.mean)
        most = float(stats.t.ppf(1 - LEVEL / 4, self.freedom)) * self.seed_error + 4 * self.image_error
        half = brentq(lambda distance: self.p(distance) - LEVEL, 0, most, xtol=1e-9)
        return Estimate(self.mean, self.mean - half, self.mean + half)


def _mean_squares(values: Scores) -> tuple[float, float, float]:
    """Mean squares between seeds, between images, and of what is left: the whole less the other two."""
    seeds, images = values.shape
    mean, seed_means, image_means = values.mean(), values.mean(1), values.mean(0)
    by_seed = images * float(((seed_means - mean) ** 2).sum())
    by_image = seeds * float(((image_means - mean) ** 2).sum())
    # Without a table of floats, which a thousand seeds would make large.
    squares = np.einsum("si,si->", values, values, dtype=np.float64)
    rest = squares - seeds * images * mean**2 - by_seed - by_image
    return by_seed / (seeds - 1), by_image / (images - 1), max(float(rest), 0.0) / ((seeds - 1) * (images - 1))


def seed_interval(accuracies: Sequence[float]) -> Estimate:
    """Student's t interval of the mean over seeds: what other seeds would give on these very test images.

    Args:
        accuracies: One a seed, at least two.
    """
    half = float(stats.t.ppf(1 - LEVEL / 2, len(accuracies) - 1)) * _standard_error(accuracies)
    mean = float(np.mean(accuracies))
    return Estimate(mean, mean - half, mean + half)


def paired_difference(first: Correct, second: Correct) -> Difference:
    """Compare two networks on the same images, seed by seed.

    One seed: exact McNemar test, and Agresti and Min's interval; it says that these two trained networks differ, and
    nothing about other seeds. Several: the mean difference over seeds and images, by `CrossedMean`.

    Args:
        first: ``(seeds, images)``, whether each answer was right.
        second: The same of the other network, with the same seeds in the same order.

    Source:
        McNemar 1947, doi:10.1007/BF02295996; Agresti and Min 2005, doi:10.1002/sim.1781.
    """
    seeds, images = first.shape
    if seeds == 1:
        only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
        test = mcnemar([[0, only_first], [only_second, 0]], exact=True)
        # Half an image more in each of the four cells keeps the interval honest when hardly any image tells them apart.
        more, fewer, total = only_first + 0.5, only_second + 0.5, images + 2
        middle = (more - fewer) / total
        half = float(stats.norm.ppf(1 - LEVEL / 2)) * math.sqrt((more + fewer) / total - middle**2) / math.sqrt(total)
        share = Estimate((only_first - only_second) / images, middle - half, middle + half)
        return Difference(share, float(test.pvalue), 1, "exact McNemar")
    values = first.astype(np.int8) - second
    crossed = CrossedMean.of(values)
    method = "paired t over seeds, widened for other test images"
    return Difference(crossed.estimate, crossed.p(abs(crossed.mean)), seeds, method, seeds_needed(values))


def difference_of_shares(first: Sequence[float], second: Sequence[float], images: int, paired: bool) -> Difference:
    """Compare two networks by their accuracies alone, where the answers to single images are not at hand.

    The error over seeds and its degrees of freedom are those of `paired_difference`. The error of the test images is
    that of two independent sets of images, which is larger: fewer data never make a difference surer.

    Args:
        first: Accuracies of one network, one a seed.
        second: Those of the other.
        images: Size of the test set.
        paired: Whether both have the same seeds in the same order. If not, Welch's error, with the degrees of freedom
            of the network with fewer seeds.

    Source:
        Welch 1938, doi:10.1093/biomet/29.3-4.350.
    """
    seeds = min(len(first), len(second))
    if seeds == 1:
        seed_error, method = 0.0, "two proportions"
    elif paired:
        seed_error, method = _standard_error(np.subtract(first, second).tolist()), "paired t over seeds"
    else:
        seed_error, method = math.hypot(_standard_error(first), _standard_error(second)), "Welch's t over seeds"
    image_error = math.hypot(_image_error(first, images), _image_error(second, images))
    mean = float(np.mean(first)) - float(np.mean(second))
    crossed = CrossedMean(mean, seed_error, image_error, max(seeds - 1, 1))
    return Difference(crossed.estimate, crossed.p(abs(mean)), seeds, f"{method}, from accuracies alone")


def paired_t_p(first: Sequence[float], second: Sequence[float]) -> float:
    """P of Student's paired test over seeds: whether other seeds would agree, on these very test images.

    Args:
        first: Accuracies of one network, one a seed, at least two.
        second: Those of the other, with the same seeds in the same order.
    """
    differences = np.subtract(first, second)
    if np.ptp(differences) < 1e-9:  # scipy divides by the deviation.
        return float(abs(differences[0]) < 1e-9)
    return float(stats.ttest_rel(first, second).pvalue)


def seeds_needed(values: Scores, most: int = 1000) -> float:
    """How many seeds find a difference as large as the one seen, in four comparisons of five.

    Args:
        values: ``(seeds, images)``, the difference between two networks' answers.
        most: Beyond it the answer is `math.inf`.
    """
    seeds, images = values.shape
    by_seed, by_image, rest = _mean_squares(values)
    of_seeds = max(by_seed - rest, 0.0) / images
    of_images = max(by_image - rest, 0.0) / seeds
    size = abs(float(values.mean()))
    if size == 0:
        return math.inf

    def power(count: int) -> float:
        variance = of_seeds / count + of_images / images + rest / (count * images)
        effect = size / math.sqrt(max(variance, 1e-300) * count)
        # One-sided, and no further than where it is 1 anyway: scipy gives NaN now and then in the far tails.
        effect = min(effect, 30 / math.sqrt(count))
        return float(TTestPower().power(effect, count, LEVEL / 2, alternative="larger"))

    if power(most) < POWER:
        return math.inf
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for how many there are.

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6, 65–70.
    """
    return [float(p) for p in multipletests(p_values, LEVEL, method="holm")[1]] if len(p_values) else []


def dominated_by(accuracies: Sequence[float], seconds: Sequence[float]) -> list[int | None]:
    """For each network the most accurate one that is at least as accurate and as fast, and better in one; else None.

    Those with None form the Pareto front.
    """
    result: list[int | None] = []
    for accuracy, second in zip(accuracies, seconds, strict=True):
        better = [
            index
            for index, (other, time) in enumerate(zip(accuracies, seconds, strict=True))
            if other >= accuracy and time <= second and (other > accuracy or time < second)
        ]
        result.append(max(better, key=lambda index: (accuracies[index], -seconds[index])) if better else None)
    return result


def calibration(confidence: NDArray[np.float32], right: Correct, bins: int = CALIBRATION_BINS) -> Calibration:
    """Expected calibration error and its bins, of the most probable class.

    Args:
        confidence: ``(N,)``, the probability of each answer.
        right: ``(N,)``, whether it was right.
        bins: Of equal width; each holds its upper bound.

    Source:
        Guo et al. 2017, arXiv:1706.04599.
    """
    bin_index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(bin_index, minlength=bins)
    filled = images > 0
    mean_confidence = np.bincount(bin_index, confidence, bins)[filled] / images[filled]
    accuracy = np.bincount(bin_index, right, bins)[filled] / images[filled]
    ece = float((images[filled] * abs(mean_confidence - accuracy)).sum() / len(right))
    return Calibration(ece, mean_confidence.tolist(), accuracy.tolist(), images[filled].tolist())


def rank_probabilities(correct: Sequence[Correct], draws: int = 1000) -> NDArray[np.float64]:
    """How often each network takes each rank by accuracy when seeds and test images are drawn anew (bootstrap).

    Args:
        correct: ``(seeds, images)`` of each network, on the same images.
        draws: How often.

    Returns:
        ``(networks, ranks)``, rows of shares; column 0 is the first rank.

    Source:
        Efron 1979, doi:10.1214/aos/1176344552.
    """
    generator = np.random.default_rng(0)
    images = correct[0].shape[1]
    weights = generator.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float32)
    accuracies = np.empty((draws, len(correct)))
    for index, each in enumerate(correct):
        seeds = len(each)
        by_seed = weights @ each.T.astype(np.float32)
        seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
        accuracies[:, index] = (by_seed * seed_weights).sum(1) / (seeds * images)
    # Ties go to either with equal chance.
    order = np.lexsort((generator.random(accuracies.shape), -accuracies), axis=1)
    counts = np.stack([np.bincount(order[:, rank], minlength=len(correct)) for rank in range(len(correct))], axis=1)
    return counts / draws
