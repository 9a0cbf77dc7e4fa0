"""How long the lists of possible wrong labels are, and how right about themselves, where labels are flipped on purpose.

python benchmarks/wrong_labels.py lightning_logs/budget lightning_logs/tuned

For each comparison: the list's length and the precision that it states, for its labels as they are, and for labels of
which a share is flipped to any other class, drawn anew each time; then also which share of the list was flipped. The
trained networks stay as they are. Where only the probability of each answer is stored, what is left of it is shared
evenly by the other classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import report
from numpy.typing import NDArray

from cnn_compare.report.images import Answers
from cnn_compare.report.load import Predictions, find_runs
from cnn_compare.report.wrong_labels import doubts, suspicious, worth_a_look

SHARES = (0.005, 0.02, 0.1)
DRAWS = 5


def probabilities(run: Predictions, classes: int) -> NDArray[np.float64]:
    """``(N, classes)``, from the probabilities of the answer and, by its margin, of the label."""
    rows, right = np.arange(len(run.labels)), run.predictions == run.labels
    answered = np.minimum(run.confidence.astype(float), 1)
    of_label = np.where(right, answered, np.clip(answered + run.margin, 0, 1 - answered))
    rest = np.maximum(1 - answered - np.where(right, 0, of_label), 0) / np.where(right, classes - 1, classes - 2)
    shares = np.repeat(rest[:, None], classes, 1)
    shares[rows, run.labels] = of_label
    shares[rows, run.predictions] = answered
    return shares


def flipped_share(
    answers: Answers, networks: Sequence[Sequence[NDArray[np.float64]]], share: float, seed: int
) -> list[float]:
    """Images listed, percent said to be wrong and percent truly wrong, after a share of the labels was flipped."""
    draw, labels, classes = np.random.default_rng(seed), answers.labels.astype(int), networks[0][0].shape[1]
    wrong = draw.random(len(labels)) < share
    labels = np.where(wrong, (labels + draw.integers(1, classes, len(labels))) % classes, labels)
    judged = [
        [doubts(labels, run.predictions.astype(int), shares, answers.places) for run, shares in zip(*pair, strict=True)]
        for pair in zip(answers.networks.values(), networks, strict=True)
    ]
    found, said = worth_a_look(suspicious(labels, judged), judged)
    return [len(found), 100 * said, 100 * np.mean([wrong[each.image] for each in found] or [0])]


def main() -> None:
    """Flip, list, count, and store the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparisons", type=Path, nargs="+")
    rows = []
    for folder in parser.parse_args().comparisons:
        answers = Answers.of(find_runs(folder).finished)
        classes = int(answers.labels.max()) + 1
        networks = [[probabilities(run, classes) for run in runs] for runs in answers.networks.values()]
        found, said = answers.suspicious()
        row = {"comparison": folder.name, "listed": len(found), "said %": f"{100 * said:.0f}"}
        for share in SHARES:
            means = np.mean([flipped_share(answers, networks, share, seed) for seed in range(DRAWS)], axis=0)
            row[f"{share:.1%} flipped: listed, said %, flipped %"] = ", ".join(f"{mean:.0f}" for mean in means)
        rows.append(row)
    report("wrong_labels", rows, {"draws": DRAWS})


if __name__ == "__main__":
    main()
