"""What more seeds would show, from the runs there are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cnn_compare.errors import NoRunsError
from cnn_compare.report import statistics
from cnn_compare.report.analysis import analyze
from cnn_compare.report.load import find_runs
from cnn_compare.report.summary import Summary

# What seeds of the project's stored CIFAR-10 comparisons deviate by, in points, where no other runs are at hand.
USUAL_DEVIATION = 0.6
EXAMPLE_POINTS = 1.0
# In the stored CIFAR-10 comparisons whose networks reach 75 % and more, with 10,000 test images: for how many of them
# one of two networks is right and the other wrong, and the same of two seeds of one network.
NETWORKS_DISAGREE, SEEDS_DISAGREE = 0.18, 0.15
USUAL_TEST_IMAGES = 10_000


def undecided(folder: Path) -> int:
    """How many differences of a comparison are neither established, nor excluded by its margin."""
    return sum(not pair.differs and not pair.same for pair in analyze(find_runs(folder)).pairs)


def what_seeds_establish(folder: Path, networks: int, seeds: int) -> str:
    """The smallest difference that planned runs are likely to establish, in a sentence.

    Args:
        folder: Of the comparison; the runs that are there already tell how much seeds and test images matter.
        networks: How many are planned.
        seeds: Of each.
    """
    if networks < 2:
        return "One network alone: there is nothing to tell apart."
    pairs = networks * (networks - 1) // 2
    if seeds < 2:
        return (
            f"{networks} networks with one seed each: differences are those of the trained networks. Two seeds or more "
            "tell how other seeds would end."
        )
    deviation, image_error, source = _spread(folder)
    smallest = 100 * statistics.smallest_difference(seeds, deviation, image_error, pairs)
    needed = statistics.seeds_needed(EXAMPLE_POINTS / 100, deviation, image_error, pairs)
    takes = f"{needed:.0f} seeds" if math.isfinite(needed) else "more test images"
    return (
        f"{seeds} seeds of {networks} networks: a difference of about {smallest:.1f} points is established in four "
        f"cases of five, and {EXAMPLE_POINTS:g} point takes {takes} ({source})."
    )


def smallest_on(test_images: int, seeds: int, networks: int = 2) -> float:
    """The smallest difference, in points, that so many test images are likely to establish between new networks.

    Two networks with one seed each are told apart by the images that only one of them answers right. With several seeds
    the part of this that changes with the seed belongs to the seeds, and fewer images make a seed's accuracy deviate
    more.

    Args:
        test_images: Independent ones.
        seeds: Of each network.
        networks: How many are compared with each other.
    """
    by_seed = SEEDS_DISAGREE / 2  # Variance of an answer over seeds.
    deviation = math.sqrt((USUAL_DEVIATION / 100) ** 2 + by_seed * (1 / test_images - 1 / USUAL_TEST_IMAGES))
    disagree = NETWORKS_DISAGREE - (SEEDS_DISAGREE if seeds > 1 else 0)
    pairs = networks * (networks - 1) // 2
    return 100 * statistics.smallest_difference(seeds, deviation, math.sqrt(disagree / test_images), pairs)


def _spread(folder: Path) -> tuple[float, float, str]:
    """Deviation over seeds, standard error of a difference from the test images, and where both are from."""
    try:
        summary: Summary | None = analyze(find_runs(folder))
    except NoRunsError:
        summary = None
    several = [network for network in summary.networks if network.sd_points] if summary else []
    if summary is None or not several:
        source = f"if seeds deviate by {USUAL_DEVIATION:g} points, and without what the test images add"
        return USUAL_DEVIATION / 100, 0.0, source
    deviation = math.sqrt(float(np.mean([(network.sd_points or 0) ** 2 for network in several])))
    errors = [pair.image_error_points for pair in summary.pairs if not pair.of_trained]
    image_error = float(np.median(errors)) if errors else 0.0
    runs = sum(len(network.seeds) for network in several)
    return deviation / 100, image_error / 100, f"seeds deviate by {deviation:.2f} points in {runs} finished runs"
