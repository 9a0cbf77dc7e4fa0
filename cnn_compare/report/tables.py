"""A comparison's figures for the terminal, and tables as Markdown."""

from __future__ import annotations

from rich.bar import Bar
from rich.table import Table as TerminalTable
from rich.text import Text

from cnn_compare.report.columns import columns
from cnn_compare.report.contents import Table
from cnn_compare.report.summary import Summary

BAR_WIDTH = 8
# Columns with a bar beside the figure: its colour, and the value of a full bar (None: the largest one).
BARS: dict[str, tuple[str, float | None]] = {"test_acc_pct": ("green", 100), "train_epoch_s": ("yellow", None)}


def terminal_table(summary: Summary) -> TerminalTable:
    """For `rich` to print in 80 characters: accuracy and time with bars, while there is room for them."""
    table = TerminalTable(title=Text(summary.name), title_justify="left", caption_justify="left")
    shown = columns(summary, "terminal")
    bars = BARS if len(shown) <= 5 else {}
    largest = {}
    for column in shown:
        name = column.key == "network"
        table.add_column(column.heading, justify="left" if name else "right", overflow="fold", no_wrap=not name)
        if column.key in bars:
            table.add_column("", no_wrap=True)
            values = [column.value(network) or 0 for network in summary.networks]
            largest[column.key] = bars[column.key][1] or max(values, default=0) or 1
    for network in summary.networks:
        cells: list[Text | Bar] = []
        for column in shown:
            cells.append(Text(column.cell(network)))
            if column.key in bars:
                length = column.value(network) or 0
                cells.append(Bar(largest[column.key], 0, length, width=BAR_WIDTH, color=bars[column.key][0]))
        table.add_row(*cells)
    return table


def markdown_table(table: Table) -> str:
    """A table without its heading and note; numbers to the right."""
    rest = "---:" if table.of_numbers else "---"
    lines = ["| " + " | ".join(map(escape, table.columns)) + " |"]
    lines.append("|" + "|".join(rest if index else "---" for index in range(len(table.columns))) + "|")
    lines += ["| " + " | ".join(map(escape, row)) + " |" for row in table.rows]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text that Markdown shows unchanged, in one line."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\").replace("|", "\\|")
    for special in "*`[]":
        escaped = escaped.replace(special, f"\\{special}")
    return " ".join(escaped.split())
