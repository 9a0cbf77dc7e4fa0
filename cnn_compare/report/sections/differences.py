"""Differences in accuracy, and which are established."""

from __future__ import annotations

from cnn_compare.formatting import format_p, format_signed
from cnn_compare.report.charts import OPPOSITES, heatmap, network_label
from cnn_compare.report.findings import Findings
from cnn_compare.report.section import Chart, Section, Table
from cnn_compare.report.verdict import outcome

SEEDS_TEST = (
    "Behrens and Fisher's test over seeds and test images, with variances over seeds shrunken towards what the "
    "networks have in common; with one seed, over test images. p is that of a pair alone; intervals and corrected "
    "p values are for all pairs together."
)
FOLDS_TEST = (
    "Nadeau and Bengio's t test on the differences in the same folds: with variance s² of J of them, in k folds a "
    "repeat, that of their mean is s² (1/J + 1/(k − 1)), and not s²/J, because folds share training images. p is that "
    "of a pair alone; intervals are for all pairs together, and corrected p values are Holm's."
)


def of(found: Findings) -> Section | None:
    """Every pair of networks, or each network with the baseline."""
    if not found.pairs:
        return None
    json = {"pairs": found.pairs}
    return Section("differences", "Differences", table=_table(found), chart=_chart(found), json=json)


def _table(found: Findings) -> Table:
    return Table(
        ["networks", "points", "95 %", "p", "p, corrected", "folds" if found.folds else "seeds", "difference"],
        [
            [
                f"{pair.first} − {pair.second}",
                format_signed(pair.points.value, 2),
                f"{format_signed(pair.points.low, 2)} … {format_signed(pair.points.high, 2)}",
                format_p(pair.p),
                format_p(pair.p_corrected),
                " and ".join(map(str, dict.fromkeys(pair.seeds))),
                outcome(pair, found.question.margin),
            ]
            for pair in found.pairs
        ],
        FOLDS_TEST if found.folds else SEEDS_TEST,
    )


def _chart(found: Findings) -> Chart:
    names = [network.name for network in found.networks]
    index = {name: number for number, name in enumerate(names)}
    values: list[list[float | None]] = [[None] * len(names) for _ in names]
    texts = [[""] * len(names) for _ in names]
    for pair in found.pairs:
        for row, column, sign in ((pair.first, pair.second, 1), (pair.second, pair.first, -1)):
            points = sign * pair.points.value
            values[index[row]][index[column]] = points
            texts[index[row]][index[column]] = format_signed(points) if pair.differs else f"({format_signed(points)})"
    largest = max(abs(pair.points.value) for pair in found.pairs) or 1.0
    figure = heatmap(
        names,
        names,
        values,
        texts,
        (network_label, network_label),
        colorscale=OPPOSITES,
        zmin=-largest,
        zmax=largest,
    )
    caption = (
        "Points of test accuracy by which the network of the row exceeds that of the column; in parentheses, what the "
        "tests, corrected for their number, do not establish."
    )
    return Chart({"": figure}, caption)
