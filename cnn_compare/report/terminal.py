"""The report in a terminal: the table, the answer and its reasons, what to read with care, and what to do next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from textwrap import fill, shorten
from typing import Any

from rich.console import Console

from cnn_compare.formatting import format_list
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import find_runs
from cnn_compare.report.sections.answer import of as answer_of
from cnn_compare.report.sections.failures import without_result
from cnn_compare.report.tables import terminal_table
from cnn_compare.report.verdict import LIMITS
from cnn_compare.report.write import write_report

MOST_REASONS = 3
MOST_RUNS = 6
WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def print_report(folder: Path, write: bool = True, failures: bool = True, **question: Any) -> None:
    """Show the report's table and verdict.

    Args:
        folder: A comparison's folder.
        write: Whether to write the report as well, or to leave its files unchanged.
        failures: Whether to show why runs failed, each reason once.
        question: Baseline, margin and limits, see `write_report`.
    """
    write = write or not (folder / "report.md").exists()
    found = write_report(folder, **question) if write else Findings(find_runs(folder), **question)
    section = answer_of(found)
    console = Console(highlight=False, markup=False, emoji=False)
    for sentence in found.read_first:
        console.print(sentence)
    if found.networks:
        console.print(terminal_table(found, console.width, console.options.ascii_only))
        console.print()
    answer, *others = section.sentences
    console.print(answer, style="bold")
    limits = [sentence for sentence in others if sentence.startswith(LIMITS)]
    for sentence in [sentence for sentence in others if sentence not in limits][:MOST_REASONS]:
        console.print(item(sentence, console.width))
    hidden = ("file",) if failures else ("file", "failed", "diverged")
    for reason, runs in _runs_by_reason(found, lambda status: status not in hidden).items():
        console.print(item(f"{format_list(runs, MOST_RUNS)}: {reason}", console.width))
    files = [f"{reason}: {', '.join(runs)}" for reason, runs in _runs_by_reason(found, "file".__eq__).items()]
    with_care = one_of_each_kind([*section.json["warnings"], *section.json["declared_changes"], *files, *limits])
    if with_care:
        console.print(f"read with care ({len(with_care)}; the report has the whole sentences):")
    for line in with_care:
        console.print(shorten(f"- {line}", console.width, placeholder=" …", **WHOLE_WORDS))
    written = "" if write else "; it is as before, and `cnn-compare report` writes it anew"
    console.print(f"report: {folder / 'report.html'}{written}", soft_wrap=True)
    if command := next_command(found):
        console.print(f"next: {command}", soft_wrap=True)


def _runs_by_reason(found: Findings, shown: Callable[[str], bool]) -> dict[str, list[str]]:
    """Reason why runs have no result -> their names, of those with a status that is shown."""
    runs: dict[str, list[str]] = {}
    for entry in without_result(found):
        if shown(entry["status"]):
            runs.setdefault(entry["reason"], []).append(entry["run"])
    return runs


def item(text: str, width: int) -> str:
    """A list's item, in lines of whole words."""
    return fill(f"- {text}", width, subsequent_indent="  ", **WHOLE_WORDS)


def one_of_each_kind(sentences: list[str]) -> list[str]:
    """The first sentence of each kind, which is what stands before its colon; then how many more there are."""
    kinds: dict[str, list[str]] = {}
    for sentence in sentences:
        kinds.setdefault(sentence.partition(":")[0], []).append(sentence)
    return [
        first if not rest else f"{kind} ({1 + len(rest)}){first.removeprefix(kind)}"
        for kind, (first, *rest) in kinds.items()
    ]


def next_command(found: Findings) -> str | None:
    """The command to enter next: for what is missing, more seeds, or pictures to classify; None if not known."""
    command = found.stored.manifest.get("command")
    if not found.complete:
        return command
    if not found.networks:
        return None
    best = found.networks[0]
    if len(best.seeds) == 1 and command:
        without_seeds = re.sub(r" --seeds[= ]('[^']*'|\S+)", "", command)
        return f"{without_seeds} --seeds '[0,1,2]'"
    if any(run.network == best.name and run.files.checkpoints.exists() for run in found.stored.finished):
        return f"cnn-compare predict {shlex.quote(str(found.stored.folder))} PICTURES"
    return None
