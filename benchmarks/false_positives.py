"""How often the report's verdicts are wrong, and what they find: simulated comparisons whose truth is known.

Test images differ in how hard they are, in part for all networks alike, and the luck of each seed shifts a network's
accuracy. A simulated network answers each image right with a probability of its own for that image and seed. With
several seeds the truth is the accuracy over all seeds and images there could be; with one it is that of the trained
network, as the report says.

Each row is a cell: so many comparisons of networks with the same true accuracy, or of which one is better. Counted are
comparisons in which a difference is established that does not exist, how many true ones are established, and how often
the 95 % intervals of accuracies hold the truth.

``groups``: every test image is there several times, and the copies are a group. Beside them, what would be claimed if
they counted as independent images.

``folds``: cross-validation with real trainings, whose training sets overlap as a user's do. Each comparison takes
another random part of scikit-learn's digits. One of two small networks sees the left half of each image, the other the
right half, mirrored. Each image is mirrored with probability one half, so that both have the same accuracy in the mean
over all parts: a difference that is established is a false one. Beside it, what a plain t test over folds would claim.

    python benchmarks/false_positives.py                # every cell; --jobs processes
    python benchmarks/false_positives.py folds --comparisons 100
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from harness import report
from scipy.stats import ttest_1samp
from sklearn.datasets import load_digits
from torch.nn import functional

from cnn_compare.data.splits import fold_of
from cnn_compare.report import cross_validation, intervals
from cnn_compare.report.cross_validation import Fold
from cnn_compare.report.intervals import Sample

# Standard deviations over seeds, in points of accuracy, of five networks.
NONE = (0.0, 0.0, 0.0, 0.0, 0.0)
DEVIATIONS = [
    NONE,
    (0.6, 0.6, 0.6, 0.6, 0.6),
    (0.1, 0.1, 0.1, 0.1, 5.0),
    (0.6, 0.6, 0.6, 3.0, 3.0),
    (0.1, 0.3, 1.0, 3.0, 5.0),
]


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
        copies: How often each of the images is there; its copies are a group.
        last_seeds: Of the last network, where it has fewer than the others.
        normal: Whether luck is normal, cut at three deviations; else uniform, which makes a t test of three seeds alone
            wrong in 7.7 %.
    """

    images: int
    accuracy: float
    seeds: int
    deviations: tuple[float, ...]
    gain: float = 0.0
    shared: float = 0.5
    looks: tuple[int, ...] = ()
    copies: int = 1
    last_seeds: int | None = None
    normal: bool = False


def answers(generator: np.random.Generator, cell: Cell) -> list[np.ndarray]:
    """Right or wrong ``(seeds, images)`` for each network, in probability around its true accuracy."""
    distinct = cell.images // cell.copies
    shared = generator.uniform(-1, 1, distinct)
    right = []
    for number, points in enumerate(cell.deviations):
        truth = (cell.accuracy + cell.gain * (number == len(cell.deviations) - 1)) / 100
        # Luck is bounded, and image and luck together stay within 0 and 1, so that the truth is what it is said to be.
        room = min(truth, 1 - truth)
        seeds = cell.last_seeds if cell.last_seeds and number == len(cell.deviations) - 1 else cell.seeds
        most = min(points / 100 * 3**0.5 * (3**0.5 if cell.normal else 1), 0.9 * room)
        drawn = (
            generator.normal(0, points / 100, (seeds, 1))
            if cell.normal
            else most * generator.uniform(-1, 1, (seeds, 1))
        )
        luck = np.clip(drawn, -most, most)
        own = generator.uniform(-1, 1, distinct)
        spread = room - most
        chance = truth + luck + spread * (cell.shared * shared + (1 - cell.shared) * own)
        right.append(np.repeat(generator.random((seeds, distinct)) < chance, cell.copies, axis=1))
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
    groups = None if cell.copies == 1 else np.repeat(np.arange(cell.images // cell.copies), cell.copies)
    wrong = found = held = ignoring_groups = 0.0
    for _ in range(comparisons):
        right = answers(generator, cell)
        samples = [Sample.of(each, groups) for each in right]
        established = np.zeros(len(pairs), bool)
        for seeds in cell.looks or (cell.seeds,):
            looked_at = [Sample.of(each[:seeds], groups) for each in right]
            differences = intervals.sample_differences(looked_at, pairs, intervals.LEVEL / max(len(cell.looks), 1))
            established |= _established(differences)
        if groups is not None:
            ignoring_groups += _established(
                intervals.sample_differences([Sample.of(each) for each in right], pairs)
            ).any()
        wrong += bool((established & ~real).any())
        found += established[real].mean() if real.any() else 0
        estimates = intervals.accuracy_estimates(samples)
        held += np.mean([each.low <= truth <= each.high for each, truth in zip(estimates, truths, strict=True)])
    return {
        **asdict(cell),
        "comparisons": comparisons,
        "false positives %": 100 * wrong / comparisons,
        "ignoring groups %": float(100 * ignoring_groups / comparisons) if groups is not None else "–",
        "found %": float(100 * found / comparisons) if real.any() else "–",
        "accuracies held %": float(100 * held / comparisons),
    }


def _established(differences: Sequence[intervals.Difference]) -> np.ndarray:
    return np.array([each.share.low > 0 or each.share.high < 0 for each in differences])


def cells_of_groups() -> list[Cell]:
    """Two networks and five, with one seed and several; few groups and many."""
    grid = [
        Cell(images, accuracy, seeds, (0.6 * (seeds > 1),) * networks, copies=copies)
        for images, copies in ((2_000, 10), (400, 20))
        for accuracy in (70.0, 85.0, 97.0)
        for seeds in (1, 3)
        for networks in (2, 5)
    ]
    return [
        *grid,
        Cell(2_000, 85.0, 1, (0.0, 0.0), gain=5.0, copies=10),
        Cell(2_000, 85.0, 3, (0.6, 0.6), 5.0, copies=10),
    ]


@dataclass(frozen=True)
class Partition:
    """Cross-validation of one kind: 300 images in so many folds, so often, and what the second network sees more."""

    folds: int
    repeats: int
    columns_more: int = 0


PARTITIONS = (Partition(5, 1), Partition(5, 2), Partition(5, 4), Partition(10, 1), Partition(2, 5), Partition(5, 2, 1))
IMAGES, HIDDEN, STEPS, LEARNING_RATE = 300, 16, 60, 0.03


def cross_validated(partition: Partition, comparisons: int) -> dict[str, Any]:
    """Count over many random parts of the digits."""
    torch.set_num_threads(1)
    digits = load_digits()
    established = plain = 0
    deltas, accuracies, estimates = [], [], []
    for number in range(comparisons):
        generator = np.random.default_rng([partition.folds, partition.repeats, partition.columns_more, number])
        chosen = generator.permutation(len(digits.target))[:IMAGES]
        images = digits.images[chosen] / 16
        mirrored = generator.random(IMAGES) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        networks = _networks(images, digits.target[chosen], partition, number)
        (difference,) = cross_validation.fold_differences(networks, [(0, 1)])
        delta = [networks[0][key].accuracy - networks[1][key].accuracy for key in networks[0]]
        established += bool(_established([difference])[0])
        plain += bool(ttest_1samp(delta, 0).pvalue <= intervals.LEVEL)
        deltas.append(np.mean(delta))
        estimates.append(cross_validation.accuracy_estimate(networks[0]))
        accuracies.append(estimates[-1].value)
    truth = float(np.mean(accuracies))
    return {
        **asdict(partition),
        "comparisons": comparisons,
        "accuracy %": 100 * truth,
        "mean difference": 100 * float(np.mean(deltas)),
        "established %": 100 * established / comparisons,
        "plain t test %": 100 * plain / comparisons,
        "accuracies held %": 100 * float(np.mean([each.low <= truth <= each.high for each in estimates])),
    }


def _networks(
    images: np.ndarray, labels: np.ndarray, partition: Partition, seed: int
) -> list[dict[tuple[int, int | None], Fold]]:
    """Both networks' results on all folds; the networks of all folds are trained together, as one batch."""
    keys = list(itertools.product(range(partition.repeats), range(partition.folds)))
    tested = np.stack(
        [fold_of(labels, "0123456789", partition.folds, 1000 * seed + repeat) == fold for repeat, fold in keys]
    )
    results = []
    for right_half in (False, True):
        seen = (images[:, :, ::-1] if right_half else images)[:, :, : 4 + partition.columns_more * right_half]
        accuracies = _train_and_test(seen.reshape(len(images), -1), labels, tested, 2 * seed + right_half)
        folds = [Fold(*each, partition.folds) for each in zip(accuracies, tested.sum(1).tolist(), strict=True)]
        results.append(dict(zip(keys, folds, strict=True)))
    return results


def _train_and_test(inputs: np.ndarray, labels: np.ndarray, tested: np.ndarray, seed: int) -> list[float]:
    """Accuracy of a small network on each fold ``(folds, images)``, trained on the other images."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(inputs.shape[1], HIDDEN), (HIDDEN, 10)]
    layers = [
        (torch.randn(len(tested), fan_in, fan_out, generator=generator) / math.sqrt(fan_in)).requires_grad_()
        for fan_in, fan_out in sizes
    ]
    x, y = torch.from_numpy(inputs.copy()).float(), torch.from_numpy(labels)
    for_training = torch.from_numpy(~tested).float()
    optimizer = torch.optim.Adam(layers, LEARNING_RATE)
    for _ in range(STEPS):
        logits = torch.relu(x @ layers[0]) @ layers[1]
        losses = functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(tested)), reduction="none")
        optimizer.zero_grad()
        (losses.view(len(tested), -1) * for_training).sum().div(for_training[0].sum()).backward()
        optimizer.step()
    with torch.no_grad():
        right = ((torch.relu(x @ layers[0]) @ layers[1]).argmax(2) == y).numpy()
    return [float(each[rows].mean()) for each, rows in zip(right, tested, strict=True)]


def cells() -> list[Cell]:
    """The grid: every level of verdict that the report makes, and its edges."""
    grid = [
        Cell(images, accuracy, seeds, deviations)
        for sizes, accuracies, numbers_of_seeds in (
            ((360, 2_000), (50.0, 85.0, 97.0, 99.0, 99.5), (1, 2, 3, 5, 10)),
            ((10_000,), (50.0, 85.0, 99.0), (1, 3, 5)),
        )
        for images, accuracy, seeds in itertools.product(sizes, accuracies, numbers_of_seeds)
        # With one seed its luck is part of the truth.
        for deviations in (DEVIATIONS if seeds > 1 else [NONE])
    ]
    grid += [
        Cell(2_000, 85.0, seeds, (0.6 * (seeds > 1),) * 5, shared=shared) for seeds in (1, 3) for shared in (0.0, 0.95)
    ]
    grid += [Cell(2_000, 85.0, 3, (deviation,) * 2) for deviation in (0.0, 0.6, 3.0)]
    # What six networks show at 10,000 images. With noise of 0.35 points from single answers, 0.5 points of luck make a
    # deviation of 0.6 points between measured accuracies.
    grid += [Cell(10_000, 85.0, seeds, (luck,) * 6, gain=2.0) for seeds in (2, 3, 5, 8) for luck in (0.5, 0.6)]
    looks = (3, 5, 8)
    grid += [Cell(2_000, 85.0, 8, deviations, looks=looks) for deviations in DEVIATIONS]
    grid += [Cell(10_000, 85.0, 8, (0.5,) * 6, gain=gain, looks=looks) for gain in (0.0, 2.0)]
    return grid


def cells_of_unlike() -> list[Cell]:
    """Two to six networks, the last of which deviates more or has fewer seeds; and what is found of 2 points."""
    found = [
        Cell(images, 85.0, seeds, (*(deviation,) * (networks - 1), ratio * deviation), last_seeds=last, normal=normal)
        for normal in (False, True)
        for networks in (2, 3, 6)
        for images in (60, 10_000)
        for ratio, deviation in ((1, 0.5), (3, 0.5), (10, 0.5), (20, 0.25))
        for seeds, last in ((3, None), (5, 3), (5, 2))
        if (networks < 6 or images > 60) and (not normal or (networks < 6 and images > 60))
    ]
    found += [Cell(10_000, 85.0, seeds, (0.5,) * 2, 2.0) for seeds in (2, 3, 5)]
    return [*found, Cell(10_000, 85.0, 3, (0.5,) * 3, 2.0), Cell(10_000, 85.0, 3, (0.5,) * 6, 2.0)]


def main() -> None:
    """Simulate and store."""
    work: dict[str, tuple[Any, Sequence[Any]]] = {
        "seeds": (simulate, cells()),
        "unlike": (simulate, cells_of_unlike()),
        "groups": (simulate, cells_of_groups()),
        "folds": (cross_validated, PARTITIONS),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=work, default=list(work))
    parser.add_argument("--comparisons", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    for part in options.parts:
        function, kinds = work[part]
        with ProcessPoolExecutor(options.jobs) as pool:
            rows = list(pool.map(function, kinds, itertools.repeat(options.comparisons)))
        report(f"false_positives_{part}", rows, {"level": intervals.LEVEL})


if __name__ == "__main__":
    main()
