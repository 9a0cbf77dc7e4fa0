"""The answer: what is established, what to read with care, and accuracy against time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cnn_compare.formatting import MISSING, format_list, format_significant
from cnn_compare.report.charts import escaped, network_label, styles
from cnn_compare.report.columns import columns
from cnn_compare.report.control import declared_changes, other_pictures, unfinished
from cnn_compare.report.findings import Findings
from cnn_compare.report.intervals import Estimate
from cnn_compare.report.load import distinct
from cnn_compare.report.network import Network
from cnn_compare.report.order import Ratios, more_accurate, standings, time_ratios
from cnn_compare.report.section import Chart, Figure, Section, Table
from cnn_compare.report.sections.curves import lagging
from cnn_compare.report.sections.growth import growths_of, twice_as_many
from cnn_compare.report.sections.leaks import leaks_of, warning
from cnn_compare.report.sections.method import data_name
from cnn_compare.report.verdict import tiers, verdict

TRAINED_ON_TEST_SET = (
    "the folds are of training and test images together: accuracies do not compare with those on the data's own test "
    "set"
)
FEWEST_FOLDS = 5
SMALLEST, LARGEST = 9, 30


def of(found: Findings) -> Section:
    """The verdict in sentences, beside the networks and a chart of accuracy against time."""
    return Section(
        "answer",
        "The answer",
        sentences=sentences(found),
        table=_leaderboard(found) if found.networks else None,
        chart=_chart(found),
        json={
            "name": found.name,
            "about": about(found),
            "other_pictures": other_pictures(found.stored),
            "unfinished": unfinished(found.stored),
            "warnings": warnings(found),
            "declared_changes": declared_changes(found.groups),
            "question": found.question,
            "verdict": sentences(found),
        },
    )


def _leaderboard(found: Findings) -> Table:
    """The figures that most readers look for, and which networks can be told apart."""
    shown = columns(found, "first")
    estimates = [each.accuracy_pct for each in found.networks]
    least, span = _ends(estimates)

    def along(value: float) -> float:
        return 0.0 if math.isnan(value) else 100 * (value - least) / span

    standing = _standing(found)
    return Table(
        [
            *(column.heading for column in shown),
            f"beside {found.question.baseline}" if found.question.baseline else "tier",
        ],
        [[*(column.format(column.value(each)) for column in shown), standing[each.name]] for each in found.networks],
        "The bar is the 95 % interval. "
        + (
            f"Beside {found.question.baseline}: what is established."
            if found.question.baseline
            else "Within a tier no difference is established."
        ),
        values=[[*(column.value(each) for column in shown), standing[each.name]] for each in found.networks],
        intervals=[(along(each.low), along(each.value), along(each.high)) for each in estimates],
    )


def _ends(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """The least end of an interval, and how far it is from there to the largest one."""
    known = [value for each in estimates for value in (each.low, each.value, each.high) if not math.isnan(value)]
    return min(known), max(known) - min(known) or 1.0


def _standing(found: Findings) -> dict[str, str]:
    """The tier of each network, or what it is beside the baseline."""
    standing = dict.fromkeys((network.name for network in found.networks), MISSING)
    if found.question.baseline:
        for pair in found.pairs:
            first = pair.second == found.question.baseline
            words = ("more accurate" if first else "less accurate") if pair.differs else "open"
            standing[pair.first if first else pair.second] = "the same" if pair.same else words
        return standing
    learned = [network for network in found.networks if not network.at_chance]
    for number, names in enumerate(tiers(learned, found.pairs), start=1):
        standing |= dict.fromkeys(names, str(number))
    return standing


def about(found: Findings) -> list[str]:
    """The data, the networks, the epochs, the device and the day, each in a few words."""
    stored = found.stored
    results = [run.result for run in stored.finished]
    data = distinct(data_name(run.config) for run in stored.finished)
    images = [
        f"{max(values):,} {split} images"
        for split in ("train", "test")
        if (values := [count for result in results if (count := getattr(result, f"{split}_images"))])
    ]
    counted = distinct(network.runs_in_words for network in found.networks)
    runs = f" × {counted[0]}" if len(counted) == 1 else ""
    epochs = distinct(run.config.get("trainer", {}).get("max_epochs") for run in stored.finished if run.config)
    words = {
        f"{', '.join(data)}": data,
        ", ".join(images).replace("train images", "training").replace("test images", "test images"): images,
        f"{len(found.networks)} network{'s' if len(found.networks) > 1 else ''}{runs}": results,
        f"{' or '.join(epochs)} epochs": epochs,
        max((result.finished_at or "" for result in results), default="")[:10]: results,
    }
    return [text for text, known in words.items() if text and known]


def sentences(found: Findings) -> list[str]:
    """What is established, what is not, and what it would take."""
    counted = (each.name for each in found.networks if not each.at_chance or each.name == found.question.baseline)
    best = next(counted, "")
    more_images = twice_as_many(best, growths_of(found))
    return verdict(found.networks, found.pairs, found.question, found.ratios, more_images, found.complete)


def warnings(found: Findings) -> list[str]:
    """What a reader must know of the comparison, the most serious first."""
    results = [run.result for run in found.stored.finished]
    own_data = any(result.data for result in results)
    return [
        *found.control.warnings,
        *found.ignored,
        *warning(leaks_of(found), {each.name: each.accuracy_pct for each in found.networks}),
        *_few_folds(found.networks),
        *([TRAINED_ON_TEST_SET] if found.folds and not own_data else []),
        *_incomplete(found.networks),
        *lagging(found),
        # What was skipped of the user's files makes no times unequal, and is shown all the same.
        *distinct(text for result in results for text in result.data.get("warnings", [])),
    ]


def _few_folds(networks: Sequence[Network]) -> list[str]:
    fewest = min((network.folds for network in networks if network.folds), default=FEWEST_FOLDS)
    if fewest >= FEWEST_FOLDS:
        return []
    left_out = f"every network was trained without 1/{fewest} of the images, and intervals are wide"
    return [f"{fewest} folds: {left_out}; --folds={FEWEST_FOLDS} and more, and more --seeds, say more"]


def _incomplete(networks: Sequence[Network]) -> list[str]:
    """Networks without some of their runs, and those with runs that learned nothing."""

    def each(of: Sequence[tuple[Network, int]]) -> str:
        return format_list([f"{network.name} ({count} of {network.planned})" for network, count in of])

    failed = [(network, network.failed) for network in networks if network.failed]
    lost = [
        (network, network.runs_at_chance) for network in networks if network.runs_at_chance and not network.at_chance
    ]
    missing = [network.name for network in networks if network.folds and len(network.seeds) < network.planned]
    texts = []
    if failed:
        others = "accuracies are those of the others, and may be too high for that reason"
        texts.append(f"runs that failed: {each(failed)}; {others}")
    if lost:
        texts.append(f"runs that learned nothing: {each(lost)}; the mean accuracy counts them")
    if missing:
        texts.append(f"without a result on some folds: {format_list(missing)}; two are compared on those both have")
    return texts


ON_FRONT = (
    " On the dotted line: those that are established as more accurate or faster beside each other one that is not "
    "dominated."
)


def _chart(found: Findings) -> Chart | None:
    """Test accuracy against the seconds of an epoch and, where they were measured, the milliseconds of a prediction."""
    rounds = found.stored.times.predict_ms if found.stored.times else {}
    learned = [each.name for each in found.networks if not each.at_chance]
    predicting = time_ratios({name: rounds[name] for name in learned if name in rounds}, in_turns=True)
    axes = {
        "training": ("train_epoch_s", found.ratios, "training seconds per epoch", "s an epoch"),
        "a prediction": ("predict_ms", predicting, "milliseconds per prediction", "ms a prediction"),
    }
    figures = {
        name: _accuracy_against(found, metric, ratios, title, unit)
        for name, (metric, ratios, title, unit) in axes.items()
        if any(metric in network.metrics for network in found.networks)
    }
    note = ON_FRONT if found.control.timings_ranked else " These times cannot be compared with each other."
    caption = f"Test accuracy with its 95 % interval; the larger the mark, the more parameters.{note}"
    return Chart(figures, caption, "Time of") if figures else None


def _accuracy_against(found: Findings, metric: str, ratios: Ratios | None, title: str, unit: str) -> Figure:
    """Test accuracy against a time.

    Args:
        found: With the networks.
        metric: The time, in any unit.
        ratios: Of the times, from which the Pareto front comes; None where they cannot be compared.
        title: Of the time's axis.
        unit: Behind a value.
    """
    style = styles(found.networks)
    timed = [network for network in found.networks if metric in network.metrics]
    seconds = [network.metrics[metric] for network in timed]
    params = [network.metrics.get("params", 0) for network in timed]
    data: list[Figure] = []
    learned = {network.name: network for network in timed if not network.at_chance}
    accuracies = {name: network.accuracy_pct.value for name, network in learned.items()}
    of_learned = {name: network.metrics[metric] for name, network in learned.items()}
    standing = {} if ratios is None else standings(accuracies, of_learned, more_accurate(found.pairs), ratios)
    front = sorted((of_learned[name], accuracies[name]) for name, each in standing.items() if each.on_front)
    if front:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [value for value, _ in front],
                "y": [accuracy for _, accuracy in front],
                "line": {"shape": "hv", "dash": "dot", "color": "#888888", "width": 1.5},
                "name": "Pareto front",
                "hoverinfo": "skip",
            }
        )
    spread = max(seconds) / min(seconds) if min(seconds) > 0 else 1.0
    positions = [math.log10(value) if spread > 8 else value for value in seconds]
    growth = LARGEST - SMALLEST if len(set(params)) > 1 else 0
    sizes = [SMALLEST + growth * math.sqrt(count / (max(params) or 1)) for count in params]
    for network, value, size in zip(timed, seconds, sizes, strict=True):
        color, symbol = style[network.name]
        accuracy = network.accuracy_pct
        known = not math.isnan(accuracy.low)
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [value],
                "y": [accuracy.value],
                "text": [network_label(network.name)],
                "textposition": "top right",  # The page looks for the best corner.
                "cliponaxis": False,
                "name": escaped(network.name),
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [accuracy.high - accuracy.value if known else 0],
                    "arrayminus": [accuracy.value - accuracy.low if known else 0],
                    "color": color,
                },
                "marker": {
                    "color": f"{color}55",  # Intervals are seen through it.
                    "line": {"color": color, "width": 1.5},
                    "symbol": symbol,
                    "size": size,
                },
                "hovertemplate": f"{escaped(network.name)}<br>%{{y:.2f}} % at %{{x:.3g}} {unit}<extra></extra>",
            }
        )
    least, most = min(positions), max(positions)
    width = most - least or abs(most) or 1.0
    # With room for the names of the last marks.
    axis: dict[str, Any] = {"title": {"text": title}, "range": [least - 0.1 * width, most + 0.3 * width]}
    if spread > 8:
        ticks = [digit * 10.0**power for power in range(-4, 7) for digit in (1, 2, 5)]
        axis |= {
            "type": "log",
            "tickvals": ticks,
            "ticktext": [format_significant(tick) for tick in ticks],
        }
    return {
        "data": data,
        "layout": {
            "xaxis": axis,
            "yaxis": {"title": {"text": "test accuracy %"}},
            "height": 400,
            "showlegend": False,
        },
    }
