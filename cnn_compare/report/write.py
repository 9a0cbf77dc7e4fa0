"""Writing of `report.html`, `report.md`, `results.csv` and `results.json` into a folder of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from cnn_compare.files import csv_text, write_csv, write_json, write_text
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import find_runs, results_table
from cnn_compare.report.page import page
from cnn_compare.report.section import Section
from cnn_compare.report.sections import sections_of
from cnn_compare.report.tables import escape_markdown, markdown_table

SCHEMA = 3


def write_report(
    folder: str | Path,
    baseline: str | None = None,
    margin: float | None = None,
    limits: Mapping[str, float] | None = None,
) -> Findings:
    """Write all forms of the report into a folder of runs.

    Args:
        folder: A comparison's folder, or any folder that holds some.
        baseline: A network: each other one is compared with it, and no other pairs are; None: what the comparison
            itself was asked.
        margin: Points below which two networks count as the same; None: what the comparison itself was asked.
        limits: Metric -> its largest value, or smallest one where more is better; the best network within is named.

    Returns:
        The findings.

    Raises:
        NoRunsError: If the folder is missing or holds no run of a comparison.
        InvalidValueError: See `Findings`.
    """
    folder = Path(folder)
    found = Findings(find_runs(folder), baseline, margin, limits)
    sections = sections_of(found)
    table = results_table([run.result for run in found.stored.all_runs])
    cells = table.astype(object).where(table.notna(), None)
    write_text(folder / "results.csv", csv_text([table.columns, *cells.itertuples(index=False)]))
    json = _rounded({name: value for section in sections.values() for name, value in section.json.items()})
    write_json(folder / "results.json", {"schema": SCHEMA, **json})
    wrong_labels = folder / "suspicious_labels.csv"
    if json.get("wrong_labels"):
        write_csv(wrong_labels, json["wrong_labels"])
    else:
        wrong_labels.unlink(missing_ok=True)  # Of an earlier report.
    write_text(folder / "report.md", _markdown(found, sections))
    write_text(folder / "report.html", page(found, sections))
    return found


def _rounded(value: Any) -> Any:
    """Convert to plain values, with ten digits of each float: the rest differs from processor to processor."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _markdown(found: Findings, sections: Mapping[str, Section]) -> str:
    answer, *others = sections.values()
    parts = [f"# {escape_markdown(found.name)}"]
    parts += [f"> **{escape_markdown(warning)}**" for warning in [*found.read_first, *answer.json["warnings"]]]
    parts += [f"> {escape_markdown(sentence)}" for sentence in answer.json["declared_changes"]]
    parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in answer.sentences))
    for section in others:
        texts = [escape_markdown(sentence) for sentence in section.sentences]
        if table := section.table:
            texts += [markdown_table(table), *([escape_markdown(table.note)] if table.note else [])]
        parts += [f"## {section.heading}", *texts] if texts else []
    return "\n\n".join(parts) + "\n"
