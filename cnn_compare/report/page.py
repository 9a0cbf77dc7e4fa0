"""The report as one HTML file that needs nothing else: no server, no network."""

from __future__ import annotations

import base64
import gzip
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from cnn_compare.files import without_nan
from cnn_compare.formatting import format_count, format_number, format_p, format_signed, format_significant
from cnn_compare.report.plots import Chart, charts
from cnn_compare.report.summary import Network, Summary
from cnn_compare.report.tables import summary_rows, variant_rows

TABLE = (  # key of `summary_rows`, heading, figure to sort by
    ("network", "backbone", None),
    ("n", "seeds", lambda network: len(network.seeds)),
    ("test_acc", "test accuracy %", lambda network: network.accuracy_pct.value),
    ("interval", "95 % interval", lambda network: network.accuracy_pct.low),
    ("val_acc", "best validation %", lambda network: network.best_val_acc_pct),
    ("epoch", "s / epoch", lambda network: network.epoch_s),
    ("first", "first epoch s", lambda network: network.first_epoch_s),
    ("speed", "images / s", lambda network: network.images_per_s),
    ("params", "parameters", lambda network: network.params),
    ("macs", "MACs", lambda network: network.macs),
    ("memory", "peak memory", lambda network: network.peak_memory_bytes),
)


def page(summary: Summary) -> str:
    """The whole page.

    Args:
        summary: What it says. Every text in it, whatever it holds, is shown as text.
    """
    environment = Environment(
        loader=PackageLoader("cnn_compare.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "format_number": format_number,
        "format_p": format_p,
        "format_signed": format_signed,
        "format_count": format_count,
        "format_significant": format_significant,
    }
    drawn = charts(summary)
    return environment.get_template("page.html.j2").render(
        summary=summary,
        charts={chart.key: chart for chart in drawn},
        costs=[chart for chart in drawn if chart.key.startswith("cost-")],
        figures=without_nan([_figure(chart) for chart in drawn]),
        headings=[heading for _, heading, _ in TABLE],
        rows=_rows(summary.networks),
        by_variant=variant_rows(summary),
        levels=list(summary.networks[0].seconds_to_pct) if summary.networks else [],
        plotly=_packed_plotly(),
    )


@lru_cache
def _packed_plotly() -> str:
    """plotly.js, five megabytes of it, as two of base64; browsers since 2023 unpack it themselves."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _figure(chart: Chart) -> dict[str, Any]:
    return {"key": chart.key, "figure": chart.figure, "options": list((chart.options or {}).values())}


def _rows(networks: list[Network]) -> list[list[dict[str, Any]]]:
    """Cells with the figure that each is sorted by."""
    return [
        [{"text": row[key], "value": "" if figure is None else figure(network)} for key, _, figure in TABLE]
        for network, row in zip(networks, summary_rows(networks), strict=True)
    ]
