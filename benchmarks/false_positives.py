"""How often the report's verdicts are wrong, and what they find: simulated comparisons whose truth is known.

Test images differ in how hard they are, in part for all networks alike, and the luck of each seed shifts a network's
accuracy. A simulated network answers each image right with a probability of its own for that image and seed. With
several seeds the truth is the accuracy over all seeds and images there could be; with one it is that of the trained
network, as the report says.

Each row is a cell: so many comparisons of networks with the same true accuracy, or of which one is better. Counted are
comparisons in which a difference is established that does not exist, how many true ones are established, and how often
the 95 % intervals of accuracies hold the truth.

    python benchmarks/false_positives.py                # every cell; --jobs processes
    python benchmarks/false_positives.py --comparisons 100
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from harness import report

from cnn_compare.report import statistics
from cnn_compare.report.statistics import Sample

# Standard deviations over seeds, in points of accuracy, of five networks.
DEVIATIONS = {
    "none": (0.0, 0.0, 0.0, 0.0, 0.0),
    "0.6 each": (0.6, 0.6, 0.6, 0.6, 0.6),
    "one large": (0.1, 0.1, 0.1, 0.1, 5.0),
    "two large": (0.6, 0.6, 0.6, 3.0, 3.0),
    "all unlike": (0.1, 0.3, 1.0, 3.0, 5.0),
}


@dataclass(frozen=True)
class Cell:
    """Comparisons of one kind.

    Args:
        images: Test images.
        accuracy: True accuracy of all networks, in percent.
        seeds: Of each network.
        deviations: Over seeds, of each network, in points.
        gain: Points by which the last network is better.
        shared: How much of an image's difficulty is the same for all networks, from 0 to 1.
        looks: Numbers of seeds at which the results are looked at, each with its part of the level; empty: only once.
    """

    images: int
    accuracy: float
    seeds: int
    deviations: tuple[float, ...]
    gain: float = 0.0
    shared: float = 0.5
    looks: tuple[int, ...] = ()


def answers(generator: np.random.Generator, cell: Cell) -> list[np.ndarray]:
    """Right or wrong ``(seeds, images)`` for each network, in probability around its true accuracy."""
    shared = generator.uniform(-1, 1, cell.images)
    right = []
    for number, points in enumerate(cell.deviations):
        truth = (cell.accuracy + cell.gain * (number == len(cell.deviations) - 1)) / 100
        # Luck is bounded, and image and luck together stay within 0 and 1, so that the truth is what it is said to be.
        room = min(truth, 1 - truth)
        luck = min(points / 100 * 3**0.5, 0.9 * room) * generator.uniform(-1, 1, (cell.seeds, 1))
        own = generator.uniform(-1, 1, cell.images)
        spread = room - min(points / 100 * 3**0.5, 0.9 * room)
        chance = truth + luck + spread * (cell.shared * shared + (1 - cell.shared) * own)
        right.append(generator.random((cell.seeds, cell.images)) < chance)
    return right


def simulate(cell: Cell, comparisons: int) -> dict[str, Any]:
    """Count over many comparisons of one cell."""
    generator = np.random.default_rng(
        [cell.images, int(10 * cell.accuracy), cell.seeds, *map(int, 10 * np.array(cell.deviations))]
    )
    networks = len(cell.deviations)
    pairs = list(itertools.combinations(range(networks), 2))
    real = np.array([cell.gain > 0 and networks - 1 in pair for pair in pairs])
    truths = [(cell.accuracy + cell.gain * (number == networks - 1)) / 100 for number in range(networks)]
    wrong = found = held = held_together = 0.0
    for _ in range(comparisons):
        right = answers(generator, cell)
        samples = [Sample.of(each) for each in right]
        established = np.zeros(len(pairs), bool)
        for seeds in cell.looks or (cell.seeds,):
            looked_at = [Sample.of(each[:seeds]) for each in right]
            differences = statistics.differences(looked_at, pairs, statistics.LEVEL / max(len(cell.looks), 1))
            established |= [each.share.low > 0 or each.share.high < 0 for each in differences]
        wrong += bool((established & ~real).any())
        found += established[real].mean() if real.any() else 0
        held += np.mean(
            [
                low.low <= truth <= low.high
                for low, truth in zip(statistics.accuracy_estimates(samples), truths, strict=True)
            ]
        )
        held_together += all(
            each.share.low <= truths[first] - truths[second] <= each.share.high
            for each, (first, second) in zip(differences, pairs, strict=True)
        )
    return {
        "images": cell.images,
        "accuracy %": cell.accuracy,
        "seeds": cell.seeds,
        "networks": networks,
        "deviations": next(
            (name for name, each in DEVIATIONS.items() if each == cell.deviations), f"{cell.deviations[0]:g} each"
        ),
        "better by": cell.gain,
        "shared": cell.shared,
        "looks": len(cell.looks) or 1,
        "comparisons": comparisons,
        "false positives %": 100 * wrong / comparisons,
        "found %": float(100 * found / comparisons) if real.any() else "–",
        "accuracies held %": float(100 * held / comparisons),
        "all differences held %": 100 * held_together / comparisons,
    }


def cells() -> list[Cell]:
    """The grid: every level of verdict that the report makes, and its edges."""
    grid = [
        Cell(images, accuracy, seeds, deviations)
        for images in (360, 2_000)
        for accuracy in (50.0, 85.0, 97.0, 99.0, 99.5)
        for seeds in (1, 2, 3, 5, 10)
        for name, deviations in DEVIATIONS.items()
        # With one seed its luck is part of the truth.
        if seeds > 1 or name == "none"
    ]
    grid += [
        Cell(10_000, accuracy, seeds, deviations)
        for accuracy in (50.0, 85.0, 99.0)
        for seeds in (1, 3, 5)
        for name, deviations in DEVIATIONS.items()
        if seeds > 1 or name == "none"
    ]
    grid += [
        Cell(2_000, 85.0, seeds, (0.6 * (seeds > 1),) * 5, shared=shared) for seeds in (1, 3) for shared in (0.0, 0.95)
    ]
    grid += [Cell(2_000, 85.0, 3, (deviation,) * 2) for deviation in (0.0, 0.6, 3.0)]
    # What six networks show at 10,000 images. With noise of 0.35 points from single answers, 0.5 points of luck make a
    # deviation of 0.6 points between measured accuracies.
    grid += [Cell(10_000, 85.0, seeds, (luck,) * 6, gain=2.0) for seeds in (2, 3, 5, 8) for luck in (0.5, 0.6)]
    looks = (3, 5, 8)
    grid += [Cell(2_000, 85.0, 8, deviations, looks=looks) for deviations in DEVIATIONS.values()]
    grid += [Cell(10_000, 85.0, 8, (0.5,) * 6, gain=gain, looks=looks) for gain in (0.0, 2.0)]
    return grid


def main() -> None:
    """Simulate and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    work: Sequence[Cell] = cells()
    with ProcessPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(simulate, work, itertools.repeat(options.comparisons)))
    report("false_positives", rows, {"networks": 5, "level": statistics.LEVEL})


if __name__ == "__main__":
    main()
