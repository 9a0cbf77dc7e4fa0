"""The report in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from cnn_compare.report.findings import Findings
from cnn_compare.report.load import find_runs
from cnn_compare.report.sections.answer import of as answer_of
from cnn_compare.report.sections.failures import without_result
from cnn_compare.report.tables import terminal_table
from cnn_compare.report.write import write_report


def print_report(folder: Path, write: bool = True, failures: bool = True, **question: Any) -> None:
    """Show the report's table and verdict.

    Args:
        folder: A comparison's folder.
        write: Whether to write the report as well, or to leave its files unchanged.
        failures: Whether to show why runs failed, each reason once.
        question: As for `write_report`.
    """
    write = write or not (folder / "report.md").exists()
    found = write_report(folder, **question) if write else Findings(find_runs(folder), **question)
    answer = answer_of(found)
    console = Console(highlight=False, markup=False)
    for sentence in found.first:
        console.print(sentence)
    if found.networks:
        console.print(terminal_table(found, console.width, console.options.ascii_only))
    for sentence in [*answer.json["warnings"], *answer.json["declared_changes"], *answer.sentences]:
        console.print(f"- {sentence}")
    runs_by_reason: dict[str, list[str]] = {}
    for entry in without_result(found):
        if failures or entry["status"] not in ("failed", "diverged"):
            runs_by_reason.setdefault(entry["reason"], []).append(entry["run"])
    for reason, runs in runs_by_reason.items():
        console.print(f"- {', '.join(runs)}: {reason}")
    if write:
        console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    else:
        console.print(f"the report's files are as they were; `cnn-compare report {folder}` writes them", soft_wrap=True)
