"""Runs without a result, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

from cnn_compare.errors import ResultError
from cnn_compare.report.findings import Findings
from cnn_compare.report.section import Section, Table
from cnn_compare.report.sections.published import find_published

UNFINISHED = "not finished; the same command again goes on with it"


def of(found: Findings) -> Section | None:
    """Runs and files with their reasons, and the end of each failed run's log."""
    entries = without_result(found)
    if not entries:
        return None
    return Section(
        "failures",
        "Runs without a result, and files that are missing or unreadable",
        table=Table(["run", "reason"], [[each["run"], each["reason"]] for each in entries], of_numbers=False),
        json={"without_result": entries},
        logs={f"The end of the log of {each['run']}": each["log"] for each in entries if each["log"]},
    )


def without_result(found: Findings) -> list[dict[str, str]]:
    """Failed and unfinished runs, and unusable files.

    Returns:
        The ``run``, ``status`` (``failed``, ``diverged``, ``unfinished`` or ``file``), ``reason``
        and the end of the ``log``.
    """
    stored, problems = found.stored, list(found.stored.problems)
    try:
        find_published(stored)
    except ResultError as error:
        problems.append(error)

    def entry(path: Path, status: str, reason: str, log: str = "") -> dict[str, str]:
        return {"run": path.relative_to(stored.folder).as_posix(), "status": status, "reason": reason, "log": log}

    failed = [
        entry(
            run.folder,
            run.result.status,
            ("diverged: " if run.result.status == "diverged" else "") + (run.result.reason or "unknown"),
            "\n".join(run.result.log_tail),
        )
        for run in stored.all_runs
        if run.result.status != "finished"
    ]
    unfinished = [entry(path, "unfinished", UNFINISHED) for path in stored.unfinished]
    return failed + unfinished + [entry(error.path, "file", error.reason) for error in problems]
