"""The comparison's table, for the terminal and for Markdown."""

from __future__ import annotations

import math

import pandas as pd
from rich.table import Table

COLUMNS = {  # key of a row -> heading
    "backbone": "backbone",
    "n": "n",
    "test_acc": "test acc. %",
    "val_acc": "best val. %",
    "epoch": "s / epoch",
    "first": "first epoch s",
    "speed": "images / s",
    "params": "params",
    "macs": "MACs",
    "memory": "peak memory",
}


TERMINAL_COLUMNS = ("backbone", "n", "test_acc", "epoch", "speed", "params", "macs")


def summary_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """One row a backbone, the most accurate first, as text.

    The figure behind ± is the standard deviation over the seeds; with one seed, half the 95 % interval that sampling
    the test images alone leaves (normal approximation).

    Args:
        table: As `load_results` gives it.
    """
    groups = by_backbone(table[table.status == "finished"])
    return [_row(*group) for group in sorted(groups, key=lambda group: -group[1].test_acc_pct.mean())]


def by_backbone(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each backbone with its runs, in the order of the table."""
    return [(str(backbone), runs) for backbone, runs in table.groupby("backbone", sort=False)]


def _row(backbone: str, runs: pd.DataFrame) -> dict[str, str]:
    accuracy = runs.test_acc_pct.mean()
    first = runs.iloc[0]
    sampling = 1.96 * math.sqrt(accuracy * (100 - accuracy) / first.test_images)
    spread = runs.test_acc_pct.std() if len(runs) > 1 else sampling
    return {
        "backbone": backbone,
        "n": str(len(runs)),
        "test_acc": f"{accuracy:.2f} ± {spread:.2f}",
        "val_acc": f"{runs.best_val_acc_pct.mean():.2f}",
        "epoch": f"{runs.train_epoch_s.median():.3g}",
        "first": f"{runs.first_epoch_s.median():.3g}",
        "speed": f"{runs.images_per_s.median():,.0f}",
        "params": short(first.params),
        "macs": short(first.macs),
        "memory": f"{runs.peak_memory_bytes.max() / 2**20:,.0f} MiB",
    }


def short(number: float | None) -> str:
    """``11_173_962`` -> ``11.2 M``; nothing for what was not measured."""
    if number is None or math.isnan(number):
        return "–"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f}"


def terminal_table(table: pd.DataFrame, title: str) -> Table:
    """For `rich` to print: the columns that fit into 80 characters."""
    shown = Table(title=title, title_justify="left")
    for key in TERMINAL_COLUMNS:
        shown.add_column(COLUMNS[key], justify="left" if key == "backbone" else "right", no_wrap=True)
    for row in summary_rows(table):
        shown.add_row(*(row[key] for key in TERMINAL_COLUMNS))
    return shown


def markdown_table(rows: list[dict[str, str]], columns: dict[str, str]) -> str:
    """Rows of text as a Markdown table; numbers to the right.

    Args:
        rows: One dictionary a row.
        columns: Key of the value -> heading.
    """
    lines = ["| " + " | ".join(columns.values()) + " |"]
    lines.append("|" + "|".join("---" if index == 0 else "---:" for index in range(len(columns))) + "|")
    lines += ["| " + " | ".join(_escape(row[key]) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def _escape(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\").replace("|", "\\|")
    return " ".join(escaped.split())
