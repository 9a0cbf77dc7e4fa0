"""How far off the report's extrapolations are: the largest training subsets, predicted from the smaller ones.

The comparison has to be there already; its report is not needed:

    cnn-compare compare --config configs/comparisons/growing.yaml
    python benchmarks/growing.py lightning_logs/growing

Each row is a network and a number of training images that it was trained with, two or four times as many as the most
that the prediction knows.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from harness import report

from cnn_compare.report.analysis import analyze
from cnn_compare.report.learning_curve import FEWEST_SIZES, LearningCurve, fit_learning_curve
from cnn_compare.report.load import find_runs
from cnn_compare.report.summary import Growth


def held_out(growth: Growth, test_images: int) -> list[dict[str, Any]]:
    """Every prediction that leaves at least three sizes to make it from, beside what was measured."""
    rows = []
    sizes = list(growth.test_acc_pct)
    for known in range(FEWEST_SIZES, len(sizes)):
        errors = {size: [1 - each / 100 for each in growth.test_acc_pct[size]] for size in sizes[:known]}
        law = fit_learning_curve(errors, test_images)
        for size in sizes[known:]:
            if isinstance(law, LearningCurve) and size > law.furthest:
                continue
            row = {"network": growth.network, "known": f"{sizes[0]:,} … {sizes[known - 1]:,}", "images": f"{size:,}"}
            measured = statistics.fmean(growth.test_acc_pct[size])
            if isinstance(law, str):
                rows.append({**row, "predicted": "refused", "95 %": law, "measured": measured, "off": "", "within": ""})
                continue
            expected = law.accuracy(size)
            interval = f"{100 * expected.low:.1f} … {100 * expected.high:.1f}"
            within = 100 * expected.low <= measured <= 100 * expected.high
            row |= {"predicted": f"{100 * expected.value:.1f}", "95 %": interval, "measured": measured}
            rows.append({**row, "off": f"{100 * expected.value - measured:+.1f}", "within": "yes" if within else "no"})
    return rows


def main() -> None:
    """Predict, compare and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a comparison with --train_subsets, four sizes or more")
    summary = analyze(find_runs(parser.parse_args().folder))
    rows = [row for growth in summary.growth for row in held_out(growth, summary.test_images or 1)]
    if not rows:
        parser.error("the comparison has fewer than four numbers of training images")
    report("growing", rows, {growth.network: growth.test_acc_pct for growth in summary.growth})


if __name__ == "__main__":
    main()
