"""Growth of accuracy with the number of training images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_compare.formatting import MISSING, format_list, format_number
from cnn_compare.report.answers import by_network
from cnn_compare.report.charts import axes, band, escaped, line, styles
from cnn_compare.report.control import other_pictures
from cnn_compare.report.findings import Findings
from cnn_compare.report.learning_curve import LearningCurve, fit_learning_curve
from cnn_compare.report.section import Chart, Figure, Section, Table

FACTORS = (2, 4)


@dataclass(frozen=True)
class Growth:
    """Growth of a network's accuracy with the number of training images.

    Args:
        network: Its name.
        test_acc_pct: Number of training images, in ascending order -> test accuracy of each seed.
        law: How its error falls; None where no law is to be believed.
        without_law: Why there is none.
    """

    network: str
    test_acc_pct: dict[int, list[float]]
    law: LearningCurve | None
    without_law: str | None


def of(found: Findings) -> Section | None:
    """Accuracy with more training images, measured and extrapolated."""
    growths = growths_of(found)
    if not growths:
        return None
    return Section(
        "growth",
        "Accuracy over training images",
        table=_table(growths),
        chart=_chart(found, growths),
        json={"growth": growths},
    )


def growths_of(found: Findings) -> list[Growth]:
    """The growth of each network that was trained with several numbers of images, the most accurate first."""
    if other_pictures(found.stored):
        return []
    growths = []
    groups = by_network(found.stored.all_finished)
    for network in found.networks:
        accuracies: dict[int, list[float]] = {}
        results = [run.result for run in groups[network.name] if run.result.train_images and run.result.fold is None]
        for result in sorted(results, key=lambda result: result.train_images or 0):
            accuracies.setdefault(result.train_images or 0, []).append(result.metrics["test_acc_pct"].value)
        if len(accuracies) < 2:
            continue
        errors = {size: [1 - each / 100 for each in of_size] for size, of_size in accuracies.items()}
        # Where the number of test images is not recorded, the accuracies say as little as possible.
        law = fit_learning_curve(errors, min(result.test_images or 1 for result in results))
        fitted, reason = (None, law) if isinstance(law, str) else (law, None)
        growths.append(Growth(network.name, accuracies, fitted, reason))
    return growths


def twice_as_many(network: str, growths: Sequence[Growth]) -> str:
    """Words about what a network is likely to reach with twice as many training images; empty if not known."""
    for each in growths:
        if each.network == network and each.law is not None:
            largest = max(each.test_acc_pct)
            expected = each.law.accuracy(2 * largest)
            return (
                f"with twice as many training images ({2 * largest:,}), {network} would reach about "
                f"{100 * expected.value:.1f} % (95 % {100 * expected.low:.1f} … {100 * expected.high:.1f}) instead of "
                f"{statistics.fmean(each.test_acc_pct[largest]):.1f} %"
            )
    return ""


def _table(growths: Sequence[Growth]) -> Table:
    sizes = sorted({size for growth in growths for size in growth.test_acc_pct})

    def mean_and_deviation(accuracies: Sequence[float]) -> str:
        if len(accuracies) < 2:
            return format_number(accuracies[0], ".2f") if accuracies else MISSING
        return f"{statistics.fmean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"

    def expected(law: LearningCurve | None, factor: int) -> str:
        if law is None or factor * law.largest > law.furthest:
            return MISSING
        share = law.accuracy(factor * law.largest)
        return f"{100 * share.value:.1f} ({100 * share.low:.1f} … {100 * share.high:.1f})"

    without: dict[str, list[str]] = {}
    for each in growths:
        if each.law is None:
            reason = f"{max(each.test_acc_pct):,} training images: {each.without_law}"
            without.setdefault(reason, []).append(each.network)
    return Table(
        [
            "network",
            *(f"{size:,}" for size in sizes),
            *(f"× {factor}" for factor in FACTORS),
            "exponent",
            "fitted from",
        ],
        [
            [
                growth.network,
                *(mean_and_deviation(growth.test_acc_pct.get(size, [])) for size in sizes),
                *(expected(growth.law, factor) for factor in FACTORS),
                format_number(growth.law.exponent if growth.law else None, ".2f"),
                format_number(growth.law.smallest if growth.law else None, ","),
            ]
            for growth in growths
        ],
        "Test accuracy % by the number of training images: mean and standard deviation over seeds. × 2 and × 4: what "
        "four families of curves together let expect of two and four times the most images, with a 95 % interval for "
        "other seeds, the fit, what the families disagree on, and other test images; three numbers of images reach to "
        "× 2. Exponent: b of error ~ images^(−b) at the most images. All runs have the same "
        "epochs, so that more images mean more steps. Each smaller subset is part of the larger ones; other choices of "
        "images are not covered."
        + "".join(f" {format_list(names)}: no extrapolation beyond {reason}." for reason, names in without.items()),
    )


def _chart(found: Findings, growths: Sequence[Growth]) -> Chart:
    """Means and their spread, the law through them, and its extrapolation with a band."""
    style = styles(found.networks)
    data: list[Figure] = []
    for growth in growths:
        color, _ = style[growth.network]
        if growth.law:
            data += _extrapolated(growth.network, growth.law, color)
        sizes, accuracies = list(growth.test_acc_pct), list(growth.test_acc_pct.values())
        spread = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in accuracies]
        points = line(growth.network, sizes, [statistics.fmean(each) for each in accuracies], style[growth.network])
        # Where there is a law, its line takes the place of one from point to point.
        points |= {"mode": "markers" if growth.law else "lines+markers"}
        data.append({**points, "error_y": {"type": "data", "array": spread, "color": color}})
    sizes = sorted({size for growth in growths for size in growth.test_acc_pct})
    laws = [growth.law for growth in growths if growth.law]
    ticks = sorted({*sizes, *(size for law in laws for size in (2 * law.largest, law.furthest))})
    figure = axes(data, "training images", "test accuracy %")
    figure["layout"]["xaxis"] |= {
        "type": "log",
        "range": [math.log10(ticks[0] / 1.1), math.log10(ticks[-1] * 1.1)],
        "tickvals": ticks,
        "ticktext": [f"{tick:,}" for tick in ticks],
    }
    extrapolated = "; dashed, with its 95 % interval: with more images" if laws else ""
    mean_of_families = ", and the mean of families of curves" if laws else ""
    return Chart({"": figure}, f"Mean and standard deviation over the seeds{mean_of_families}{extrapolated}.")


def _extrapolated(network: str, law: LearningCurve, color: str) -> list[Figure]:
    data: list[Figure] = []
    for first, last, dash in ((law.smallest, law.largest, "solid"), (law.largest, law.furthest, "dash")):
        sizes = [size for size in law.images if first <= size <= last]
        expected = [law.accuracy(size) for size in sizes]
        if dash == "dash":
            data.append(band(sizes, [100 * it.low for it in expected], [100 * it.high for it in expected], color))
        values = [100 * estimate.value for estimate in expected]
        data.append(
            {"type": "scatter", "mode": "lines", "x": sizes, "y": values, "line": {"color": color, "dash": dash}}
        )
    return [{**part, "legendgroup": escaped(network), "showlegend": False, "hoverinfo": "skip"} for part in data]
