"""The table of results for a paper: LaTeX, with the package booktabs."""

from __future__ import annotations

from cnn_compare.report.columns import columns
from cnn_compare.report.findings import Findings
from cnn_compare.report.sections.method import how_it_was_done

KEYS = ("network", "n", "test_acc_pct", "interval", "test_balanced_acc_pct", "train_epoch_s", "params", "macs")
ESCAPES = str.maketrans(
    {
        **{special: f"\\{special}" for special in "&%$#_{}"},
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
)


def latex_table(found: Findings) -> str:
    r"""The report's figures, a row a network, below a comment that says how they were measured.

    It needs ``\usepackage{booktabs}``. Times are left out where they cannot be compared.
    """
    shown = [column for column in columns(found, "table") if column.key in KEYS]
    if not found.control.timings_ranked:
        shown = [column for column in shown if column.key != "train_epoch_s"]
    rows = [[column.heading for column in shown]]
    rows += [[column.cell(network) for column in shown] for network in found.networks]
    heading, *body = (" & ".join(map(escape, row)) + r" \\" for row in rows)
    notes = " ".join(column.note for column in shown if column.note)
    caption = f"{found.name}: test accuracy in percent. {notes}"
    return "\n".join(
        [
            *(f"% {line}" for line in how_it_was_done(found.stored).splitlines()),
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(shown) - 1)}}}",
            r"\toprule",
            heading,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def escape(text: str) -> str:
    """Text that LaTeX shows unchanged."""
    return text.translate(ESCAPES)
