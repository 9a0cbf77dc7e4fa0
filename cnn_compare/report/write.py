"""A folder of runs -> `report.html`, `report.md`, `results.csv` and `results.json` beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnn_compare.files import without_nan, write_text
from cnn_compare.formatting import format_p, format_signed, format_significant
from cnn_compare.report.analysis import analyze
from cnn_compare.report.load import find_runs, results_table
from cnn_compare.report.page import page
from cnn_compare.report.summary import Summary
from cnn_compare.report.tables import (
    COLUMNS,
    escape,
    markdown_table,
    summary_rows,
    variant_rows,
)

SCHEMA = 1

VARIANT_LEGEND = "A dash: the variant changes nothing for that backbone, or has not been trained."


def write_report(folder: str | Path) -> Summary:
    """Write all forms of the report into a folder of runs.

    Args:
        folder: A comparison's folder, or any folder that holds some.

    Returns:
        What the report says.

    Raises:
        InvalidValueError: If the folder is missing or holds no run.
    """
    folder = Path(folder)
    stored = find_runs(folder)
    summary = analyze(stored)
    table = results_table([run.result for run in stored.runs])
    write_text(folder / "results.csv", table.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "results.json", json.dumps(without_nan({"schema": SCHEMA, **asdict(summary)}), indent=1) + "\n")
    write_text(folder / "report.md", _markdown(summary))
    write_text(folder / "report.html", page(summary))
    return summary


def _markdown(summary: Summary) -> str:
    parts = [f"# {escape(summary.name)}"]
    parts += [f"> **{escape(warning)}**" for warning in summary.warnings]
    parts += [f"> {escape(declared)}" for declared in summary.declared]
    parts.append("\n".join(f"- {escape(sentence)}" for sentence in summary.verdict))
    if summary.networks:
        parts += [markdown_table(summary_rows(summary.networks), COLUMNS), _legend(summary)]
        if summary.variants:
            headings = {"": "test acc. %", **{variant: variant for variant in summary.variants}}
            parts += ["## By variant", markdown_table(variant_rows(summary), headings), VARIANT_LEGEND]
    if summary.pairs:
        parts += ["## Differences", _pairs(summary)]
    if any(network.seconds_to_pct for network in summary.networks):
        parts += ["## Training time to a validation accuracy", _seconds_to(summary)]
    parts += ["## Conditions", _conditions(summary)]
    if summary.without_result:
        lines = [f"- `{each['run'].replace('`', '')}`: {escape(each['reason'])}" for each in summary.without_result]
        parts += ["## Runs without a result, and files that could not be read", "\n".join(lines)]
    if summary.beside_2023:
        parts += ["## Beside the report of 2023", *_beside_2023(summary.beside_2023)]
    return "\n\n".join(parts) + "\n"


def _legend(summary: Summary) -> str:
    several = max(len(network.seeds) for network in summary.networks) > 1
    spread = "standard deviation over seeds" if several else "95 % sampling error of the test images, one seed"
    return (
        f"Test accuracy of the weights with the best validation accuracy, ± {spread}. The 95 % interval covers other "
        "test images and, with several seeds, other seeds. Seconds per epoch: median without the first epoch (with one "
        "epoch, that one), training alone. Peak memory: of the GPU, or on a CPU of the whole process."
    )


def _pairs(summary: Summary) -> str:
    rows = [
        {
            "pair": f"{pair.first} − {pair.second}",
            "points": format_signed(pair.points.value, 2),
            "interval": f"{format_signed(pair.points.low, 2)} … {format_signed(pair.points.high, 2)}",
            "p": format_p(pair.p),
            "p_holm": format_p(pair.p_holm),
            "seeds": str(pair.seeds),
            "verdict": "differs" if pair.differs else "not established",
        }
        for pair in summary.pairs
    ]
    columns = {
        "pair": "networks",
        "points": "points",
        "interval": "95 %",
        "p": "p",
        "p_holm": "p (Holm)",
        "seeds": "seeds",
        "verdict": "difference",
    }
    methods = ", ".join(dict.fromkeys(pair.method for pair in summary.pairs))
    return f"{markdown_table(rows, columns)}\n\nTest: {methods}; Holm's correction over all pairs."


def _seconds_to(summary: Summary) -> str:
    levels = list(summary.networks[0].seconds_to_pct)
    rows = [
        {
            "network": network.name,
            **{str(level): format_significant(network.seconds_to_pct[level]) for level in levels},
        }
        for network in summary.networks
    ]
    columns = {"network": "backbone", **{str(level): f"s to {level} %" for level in levels}}
    return markdown_table(rows, columns)


def _conditions(summary: Summary) -> str:
    expected = ", ".join(f"`{name}`" for name in summary.varied) or "nothing"
    lines = [f"- varied: {expected}; every other setting is the same"]
    for label, values in (
        ("recipe", [summary.recipe] if summary.recipe else []),
        ("device", summary.devices),
        ("precision", summary.precisions),
        ("data fingerprint", summary.fingerprints),
        ("test images", [f"{summary.test_images:,}"] if summary.test_images else []),
    ):
        if values:
            lines.append(f"- {label}: {escape(', '.join(values))}")
    return "\n".join(lines)


def _beside_2023(beside: dict[str, Any]) -> list[str]:
    columns = {
        "backbone": "backbone",
        "acc": "accuracy %",
        "acc_2023": "2023 %",
        "s": "s / epoch",
        "s_2023": "2023 s / epoch",
    }
    rows = [
        {
            "backbone": row["backbone"],
            "acc": f"{row['acc_pct']:.2f}",
            "acc_2023": f"{row['report_acc_pct']:.2f}",
            "s": format_significant(row["epoch_s"]),
            "s_2023": str(row["report_epoch_s"]),
        }
        for row in beside["rows"]
    ]
    conditions = markdown_table(beside["conditions"], {"what": "conditions", "here": "here", "report": "in the report"})
    return [markdown_table(rows, columns), conditions]
