"""The report as one HTML file that needs no server and no network."""

from __future__ import annotations

import base64
import gzip
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from cnn_compare.files import without_nan
from cnn_compare.report.columns import columns
from cnn_compare.report.contents import tables
from cnn_compare.report.plots import Chart, charts
from cnn_compare.report.summary import Summary


def page(summary: Summary) -> str:
    """The whole page.

    Args:
        summary: What it shows. All texts in it are escaped.
    """
    drawn = charts(summary)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            summary=summary,
            tables=tables(summary),
            # What the page sorts the figures by.
            sort_values=[
                [column.value(network) for column in columns(summary, "table")] for network in summary.networks
            ],
            card=columns(summary, "card"),
            charts={chart.key: chart for chart in drawn},
            costs=[chart.key for chart in drawn if chart.key.startswith("cost-")],
            figures=without_nan([_figure(chart) for chart in drawn]),
            plotly=_packed_plotly(),
        )
    )


def environment() -> Environment:
    """Where the templates are; all texts that they show are escaped."""
    return Environment(
        loader=PackageLoader("cnn_compare.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


@lru_cache
def _packed_plotly() -> str:
    """plotly.js, five megabytes of it, as two of base64; browsers since 2023 unpack it themselves."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _figure(chart: Chart) -> dict[str, Any]:
    return {"key": chart.key, "figure": chart.figure, "options": list((chart.options or {}).values())}
