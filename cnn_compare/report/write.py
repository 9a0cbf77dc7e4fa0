"""A folder of runs -> `report.html`, `report.md`, `results.csv` and `results.json` beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cnn_compare.files import csv_text, write_csv, write_json, write_text
from cnn_compare.report.analysis import analyze
from cnn_compare.report.contents import tables
from cnn_compare.report.load import find_runs, results_table
from cnn_compare.report.page import page
from cnn_compare.report.summary import Summary
from cnn_compare.report.tables import escape, markdown_table

SCHEMA = 2


def write_report(
    folder: str | Path,
    baseline: str | None = None,
    margin: float | None = None,
    limits: Mapping[str, float] | None = None,
) -> Summary:
    """Write all forms of the report into a folder of runs.

    Args:
        folder: A comparison's folder, or any folder that holds some.
        baseline: A network: each other one is compared with it, and no other pairs are; None: what the comparison
            itself was asked.
        margin: Points below which two networks count as the same; None: what the comparison itself was asked.
        limits: Metric -> its largest value, or smallest one where more is better; the best network within is named.

    Returns:
        What the report says.

    Raises:
        NoRunsError: If the folder is missing or holds no run of a comparison.
        InvalidValueError: As `analyze` does.
    """
    folder = Path(folder)
    stored = find_runs(folder)
    summary = analyze(stored, baseline, margin, limits)
    table = results_table([run.result for run in stored.all_runs])
    cells = table.astype(object).where(table.notna(), None)
    write_text(folder / "results.csv", csv_text([table.columns, *cells.itertuples(index=False)]))
    # The pictures have their own file.
    write_json(folder / "results.json", _rounded({"schema": SCHEMA, **asdict(replace(summary, pictures=None))}))
    wrong_labels = folder / "suspicious_labels.csv"
    if summary.wrong_labels:
        write_csv(wrong_labels, [asdict(each) for each in summary.wrong_labels])
    else:
        wrong_labels.unlink(missing_ok=True)  # Of an earlier report.
    write_text(folder / "report.md", _markdown(summary))
    write_text(folder / "report.html", page(summary))
    return summary


def _rounded(value: Any) -> Any:
    """The same value with ten digits of each float: the rest differs from processor to processor."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _markdown(summary: Summary) -> str:
    parts = [f"# {escape(summary.name)}"]
    parts += [f"> **{escape(warning)}**" for warning in [*summary.first, *summary.warnings]]
    parts += [f"> {escape(sentence)}" for sentence in summary.declared_changes]
    parts.append("\n".join(f"- {escape(sentence)}" for sentence in summary.verdict))
    for table in tables(summary).values():
        parts += [f"## {table.heading}", markdown_table(table), *([escape(table.note)] if table.note else [])]
    return "\n\n".join(parts) + "\n"
