"""The figures of every network: as a table, by variant, as charts of costs, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnn_compare.formatting import MISSING
from cnn_compare.report.charts import ROW_HEIGHT, escaped, network_label, styles, ticks
from cnn_compare.report.columns import COLUMNS, Column, columns
from cnn_compare.report.findings import Findings
from cnn_compare.report.section import Chart, Figure, Section, Table


def of(found: Findings) -> Section | None:
    """A row a network, a figure a column."""
    if not found.networks:
        return None
    json = {"networks": found.networks}
    return Section("results", "Results", table=table_of(found, columns(found, "table")), json=json)


def table_of(found: Findings, shown: Sequence[Column]) -> Table:
    """Some columns of every network."""
    return Table(
        [column.heading for column in shown],
        [[column.cell(network) for column in shown] for network in found.networks],
        " ".join(column.note for column in shown if column.note),
        values=[[column.value(network) for column in shown] for network in found.networks],
    )


def variants(found: Findings) -> Section | None:
    """Test accuracy: a row a backbone, a column a variant."""
    variants = (run.result.variant for run in found.stored.finished)
    trained = dict.fromkeys(variant for variant in variants if variant is not None)
    manifest = found.stored.manifest.get("variants")
    order = list(manifest) if isinstance(manifest, dict) else []
    names = [name for name in dict.fromkeys([*order, *trained]) if name in trained]
    if not names:
        return None
    accuracy = next(column for column in COLUMNS if column.key == "test_acc_pct")
    cells = {(network.backbone, network.variant): accuracy.cell(network) for network in found.networks}
    backbones = dict.fromkeys(network.backbone for network in found.networks if network.variant is not None)
    table = Table(
        [accuracy.heading, *names],
        [[backbone, *(cells.get((backbone, name), MISSING) for name in names)] for backbone in backbones],
        "A dash: the variant changes nothing for that backbone, or has not been trained.",
    )
    return Section("variants", "Test accuracy by variant", table=table, json={"variants": names})


def costs(found: Findings) -> Section | None:
    """A bar chart for every column that asks for one."""
    style = styles(found.networks)
    figures: dict[str, Figure] = {}
    for column in columns(found, "chart"):
        values = [column.value(network) for network in found.networks]
        if not any(values):
            continue
        data = {
            "type": "bar",
            "orientation": "h",
            "y": [escaped(network.name) for network in found.networks],
            "x": values,
            "text": [column.format(value) for value in values],
            "textposition": "auto",
            "marker": {"color": [style[network.name][0] for network in found.networks]},
            "hovertemplate": "%{y}: %{text}<extra></extra>",
        }
        names = ticks([network.name for network in found.networks], network_label)
        layout = {
            "yaxis": {"type": "category", "autorange": "reversed", **names},
            "xaxis": {"rangemode": "tozero", "tickformat": "~s"},
            "showlegend": False,
            "height": 90 + ROW_HEIGHT * len(values),
        }
        figures[column.heading] = {"data": [data], "layout": layout}
    if not figures:
        return None
    return Section("costs", "Costs", chart=Chart(figures, "As in the table of results.", "Cost"), folded=True)


def networks(found: Findings) -> Section | None:
    """Facts of each network, beside its results."""
    shown = columns(found, "card")
    if not shown:
        return None
    return Section(
        "networks", "The networks", table=replace(table_of(found, [NAME, *shown]), of_numbers=False), folded=True
    )


NAME = COLUMNS[0]
