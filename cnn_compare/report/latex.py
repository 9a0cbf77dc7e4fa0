"""The table of results for a paper: LaTeX, with the package booktabs."""

from __future__ import annotations

from cnn_compare.report.columns import columns
from cnn_compare.report.findings import Findings
from cnn_compare.report.sections.method import how_it_was_done
from cnn_compare.report.sections.results import table_of
from cnn_compare.report.tables import escape_latex, latex_table

KEYS = ("network", "n", "test_acc_pct", "interval", "test_balanced_acc_pct", "train_epoch_s", "params", "macs")


def results_in_latex(found: Findings) -> str:
    r"""The report's figures, a row a network, below a comment that says how they were measured.

    It needs ``\usepackage{booktabs}``. Times are left out where they cannot be compared.
    """
    shown = [column for column in columns(found, "table") if column.key in KEYS]
    if not found.control.timings_ranked:
        shown = [column for column in shown if column.key != "train_epoch_s"]
    notes = " ".join(column.note for column in shown if column.note)
    caption = f"{found.name}: test accuracy in percent. {notes}"
    return "\n".join(
        [
            *(f"% {line}" for line in how_it_was_done(found.stored).splitlines()),
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            latex_table(table_of(found, shown)) + r"\end{table}",
        ]
    )
