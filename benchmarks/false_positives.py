"""How often the report's verdicts are wrong: simulated comparisons whose truth is known.

Test images differ in how hard they are, and each training adds luck of its own; a simulated network answers each image
right with a probability of its own for that image and seed. With several seeds the truth is the network's accuracy over
all seeds and images there could be; with one it is that of the one trained network, as the report says.

- equal: three networks of the same true accuracy. Whatever "differs" is found is false.
- one better: the same with one network 1 point more accurate.
- worse by chance: two networks, equal in truth; kept are the draws in which the second looks worse.
- equal, luck alike: as equal, with seeds that do not matter, where only the images leave room for chance.
- equal, one seed for all: what happens to those who take one seed's verdict for one about other seeds. No promise
  of the report, but the reason why it asks for seeds.

Counted are comparisons with a false positive after Holm's correction, how often a true difference is found, and how
often the 95 % intervals of accuracies and differences hold the truth.
"""

from __future__ import annotations

import argparse
import gc
import itertools
from typing import Any

import numpy as np
from harness import report

from cnn_compare.report import statistics

ACCURACY, IMAGES = 0.85, 10_000
# Points of accuracy by which trainings of one network scatter through luck alone.
LUCK = 0.004


def answers(
    generator: np.random.Generator, gains: list[float], seeds: int, luck: float
) -> tuple[list[np.ndarray], list[float]]:
    """Right or wrong ``(seeds, images)`` for each network, and each network's true accuracy.

    An image's difficulty is shared by all networks in part: the probability of a right answer is uniform between two
    bounds around the network's accuracy, half from the image alone and half from image and network.
    """
    shared = generator.uniform(-1, 1, IMAGES)
    right, truths = [], []
    for gain in gains:
        truth = ACCURACY + gain
        own = generator.uniform(-1, 1, IMAGES)
        # Both parts have mean zero, and together stay within what is left up to 1.
        chance = truth + (1 - truth - 3 * luck) * (shared + own) / 2
        shifts = generator.uniform(-1, 1, seeds) * luck * np.sqrt(3)
        right.append(generator.random((seeds, IMAGES)) < chance + shifts[:, None])
        truths.append(truth)
    return right, truths


def simulate(case: str, seeds: int, comparisons: int) -> dict[str, Any]:
    """Counts over many comparisons of one case."""
    generator = np.random.default_rng([seeds, *case.encode()])
    gains = {"one better": [0.0, 0.0, 0.01], "worse by chance": [0.0, 0.0]}.get(case, [0.0, 0.0, 0.0])
    # With one seed its luck is part of the truth: the networks that are compared are the trained ones.
    luck = 0.0 if case == "equal, luck alike" or (seeds == 1 and case != "equal, one seed for all") else LUCK
    false_positives = found = possible = held = intervals = held_accuracies = accuracies = done = 0
    while done < comparisons:
        right, truths = answers(generator, gains, seeds, luck)
        if case == "worse by chance" and right[1].mean() >= right[0].mean():
            continue
        done += 1
        for each, truth in zip(right, truths, strict=True):
            estimate = statistics.accuracy_estimate(each)
            held_accuracies += estimate.low <= truth <= estimate.high
            accuracies += 1
        pairs = list(itertools.combinations(range(len(gains)), 2))
        differences = [statistics.paired_difference(right[a], right[b]) for a, b in pairs]
        established = [p <= statistics.LEVEL for p in statistics.holm([each.p for each in differences])]
        true = [truths[a] - truths[b] for a, b in pairs]
        false_positives += any(yes and not real for yes, real in zip(established, true, strict=True))
        found += sum(yes and bool(real) for yes, real in zip(established, true, strict=True))
        possible += sum(map(bool, true))
        held += sum(each.share.low <= real <= each.share.high for each, real in zip(differences, true, strict=True))
        intervals += len(pairs)
    return {
        "case": case,
        "seeds": seeds,
        "comparisons": done,
        "false positives %": 100 * false_positives / done,
        "found %": 100 * found / possible if possible else "–",
        "differences held %": 100 * held / intervals,
        "accuracies held %": 100 * held_accuracies / accuracies,
    }


def main() -> None:
    """Simulate and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=1_000)
    options = parser.parse_args()
    # statsmodels collects garbage at each correction; without this it would look through all of torch every time.
    gc.freeze()
    cases = [(case, seeds) for case in ("equal", "one better", "worse by chance") for seeds in (1, 3, 5)]
    cases += [("equal, luck alike", 3), ("equal, one seed for all", 1)]
    rows = [simulate(case, seeds, options.comparisons) for case, seeds in cases]
    report("false_positives", rows, {"accuracy": ACCURACY, "images": IMAGES, "luck": LUCK})


if __name__ == "__main__":
    main()
