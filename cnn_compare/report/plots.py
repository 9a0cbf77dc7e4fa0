"""The report's charts as plotly figures: dictionaries of ``data`` and ``layout`` that plotly.js draws in the page.

The page sets the colours of text, lines and background, for its light and its dark theme.
"""

from __future__ import annotations

import html
import itertools
import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_compare.formatting import format_signed, format_significant, shorten
from cnn_compare.report.columns import columns
from cnn_compare.report.contents import GROWTH
from cnn_compare.report.learning_curve import LearningCurve
from cnn_compare.report.order import more_accurate, standings, time_ratios
from cnn_compare.report.summary import Curves, Network, Summary, class_name, which_classes

# Okabe and Ito's colours, which most colour-blind people can distinguish, without the yellow; with different symbols.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "pentagon", "star")
SMALLEST, LARGEST = 10, 44
ROW_HEIGHT = 34
NAME_LENGTH = 28  # Of a network or a class beside a chart, in characters.

Figure = dict[str, Any]
Label = Callable[[str], str]


@dataclass(frozen=True)
class Chart:
    """A figure with its heading and caption; ``options`` has one figure a choice instead."""

    key: str
    heading: str
    caption: str
    figure: Figure | None = None
    options: dict[str, Figure] | None = None


def charts(summary: Summary) -> list[Chart]:
    """All charts for which there is data."""
    if not summary.networks:
        return []
    made = [
        _accuracy_against_epochs(summary),
        _accuracy_against_predictions(summary),
        *_learning_curves(summary),
        _differences(summary),
        _growth(summary),
        _search(summary),
    ]
    made += [_classes(summary), _confusion(summary), _reliability(summary), *_costs(summary)]
    return [chart for chart in made if chart is not None]


def _label(text: str) -> str:
    # Plotly interprets some HTML in its texts.
    return html.escape(text)


def _short_label(text: str) -> str:
    return _label(shorten(text, NAME_LENGTH))


def _network_label(name: str) -> str:
    """Short, and of ``package.module:callable`` only what tells it apart from others of the module."""
    return _short_label(re.sub(r"^[\w.]+:(?=\w)", "", name))


def _ticks(names: Sequence[str], label: Label = _short_label) -> Figure:
    """Whole names tell categories apart; what stands beside the axis is short."""
    return {"tickvals": [_label(name) for name in names], "ticktext": [label(name) for name in names]}


def _style(networks: Sequence[Network]) -> dict[str, tuple[str, str]]:
    """A colour and a symbol for each network, the same in every chart."""
    endless = zip(itertools.cycle(COLORS), itertools.cycle(SYMBOLS), strict=False)
    return dict(zip(sorted(network.name for network in networks), endless, strict=False))


ON_FRONT = (
    " On the dotted line: those that are established as more accurate or faster beside each other one that is not "
    "dominated."
)


def _accuracy_against_epochs(summary: Summary) -> Chart | None:
    timed = [network for network in summary.networks if network.epoch_s is not None]
    if not timed:
        return None
    note = ON_FRONT if summary.timings_ranked else " These times cannot be compared with each other."
    return Chart(
        "accuracy-time",
        "Accuracy against time",
        "Test accuracy with its 95 % interval against the seconds of a training epoch; the larger the mark, the more "
        f"parameters.{note}",
        _accuracy_against(
            summary,
            timed,
            [network.epoch_s or math.nan for network in timed],
            [bool(network.on_front) for network in timed],
            "training seconds per epoch",
            "s an epoch",
        ),
    )


def _accuracy_against_predictions(summary: Summary) -> Chart | None:
    timed = [network for network in summary.networks if network.predict_ms is not None]
    if not timed:
        return None
    values = [network.predict_ms.value for network in timed if network.predict_ms is not None]
    rounds = summary.times.predict_ms if summary.times else {}
    learned = {network.name: network for network in timed if not network.at_chance}
    found = standings(
        {name: network.accuracy_pct.value for name, network in learned.items()},
        {name: network.predict_ms.value for name, network in learned.items() if network.predict_ms is not None},
        more_accurate(summary.pairs),
        time_ratios({name: rounds[name] for name in learned if name in rounds}, in_turns=True),
    )
    return Chart(
        "accuracy-prediction",
        "Accuracy against the time of a prediction",
        "Test accuracy with its 95 % interval against the milliseconds that a prediction of one decoded picture takes, "
        f"on the machine and in the turns that measured the seconds of an epoch.{ON_FRONT}",
        _accuracy_against(
            summary,
            timed,
            values,
            [network.name in found and found[network.name].on_front for network in timed],
            "milliseconds per prediction",
            "ms a prediction",
        ),
    )


def _accuracy_against(
    summary: Summary,
    timed: Sequence[Network],
    seconds: Sequence[float],
    on_front: Sequence[bool],
    title: str,
    unit: str,
) -> Figure:
    """Test accuracy against a time.

    Args:
        summary: Of all networks, which decide on colours.
        timed: The networks of the chart.
        seconds: The time of each, in any unit.
        on_front: Whether each is on the Pareto front.
        title: Of the time's axis.
        unit: Behind a value.
    """
    style = _style(summary.networks)
    params = [network.metrics.get("params", 0) for network in timed]
    data: list[Figure] = []
    values = zip(seconds, timed, on_front, strict=True)
    front = sorted((value, network.accuracy_pct.value) for value, network, front in values if front)
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
    corners = _label_corners(timed, positions, sizes)
    for network, value, size, corner in zip(timed, seconds, sizes, corners, strict=True):
        color, symbol = style[network.name]
        accuracy = network.accuracy_pct
        known = not math.isnan(accuracy.low)
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [value],
                "y": [accuracy.value],
                "text": [_network_label(network.name)],
                "textposition": corner,
                "cliponaxis": False,
                "name": _label(network.name),
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [accuracy.high - accuracy.value if known else 0],
                    "arrayminus": [accuracy.value - accuracy.low if known else 0],
                    "color": color,
                },
                "marker": {
                    "color": color,
                    "symbol": symbol,
                    "opacity": 0.85,
                    "size": size,
                },
                "hovertemplate": f"{_label(network.name)}<br>%{{y:.2f}} % at %{{x:.3g}} {unit}<extra></extra>",
            }
        )
    axis: dict[str, Any] = {"title": {"text": title}, "type": "log" if spread > 8 else "linear"}
    if spread > 8:
        margin = 0.12 * math.log10(spread)
        ticks = [digit * 10.0**power for power in range(-4, 7) for digit in (1, 2, 5)]
        axis |= {
            "range": [math.log10(min(seconds)) - margin, math.log10(max(seconds)) + margin],
            "tickvals": ticks,
            "ticktext": [format_significant(tick) for tick in ticks],
        }
    return {
        "data": data,
        "layout": {
            "xaxis": axis,
            "yaxis": {"title": {"text": "test accuracy %"}},
            "height": 460,
            "showlegend": False,
        },
    }


def _label_corners(networks: Sequence[Network], positions: Sequence[float], sizes: Sequence[float]) -> list[str]:
    """The corner of each mark at which its name overlaps the fewest marks and names.

    Args:
        networks: Of the chart.
        positions: Of their marks along the horizontal axis.
        sizes: Diameters of their marks, in pixels.
    """
    estimates = [network.accuracy_pct for network in networks]
    ends = [end for estimate in estimates for end in (estimate.low, estimate.high) if not math.isnan(end)]
    ends += [estimate.value for estimate in estimates]

    def pixels(value: float, values: Sequence[float], room: int) -> float:
        """For a wide screen; in a narrower chart names may still touch."""
        least, most = min(values), max(values)
        return room * (value - least) / (most - least) if most > least else room / 2

    marks = [
        (pixels(position, positions, 850), pixels(estimate.value, ends, 360), size / 2)
        for position, estimate, size in zip(positions, estimates, sizes, strict=True)
    ]
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y, radius in marks]
    corners = []
    for network, (x, y, radius) in zip(networks, marks, strict=True):
        width, height = 8 * len(_network_label(network.name)), 16
        candidates = []
        for corner in ("top right", "top left", "bottom right", "bottom left"):
            left = x + radius if corner.endswith("right") else x - radius - width
            bottom = y + radius if corner.startswith("top") else y - radius - height
            right, top = left + width, bottom + height
            hidden = sum(left < d and c < right and bottom < f and e < top for c, e, d, f in taken)
            candidates.append((hidden + 10 * (left < -90 or right > 940), corner, (left, bottom, right, top)))
        _, corner, box = min(candidates, key=lambda candidate: candidate[0])
        corners.append(corner)
        taken.append(box)
    return corners


def _growth(summary: Summary) -> Chart | None:
    """Means and their spread, the law through them, and its extrapolation with a band."""
    if not summary.growth:
        return None
    style = _style(summary.networks)
    data: list[Figure] = []
    for growth in summary.growth:
        color, _ = style[growth.network]
        if growth.law:
            data += _extrapolated(growth.network, growth.law, color)
        sizes, accuracies = list(growth.test_acc_pct), list(growth.test_acc_pct.values())
        spread = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in accuracies]
        points = _line(growth.network, sizes, [statistics.fmean(each) for each in accuracies], style[growth.network])
        # Where there is a law, its line takes the place of one from point to point.
        points |= {"mode": "markers" if growth.law else "lines+markers"}
        data.append({**points, "error_y": {"type": "data", "array": spread, "color": color}})
    measured = sorted({size for growth in summary.growth for size in growth.test_acc_pct})
    laws = [growth.law for growth in summary.growth if growth.law]
    ticks = sorted({*measured, *(size for law in laws for size in (2 * law.largest, law.furthest))})
    figure = _axes(data, "training images", "test accuracy %")
    figure["layout"]["xaxis"] |= {
        "type": "log",
        "range": [math.log10(ticks[0] / 1.1), math.log10(ticks[-1] * 1.1)],
        "tickvals": ticks,
        "ticktext": [f"{tick:,}" for tick in ticks],
    }
    band = "; dashed, with its 95 % interval: with more images" if laws else ""
    return Chart(
        "growth",
        GROWTH,
        f"Mean and standard deviation over the seeds{', and the mean of families of curves' if laws else ''}{band}.",
        figure,
    )


def _extrapolated(network: str, law: LearningCurve, color: str) -> list[Figure]:
    data: list[Figure] = []
    for first, last, dash in ((law.smallest, law.largest, "solid"), (law.largest, law.furthest, "dash")):
        sizes = [size for size in law.images if first <= size <= last]
        expected = [law.accuracy(size) for size in sizes]
        if dash == "dash":
            data.append(_band(sizes, [100 * it.low for it in expected], [100 * it.high for it in expected], color))
        values = [100 * estimate.value for estimate in expected]
        line = {"color": color, "dash": dash}
        data.append({"type": "scatter", "mode": "lines", "x": sizes, "y": values, "line": line})
    return [{**part, "legendgroup": _label(network), "showlegend": False, "hoverinfo": "skip"} for part in data]


def _learning_curves(summary: Summary) -> list[Chart]:
    drawn = [(network.name, network.curves) for network in summary.networks if network.curves]
    if not drawn:
        return []
    style = _style(summary.networks)
    several = any(len(network.seeds) > 1 for network in summary.networks)
    band = "; the band spans the runs" if several else ""

    def figure(seconds: bool) -> Figure:
        data: list[Figure] = []
        for name, curves in drawn:
            data += _curve(name, curves, style[name], seconds)
        return _axes(data, "training seconds" if seconds else "epoch", "validation accuracy %")

    losses = [
        {
            **_line(name, [epoch + 1 for epoch in curves.epochs], values, style[name]),
            "line": {"color": style[name][0], "dash": dash},
        }
        | {"name": f"{_network_label(name)}, {what}"}
        for name, curves in drawn
        for what, values, dash in (
            ("training", curves.train_loss, "dot"),
            ("validation", curves.val_loss, "solid"),
        )
        if any(math.isfinite(value) for value in values)
    ]
    loss = Chart("loss", "Loss", "Mean cross-entropy; over the runs.", _axes(losses, "epoch", "loss"))

    return [
        Chart("by-epoch", "Learning curves by epoch", f"Validation accuracy after each epoch{band}.", figure(False)),
        Chart(
            "by-seconds",
            "Learning curves by seconds",
            f"The same against the seconds of training, validation not counted{band}.",
            figure(True),
        ),
        *([loss] if losses else []),
    ]


def _curve(name: str, curves: Curves, style: tuple[str, str], seconds: bool) -> list[Figure]:
    color, _ = style
    along: Sequence[float] = curves.seconds if seconds else [epoch + 1 for epoch in curves.epochs]
    band = _band(along, curves.lowest_pct, curves.highest_pct, color)
    band |= {"legendgroup": _label(name), "showlegend": False, "hoverinfo": "skip"}
    line = _line(name, along, curves.val_acc_pct, style)
    return [band, line] if curves.highest_pct != curves.lowest_pct else [line]


def _band(along: Sequence[float], lowest: Sequence[float], highest: Sequence[float], color: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*along, *reversed(along)],
        "y": [*highest, *reversed(lowest)],
        "fill": "toself",
        "fillcolor": color,
        "opacity": 0.18,
        "line": {"width": 0},
    }


def _line(name: str, along: Sequence[float], values: Sequence[float], style: tuple[str, str]) -> Figure:
    color, symbol = style
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(along) <= 30 else "lines",
        "x": list(along),
        "y": values,
        "name": _network_label(name),
        "legendgroup": _label(name),
        "line": {"color": color},
        "marker": {"symbol": symbol, "size": 7},
    }


def _axes(data: list[Figure], horizontal: str, vertical: str) -> Figure:
    layout = {"xaxis": {"title": {"text": horizontal}}, "yaxis": {"title": {"text": vertical}, "rangemode": "normal"}}
    return {"data": data, "layout": layout}


def _differences(summary: Summary) -> Chart | None:
    if not summary.pairs:
        return None
    names = [network.name for network in summary.networks]
    index = {name: number for number, name in enumerate(names)}
    values: list[list[float | None]] = [[None] * len(names) for _ in names]
    texts = [[""] * len(names) for _ in names]
    for pair in summary.pairs:
        for row, column, sign in ((pair.first, pair.second, 1), (pair.second, pair.first, -1)):
            points = sign * pair.points.value
            values[index[row]][index[column]] = points
            texts[index[row]][index[column]] = format_signed(points) if pair.differs else f"({format_signed(points)})"
    largest = max(abs(pair.points.value) for pair in summary.pairs) or 1.0
    figure = _heatmap(
        names,
        names,
        values,
        texts,
        (_network_label, _network_label),
        colorscale="RdBu",
        reversescale=True,
        zmin=-largest,
        zmax=largest,
    )
    return Chart(
        "differences",
        "Which differences are established",
        "Points of test accuracy by which the network of the row exceeds that of the column; in parentheses, what the "
        "tests, corrected for their number, do not establish.",
        figure,
    )


def _search(summary: Summary) -> Chart | None:
    """Whom tuning helps, and how soon."""
    several = [searched for searched in summary.searched if searched.trials > 1]
    if not several:
        return None
    styles = zip(itertools.cycle(COLORS), itertools.cycle(SYMBOLS), strict=False)
    lines = [
        _line(searched.backbone, range(1, searched.trials + 1), searched.expected_pct, style)
        for searched, style in zip(several, styles, strict=False)
    ]
    caption = "Expected best validation accuracy over the number of trials."
    return Chart("search", "What more trials find", caption, _axes(lines, "trials", "best validation accuracy, %"))


def _heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Any,
    texts: Any,
    labels: tuple[Label, Label] = (_short_label, _short_label),
    **options: Any,
) -> Figure:
    """Rows from top to bottom, a text in each cell."""
    data = {
        "type": "heatmap",
        "x": [_label(name) for name in columns],
        "y": [_label(name) for name in rows],
        "z": values,
        "text": texts,
        "texttemplate": "%{text}",
        "hovertemplate": "%{y}, %{x}: %{text}<extra></extra>",
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        **options,
    }
    return {
        "data": [data],
        "layout": {
            # Otherwise plotly would convert names that look like numbers or dates.
            "xaxis": {"type": "category", "side": "top", "showgrid": False, **_ticks(columns, labels[1])},
            "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, **_ticks(rows, labels[0])},
            "height": 150 + ROW_HEIGHT * len(rows),
        },
    }


def _classes(summary: Summary) -> Chart | None:
    networks = [network for network in summary.networks if network.class_acc_pct]
    if not networks:
        return None
    shown = summary.shown_classes()
    values = [[network.class_acc_pct[label].value for label in shown] for network in networks]
    texts = [[f"{value:.0f}" for value in row] for row in values]
    names = [class_name(summary.class_names, label) for label in shown]
    figure = _heatmap(
        [network.name for network in networks],
        names,
        values,
        texts,
        (_network_label, _short_label),
        colorscale="Viridis",
    )
    caption = f"Recall: percent of each class's test images answered right.{which_classes(summary)}"
    return Chart("classes", "Accuracy by class", caption, figure)


def _confusion(summary: Summary) -> Chart | None:
    options = {}
    for network in summary.networks:
        if network.confusion:
            names = [class_name(summary.class_names, label) for label in range(len(network.confusion))]
            shares = [[100 * count / max(sum(row), 1) for count in row] for row in network.confusion]
            texts = [[f"{share:.0f}" if share >= 0.5 else "" for share in row] for row in shares]
            options[network.name] = _heatmap(
                names, names, shares, texts, colorscale="Blues", reversescale=True, zmin=0, zmax=100
            )
    if not options:
        return None
    caption = "Rows are true classes, columns are answers; percent of the row, over all runs."
    return Chart("confusion", "Confusion", caption, options=options)


def _reliability(summary: Summary) -> Chart | None:
    data: list[Figure] = []
    style = _style(summary.networks)
    for network in summary.networks:
        if network.calibration:
            color, symbol = style[network.name]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "x": [100 * value for value in network.calibration.confidence],
                    "y": [100 * value for value in network.calibration.accuracy],
                    "name": f"{_network_label(network.name)} (ECE {100 * network.calibration.ece:.1f} %)",
                    "line": {"color": color},
                    "marker": {"symbol": symbol, "size": 7},
                }
            )
    if not data:
        return None
    right = {"type": "scatter", "mode": "lines", "x": [0, 100], "y": [0, 100], "name": "as sure as right"}
    data.append({**right, "line": {"dash": "dot", "color": "#888888"}, "hoverinfo": "skip"})
    layout = {
        "xaxis": {"title": {"text": "mean confidence %"}, "range": [0, 102]},
        "yaxis": {"title": {"text": "answers that are right %"}, "range": [0, 102]},
        "height": 460,
    }
    caption = (
        "Answers in 15 bins of confidence: below the dotted line a network is surer than it is right. ECE is the mean "
        "distance from the line, weighted by images."
    )
    return Chart("reliability", "Can the confidence be believed", caption, {"data": data, "layout": layout})


def _costs(summary: Summary) -> list[Chart]:
    """A bar chart for every column that asks for one."""
    style = _style(summary.networks)
    made = []
    for column in columns(summary, "chart"):
        values = [column.value(network) for network in summary.networks]
        if not any(values):
            continue
        data = {
            "type": "bar",
            "orientation": "h",
            "y": [_label(network.name) for network in summary.networks],
            "x": values,
            "text": [column.format(value) for value in values],
            "textposition": "auto",
            "marker": {"color": [style[network.name][0] for network in summary.networks]},
            "hovertemplate": "%{y}: %{text}<extra></extra>",
        }
        layout = {
            "yaxis": {
                "type": "category",
                "autorange": "reversed",
                **_ticks([it.name for it in summary.networks], _network_label),
            },
            "xaxis": {"rangemode": "tozero", "tickformat": "~s"},
            "showlegend": False,
            "height": 90 + ROW_HEIGHT * len(values),
        }
        made.append(Chart(f"cost-{column.key}", column.heading, column.note, {"data": [data], "layout": layout}))
    return made
