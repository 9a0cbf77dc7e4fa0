"""Parts of the charts, as plotly figures: dictionaries of ``data`` and ``layout`` that plotly.js draws in the page.

The page sets the colours of text, lines and background, for its light and its dark theme.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

from cnn_compare.formatting import shorten
from cnn_compare.report.network import Network
from cnn_compare.report.section import Figure

# Okabe and Ito's colours, which most colour-blind people can distinguish, with a brown for their yellow; and symbols.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#8C564B")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "pentagon", "star")
# Light enough for dark numbers on every cell, in both themes.
SHADES = [[0, "#f7fbff"], [1, "#6baed6"]]
OPPOSITES = [[0, "#f4a582"], [0.5, "#f7f7f7"], [1, "#92c5de"]]
ROW_HEIGHT = 34
NAME_LENGTH = 28  # Of a network or a class beside a chart, in characters.

Label = Callable[[str], str]


def escaped(text: str) -> str:
    """Text that plotly, which interprets some HTML, shows unchanged."""
    return html.escape(text)


def short_label(text: str) -> str:
    """The short form of a name, for beside an axis."""
    return escaped(shorten(text, NAME_LENGTH))


def network_label(name: str) -> str:
    """Short, and of ``package.module:callable`` only what tells it apart from others of the module."""
    return short_label(re.sub(r"^[\w.]+:(?=\w)", "", name))


def ticks(names: Sequence[str], label: Label = short_label) -> Figure:
    """Whole names tell categories apart; what stands beside the axis is short."""
    return {"tickvals": [escaped(name) for name in names], "ticktext": [label(name) for name in names]}


def styles(networks: Sequence[Network]) -> dict[str, tuple[str, str]]:
    """A colour and a symbol for each network, the same in every chart."""
    endless = zip(itertools.cycle(COLORS), itertools.cycle(SYMBOLS), strict=False)
    return dict(zip(sorted(network.name for network in networks), endless, strict=False))


def line(name: str, along: Sequence[float], values: Sequence[float], style: tuple[str, str]) -> Figure:
    """One network's curve, with a mark at each point where there are not too many."""
    color, symbol = style
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(along) <= 30 else "lines",
        "x": list(along),
        "y": values,
        "name": network_label(name),
        "legendgroup": escaped(name),
        "line": {"color": color},
        "marker": {"symbol": symbol, "size": 7},
    }


def band(along: Sequence[float], lowest: Sequence[float], highest: Sequence[float], color: str) -> Figure:
    """The area between two curves."""
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


def axes(data: list[Figure], horizontal: str, vertical: str) -> Figure:
    """A figure with titles beside its axes."""
    layout = {"xaxis": {"title": {"text": horizontal}}, "yaxis": {"title": {"text": vertical}, "rangemode": "normal"}}
    return {"data": data, "layout": {**layout, "height": 370 + 8 * len(data)}}  # A legend of many networks is high.


def heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Any,
    texts: Any,
    labels: tuple[Label, Label] = (short_label, short_label),
    **options: Any,
) -> Figure:
    """Rows from top to bottom, a text in each cell."""
    data = {
        "type": "heatmap",
        "x": [escaped(name) for name in columns],
        "y": [escaped(name) for name in rows],
        "z": values,
        "text": texts,
        "texttemplate": "%{text}",
        "textfont": {"color": "#111111"},
        "colorscale": SHADES,
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
            "xaxis": {"type": "category", "side": "top", "showgrid": False, **ticks(columns, labels[1])},
            "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, **ticks(rows, labels[0])},
            "height": 150 + ROW_HEIGHT * len(rows),
        },
    }
