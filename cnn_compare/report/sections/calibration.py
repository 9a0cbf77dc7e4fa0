"""Whether the networks are as sure as they are right."""

from __future__ import annotations

from cnn_compare.report.charts import network_label, styles
from cnn_compare.report.findings import Findings
from cnn_compare.report.section import Chart, Figure, Section


def of(found: Findings) -> Section | None:
    """Accuracy over confidence."""
    data: list[Figure] = []
    style = styles(found.networks)
    for network in found.networks:
        if network.calibration:
            color, symbol = style[network.name]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "x": [100 * value for value in network.calibration.confidence],
                    "y": [100 * value for value in network.calibration.accuracy],
                    "name": f"{network_label(network.name)} (ECE {100 * network.calibration.ece:.1f} %)",
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
        "height": 400 + 10 * len(data),
    }
    caption = (
        "Answers in 15 bins of confidence: below the dotted line a network is surer than it is right. ECE is the mean "
        "distance from the line, weighted by images."
    )
    chart = Chart({"": {"data": data, "layout": layout}}, caption)
    return Section("calibration", "Can the confidence be believed", chart=chart, folded=True)
