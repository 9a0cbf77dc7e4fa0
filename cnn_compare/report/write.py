"""A folder of runs -> `report.html`, `report.md`, `results.csv` and `results.json` beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnn_compare.report.analysis import find
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import find_runs, results_table
from cnn_compare.report.page import page
from cnn_compare.report.tables import (
    COLUMNS,
    escape,
    markdown_table,
    probability,
    signed,
    summary_rows,
    three,
    variant_rows,
)
from cnn_compare.results import without_nan, write_text

SCHEMA = 1

VARIANT_LEGEND = "A dash: the variant changes nothing for that backbone, or has not been trained."


def write_report(folder: str | Path) -> Findings:
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
    findings = find(stored)
    table = results_table([run.result for run in stored.runs])
    write_text(folder / "results.csv", table.to_csv(index=False, lineterminator="\n"))
    write_text(
        folder / "results.json", json.dumps(without_nan({"schema": SCHEMA, **asdict(findings)}), indent=1) + "\n"
    )
    write_text(folder / "report.md", _markdown(findings))
    write_text(folder / "report.html", page(findings))
    return findings


def _markdown(findings: Findings) -> str:
    parts = [f"# {escape(findings.name)}"]
    parts += [f"> **{escape(warning)}**" for warning in findings.warnings]
    parts += [f"> {escape(declared)}" for declared in findings.declared]
    parts.append("\n".join(f"- {escape(sentence)}" for sentence in findings.verdict))
    if findings.networks:
        parts += [markdown_table(summary_rows(findings.networks), COLUMNS), _legend(findings)]
        if findings.variants:
            headings = {"": "test acc. %", **{variant: variant for variant in findings.variants}}
            parts += ["## By variant", markdown_table(variant_rows(findings), headings), VARIANT_LEGEND]
    if findings.pairs:
        parts += ["## Differences", _pairs(findings)]
    if any(network.seconds_to_pct for network in findings.networks):
        parts += ["## Training time to a validation accuracy", _seconds_to(findings)]
    parts += ["## Conditions", _conditions(findings)]
    if findings.without_result:
        lines = [f"- `{each['run'].replace('`', '')}`: {escape(each['reason'])}" for each in findings.without_result]
        parts += ["## Runs without a result, and files that could not be read", "\n".join(lines)]
    if findings.beside_2023:
        parts += ["## Beside the report of 2023", *_beside_2023(findings.beside_2023)]
    return "\n\n".join(parts) + "\n"


def _legend(findings: Findings) -> str:
    several = max(len(network.seeds) for network in findings.networks) > 1
    spread = "standard deviation over seeds" if several else "95 % sampling error of the test images, one seed"
    return (
        f"Test accuracy of the weights with the best validation accuracy, ± {spread}. The 95 % interval covers other "
        "test images and, with several seeds, other seeds. Seconds per epoch: median without the first epoch (with one "
        "epoch, that one), training alone. Peak memory: of the GPU, or on a CPU of the whole process."
    )


def _pairs(findings: Findings) -> str:
    rows = [
        {
            "pair": f"{pair.first} − {pair.second}",
            "points": signed(pair.points.value, 2),
            "interval": f"{signed(pair.points.low, 2)} … {signed(pair.points.high, 2)}",
            "p": probability(pair.p),
            "p_holm": probability(pair.p_holm),
            "seeds": str(pair.seeds),
            "verdict": "differs" if pair.differs else "not established",
        }
        for pair in findings.pairs
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
    methods = ", ".join(dict.fromkeys(pair.method for pair in findings.pairs))
    return f"{markdown_table(rows, columns)}\n\nTest: {methods}; Holm's correction over all pairs."


def _seconds_to(findings: Findings) -> str:
    levels = list(findings.networks[0].seconds_to_pct)
    rows = [
        {
            "network": network.name,
            **{str(level): three(network.seconds_to_pct[level]) for level in levels},
        }
        for network in findings.networks
    ]
    columns = {"network": "backbone", **{str(level): f"s to {level} %" for level in levels}}
    return markdown_table(rows, columns)


def _conditions(findings: Findings) -> str:
    expected = ", ".join(f"`{name}`" for name in findings.varied) or "nothing"
    lines = [f"- varied: {expected}; every other setting is the same"]
    for label, values in (
        ("recipe", [findings.recipe] if findings.recipe else []),
        ("device", findings.devices),
        ("precision", findings.precisions),
        ("data fingerprint", findings.fingerprints),
        ("test images", [f"{findings.test_images:,}"] if findings.test_images else []),
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
            "s": three(row["epoch_s"]),
            "s_2023": str(row["report_epoch_s"]),
        }
        for row in beside["rows"]
    ]
    conditions = markdown_table(beside["conditions"], {"what": "conditions", "here": "here", "report": "in the report"})
    return [markdown_table(rows, columns), conditions]
