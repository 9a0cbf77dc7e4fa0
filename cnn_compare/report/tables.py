"""The comparison's table, for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from cnn_compare.formatting import format_bytes, format_count, format_number, format_significant
from cnn_compare.report.summary import Network, Summary

COLUMNS = {  # key of a row -> heading
    "network": "backbone",
    "n": "n",
    "test_acc": "test acc. %",
    "interval": "95 %",
    "val_acc": "best val. %",
    "epoch": "s / epoch",
    "first": "first epoch s",
    "speed": "images / s",
    "params": "params",
    "macs": "MACs",
    "memory": "peak memory",
}
BAR_WIDTH = 8


def summary_rows(networks: Sequence[Network]) -> list[dict[str, str]]:
    """One row a network, as text.

    The figure behind ± is the standard deviation over the seeds; with one seed, half the 95 % interval that sampling
    the test images alone leaves.
    """
    return [_row(network) for network in networks]


def _row(network: Network) -> dict[str, str]:
    accuracy = network.accuracy_pct
    spread = (accuracy.high - accuracy.low) / 2 if network.sd_points is None else network.sd_points
    return {
        "network": network.name,
        "n": str(len(network.seeds)),
        "test_acc": f"{accuracy.value:.2f}" + ("" if math.isnan(spread) else f" ± {spread:.2f}"),
        "interval": "–" if math.isnan(accuracy.low) else f"{accuracy.low:.2f} … {accuracy.high:.2f}",
        "val_acc": format_number(network.best_val_acc_pct, ".2f"),
        "epoch": format_significant(network.epoch_s),
        "first": format_significant(network.first_epoch_s),
        "speed": format_number(network.images_per_s, ",.0f"),
        "params": format_count(network.params),
        "macs": format_count(network.macs),
        "memory": format_bytes(network.peak_memory_bytes),
    }


def variant_rows(summary: Summary) -> list[dict[str, str]]:
    """Test accuracy of every backbone in every variant of a comparison: a row a backbone, named under ``""``.

    A dash stands where there is no run: the variant is nothing else for that backbone, or has not been trained.
    """
    rows: dict[str, dict[str, str]] = {}
    for network, row in zip(summary.networks, summary_rows(summary.networks), strict=True):
        if network.variant is not None:
            empty = {"": network.backbone, **dict.fromkeys(summary.variants, "–")}
            rows.setdefault(network.backbone, empty)[network.variant] = row["test_acc"]
    return list(rows.values())


def terminal_table(summary: Summary) -> Table:
    """For `rich` to print in 80 characters: accuracy and time with bars."""
    table = Table(title=Text(summary.name), title_justify="left", caption_justify="left")
    table.add_column("backbone", overflow="fold")
    for heading, right in (("n", True), ("test acc. %", True), ("", False)):
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for heading, right in (("s / epoch", True), ("", False), ("params", True)):
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    slowest = max((network.epoch_s or 0.0 for network in summary.networks), default=0.0)
    for network, row in zip(summary.networks, summary_rows(summary.networks), strict=True):
        accuracy = Bar(100, 0, network.accuracy_pct.value, width=BAR_WIDTH, color="green")
        time = Bar(slowest or 1, 0, network.epoch_s or 0, width=BAR_WIDTH, color="yellow")
        texts = [Text(row[key]) for key in ("network", "n", "test_acc", "epoch", "params")]
        table.add_row(*texts[:3], accuracy, texts[3], time, texts[4])
    return table


def markdown_table(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> str:
    """Rows of text as a Markdown table; numbers to the right.

    Args:
        rows: One dictionary a row.
        columns: Key of the value -> heading.
    """
    lines = ["| " + " | ".join(columns.values()) + " |"]
    lines.append("|" + "|".join("---" if index == 0 else "---:" for index in range(len(columns))) + "|")
    lines += ["| " + " | ".join(escape(row[key]) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\").replace("|", "\\|")
    for special in "*`[]":
        escaped = escaped.replace(special, f"\\{special}")
    return " ".join(escaped.split())
