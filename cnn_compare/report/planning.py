"""What more seeds would show, from the runs there are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cnn_compare.errors import NoRunsError
from cnn_compare.report import intervals
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import find_runs

# What seeds of the project's stored CIFAR-10 comparisons deviate by, in points, where no other runs are at hand.
USUAL_DEVIATION = 0.6
# Networks of the stored CIFAR-10 comparisons, on 10,000 test images: the accuracy at which seeds deviate so; the
# correlation of right answers, of two networks and of two seeds of one, which is about the same at other accuracies.
USUAL_ACCURACY = 0.75
USUAL_TEST_IMAGES = 10_000
NETWORKS_CORRELATE, SEEDS_CORRELATE = 0.45, 0.55


def undecided(folder: Path) -> int:
    """How many differences of a comparison are neither established, nor excluded by its margin."""
    return sum(not pair.differs and not pair.same for pair in Findings(find_runs(folder)).pairs)


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
    points = {
        count: 100 * intervals.smallest_difference(count, deviation, image_error, pairs)
        for count in (seeds, 2 * seeds, 4 * seeds)
    }
    now, twice, four_times = points.values()
    establish = f"a difference of about {now:.1f} points is established in four cases of five"
    if now > 100:  # Two seeds say too little about chance for so many pairs.
        establish = "even the largest difference is not established in four cases of five"
    return (
        f"{seeds} seeds of {networks} networks: {establish}; with {2 * seeds} seeds one of {twice:.1f}, with "
        f"{4 * seeds} one of {four_times:.1f} ({source})."
    )


def smallest_on(test_images: int, seeds: int, networks: int, accuracy: float) -> float:
    """The smallest difference, in points, that so many test images are likely to establish between new networks.

    Two networks with one seed each are told apart by the images that only one of them answers right: of accuracies p
    whose answers correlate by r, 2 p (1 − p) (1 − r) of all. With several seeds the part of this that changes with the
    seed belongs to the seeds, and fewer images make a seed's accuracy deviate more.

    Args:
        test_images: Independent ones; of groups, the groups.
        seeds: Of each network.
        networks: How many are compared with each other.
        accuracy: Expected, as a share.

    Source:
        Connor 1987, doi:10.2307/2531961.
    """
    between = accuracy * (1 - accuracy)
    # A seed's luck is larger where there are more mistakes.
    luck = (USUAL_DEVIATION / 100) ** 2 / (USUAL_ACCURACY * (1 - USUAL_ACCURACY))
    noise = (1 - SEEDS_CORRELATE) * (1 / test_images - 1 / USUAL_TEST_IMAGES)
    deviation = math.sqrt(between * max(luck + noise, (1 - SEEDS_CORRELATE) / test_images))
    shared = 2 * between * ((SEEDS_CORRELATE if seeds > 1 else 1) - NETWORKS_CORRELATE)
    pairs, difference = networks * (networks - 1) // 2, 0.0
    for _ in range(20):  # Networks that differ disagree on as many images, which the difference is not known without.
        image_error = math.sqrt(max(shared, difference) / test_images + 1 / test_images**2)
        difference = min(1.0, intervals.smallest_difference(seeds, deviation, image_error, pairs))
    return 100 * difference


def _spread(folder: Path) -> tuple[float, float, str]:
    """Deviation over seeds, standard error of a difference from the test images, and where both are from."""
    try:
        found: Findings | None = Findings(find_runs(folder))
    except NoRunsError:
        found = None
    several = [network for network in found.networks if network.sd_points] if found else []
    if found is None or not several:
        source = f"if seeds deviate by {USUAL_DEVIATION:g} points, and without what the test images add"
        return USUAL_DEVIATION / 100, 0.0, source
    deviation = math.sqrt(float(np.mean([(network.sd_points or 0) ** 2 for network in several])))
    errors = [pair.image_error_points for pair in found.pairs if not pair.of_trained]
    image_error = float(np.median(errors)) if errors else 0.0
    runs = sum(len(network.seeds) for network in several)
    return deviation / 100, image_error / 100, f"seeds deviate by {deviation:.2f} points in {runs} finished runs"
