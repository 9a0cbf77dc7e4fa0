"""How the test error falls with the number of training images: a power law, fitted, checked and extrapolated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cnn_compare.report.statistics import LEVEL, Estimate, Vector

FEWEST_SIZES = 3
FURTHEST = 4
"""How many times the largest number of training images an extrapolation reaches, at most."""
# How much the exponent of a true curve changes with each doubling, as a standard deviation: a curve is flatter near
# chance, and again where labels are wrong or pictures ambiguous. Without this the intervals are too narrow.
DRIFT = 0.05
# An interval wider than this says nothing that one would not have guessed.
WIDEST = 0.25


@dataclass(frozen=True)
class PowerLaw:
    """``error = factor * (images / largest) ** -exponent``, in shares, with an exponent that may drift.

    Args:
        smallest: The fewest training images that it was fitted to.
        largest: The most.
        coefficients: With ``x = log(images / largest)``, those of 1, x and x² in the logarithm of the error.
        covariance: Of the coefficients.
        dispersion: Variance of a measured mean error over seeds, divided by that of an answer, error × (1 − error).
        freedom: Degrees of freedom of these variances.
        test_images: How many.
    """

    smallest: int
    largest: int
    coefficients: list[float]
    covariance: list[list[float]]
    dispersion: float
    freedom: int
    test_images: int

    @property
    def exponent(self) -> float:
        """That at the largest number: with twice as many images the error is about ``2 ** -exponent`` times itself."""
        return -self.coefficients[1]

    def accuracy(self, images: float) -> Estimate:
        """The expected mean accuracy of as many seeds with so many training images, as a share.

        Its 95 % interval covers other seeds, the fit, the exponent's drift, and other test images.

        Raises:
            ValueError: If the number is outside those that were fitted and their fourfold.
        """
        if not self.smallest <= images <= FURTHEST * self.largest:
            raise ValueError(f"{images} training images are outside {self.smallest} … {FURTHEST * self.largest}")
        powers = _powers([images / self.largest])[0]
        error = math.exp(float(powers @ self.coefficients))
        answer = (1 - min(error, 1.0)) / error  # Variance of an answer, as one of the logarithm of the error.
        variance = float(powers @ self.covariance @ powers) + answer * (self.dispersion + 1 / self.test_images)
        ratio = math.exp(float(stats.t.isf(LEVEL / 2, self.freedom)) * math.sqrt(variance))
        return Estimate(*(max(0.0, 1 - each) for each in (error, error * ratio, error / ratio)))


def fit_power_law(errors: Mapping[int, Sequence[float]], test_images: int) -> PowerLaw | str:
    """Fit a power law to the test errors of one network, or say why none is to be believed.

    The law is accepted if the means lie no further from it than seeds, and an exponent that drifts by `DRIFT` a
    doubling, explain. If they do, the smallest number of images is left out, because a power law holds only from some
    number on, and the others are tried; at least three remain. A law that leaves the accuracy at twice as many images
    open by more than `WIDEST` is none either.

    Args:
        errors: Number of training images -> error of each seed, as shares.
        test_images: How many; the same ones for all.

    Returns:
        The law, or the reason why there is none.

    Source:
        Hestness et al. 2017, arXiv:1712.00409, for the law and where it begins; Draper and Smith 1998, "Applied
        Regression Analysis", section 2.1, for the test of lack of fit.
    """
    sizes = sorted(errors)
    if len(sizes) < FEWEST_SIZES:
        return f"a power law takes at least {FEWEST_SIZES} numbers of training images, and there are {len(sizes)}"
    reason = ""
    for first in range(len(sizes) - FEWEST_SIZES + 1):
        fitted = _fit({size: errors[size] for size in sizes[first:]}, test_images)
        if isinstance(fitted, PowerLaw):
            return fitted
        reason = fitted
    return reason


def _fit(errors: Mapping[int, Sequence[float]], test_images: int) -> PowerLaw | str:
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
    freedom = int(counts.sum()) - len(sizes)
    # Errors near 0 and 1 vary less with the seed, about as single answers do.
    squares = [np.square(np.array(of_size) - mean).sum() for of_size, mean in zip(errors.values(), means, strict=True)]
    dispersion = float(np.sum(squares / (means * (1 - means)))) / freedom
    # Equal accuracies of all seeds do not show that seeds make no difference.
    dispersion = max(dispersion, 4 / test_images**2)
    # Least squares, with one more observation: that the exponent does not drift, as uncertain as it is.
    bend = DRIFT / (2 * math.log(2))
    deviations = np.append(np.sqrt(dispersion / counts * (1 - means) / means), bend)
    design = np.vstack([_powers(np.array(sizes) / sizes[-1]), [0.0, 0.0, 1.0]]) / deviations[:, None]
    observed = np.append(np.log(means), 0.0) / deviations
    coefficients, residual, *_ = np.linalg.lstsq(design, observed)
    misfit = float(residual[0]) / (len(sizes) - 2)
    p = float(stats.f.sf(misfit, len(sizes) - 2, freedom))
    if p < LEVEL:
        beside = np.abs(np.exp(_powers(np.array(sizes) / sizes[-1]) @ coefficients) - means)
        shown = ", ".join(f"{size:,}" for size in sizes)
        return (
            f"no power law goes through {shown} training images: its means are up to {100 * beside.max():.1f} points "
            f"beside one, further than seeds explain (p = {p:.1g})"
        )
    # Where the means lie further from the law than seeds would have it, though not clearly so, all of it is uncertain.
    scale = max(1.0, misfit)
    law = PowerLaw(
        smallest=sizes[0],
        largest=sizes[-1],
        coefficients=coefficients.tolist(),
        covariance=(scale * np.linalg.inv(design.T @ design)).tolist(),
        dispersion=scale * dispersion / float(counts.mean()),
        freedom=freedom,
        test_images=test_images,
    )
    doubled = law.accuracy(2 * law.largest)
    if doubled.high - doubled.low > WIDEST:
        interval = f"{100 * doubled.low:.0f} … {100 * doubled.high:.0f} %"
        return f"its seeds differ too much: for twice as many, all that can be said is {interval}"
    return law


def _powers(shares: Sequence[float] | Vector) -> Vector:
    """``(N, 3)``: 1, x and x² of the logarithms x of shares of the largest number of images."""
    logs = np.log(np.asarray(shares, float))
    powers: Vector = np.stack([np.ones_like(logs), logs, logs**2], axis=1)
    return powers
