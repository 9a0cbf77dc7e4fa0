"""A comparison's figures for the terminal, and tables as Markdown."""

from __future__ import annotations

from rich import box
from rich.bar import Bar
from rich.table import Table as TerminalTable
from rich.text import Text

from cnn_compare.files import csv_text
from cnn_compare.formatting import to_ascii
from cnn_compare.report.columns import columns
from cnn_compare.report.findings import Findings
from cnn_compare.report.section import Table

BAR_WIDTH = 8
LEAST_NAME_WIDTH = 14
# Columns with a bar beside the figure: its colour, and the value of a full bar (None: the largest one).
BARS: dict[str, tuple[str, float | None]] = {"test_acc_pct": ("green", 100), "train_epoch_s": ("yellow", None)}


def terminal_table(found: Findings, width: int = 80, ascii_only: bool = False) -> TerminalTable:
    """A table for `rich` to print: accuracy and time, with bars where there is room.

    Args:
        found: The findings.
        width: Width of the terminal, in characters. A narrow one has no bars and fewer columns; names are always there.
        ascii_only: Whether the terminal shows no other characters.
    """

    def shown_text(text: str) -> str:
        return to_ascii(text) if ascii_only else text

    shown = columns(found, "terminal")
    texts = {
        column.key: [shown_text(text) for text in (column.heading, *map(column.cell, found.networks))]
        for column in shown
    }
    widths = {key: max(map(len, column)) for key, column in texts.items()}
    # A name is broken between words: other columns are left out before it is broken inside of one.
    longest_word = max(len(word) for name in texts["network"] for word in name.split())
    widths["network"] = min(longest_word, max(LEAST_NAME_WIDTH, width // 2 - 4))

    def total(bars: bool) -> int:
        frame = 1 + sum(widths[column.key] + 3 for column in shown)
        return frame + sum(BAR_WIDTH + 3 for column in shown if column.key in BARS and bars)

    bars = not ascii_only and total(bars=True) <= width
    while total(bars) > width and shown[-1].key not in ("network", "test_acc_pct"):
        shown.pop()
    title = Text(shown_text(found.name))
    table = TerminalTable(title=title, title_justify="left", box=box.ASCII if ascii_only else box.HEAVY_HEAD)
    for column in shown:
        name = column.key == "network"
        table.add_column(
            texts[column.key][0],
            justify="left" if name else "right",
            overflow="fold",
            no_wrap=not name,
            min_width=widths["network"] if name else None,
        )
        if bars and column.key in BARS:
            table.add_column("", no_wrap=True)
    for row, network in enumerate(found.networks, start=1):
        cells: list[Text | Bar] = []
        for column in shown:
            cells.append(Text(texts[column.key][row]))
            if bars and column.key in BARS:
                color, largest = BARS[column.key]
                largest = largest or max((column.value(each) or 0 for each in found.networks), default=0) or 1
                cells.append(Bar(largest, 0, column.value(network) or 0, width=BAR_WIDTH, color=color))
        table.add_row(*cells)
    return table


def markdown_table(table: Table) -> str:
    """A table without its heading and note; numbers to the right."""
    rest = "---:" if table.of_numbers else "---"
    lines = ["| " + " | ".join(map(escape_markdown, table.columns)) + " |"]
    lines.append("|" + "|".join(rest if index else "---" for index in range(len(table.columns))) + "|")
    lines += ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in table.rows]
    return "\n".join(lines)


def latex_table(table: Table) -> str:
    """A table as LaTeX with the rules of the package booktabs; numbers to the right."""
    rest = "r" if table.of_numbers else "l"
    rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in (table.columns, *table.rows)]
    begin = rf"\begin{{tabular}}{{l{rest * (len(table.columns) - 1)}}}"
    return "\n".join([begin, r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def copies_of(table: Table) -> dict[str, str]:
    """A table in the formats that the page copies."""
    csv = csv_text([table.columns, *table.rows])
    return {"LaTeX": latex_table(table), "Markdown": markdown_table(table) + "\n", "CSV": csv}


# What LaTeX reads otherwise, and what its usual fonts lack.
_LATEX = {each: rf"\{each}" for each in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "…": r"\ldots{}",
    "–": "--",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX shows unchanged, in one line."""
    return " ".join("".join(_LATEX.get(each, each) for each in text).split())


def escape_markdown(text: str) -> str:
    """Text that Markdown shows unchanged, in one line."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\").replace("|", "\\|")
    for special in "*`[]":
        escaped = escaped.replace(special, f"\\{special}")
    return " ".join(escaped.split())
