"""Stored runs as a table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cnn_compare.errors import InvalidValueError, ResultError
from cnn_compare.results import RunResult


def find_runs(folder: str | Path) -> tuple[list[RunResult], list[ResultError]]:
    """All results below a folder, and an error for every one that cannot be read.

    Args:
        folder: A comparison's folder, or any folder that holds some.

    Raises:
        InvalidValueError: If the folder is missing or holds no run.
    """
    folder = Path(folder)
    # A run that never reached its end has a configuration and no result: it is listed, not dropped.
    run_folders = sorted({path.parent for name in ("result.json", "config.yaml") for path in folder.rglob(name)})
    if not run_folders:
        raise InvalidValueError("the folder of runs", str(folder), "a folder that holds at least one run")
    results, unreadable = [], []
    for run_folder in run_folders:
        try:
            results.append(RunResult.load(run_folder / "result.json"))
        except ResultError as error:
            unreadable.append(error)
    return results, unreadable


def load_results(folder: str | Path) -> pd.DataFrame:
    """One row a run: the fields of `RunResult`, with ``train_epoch_s`` the seconds of a usual epoch.

    A usual epoch is the median of all but the first; with a single epoch it is that one.

    Args:
        folder: A comparison's folder, or any folder that holds some.

    Raises:
        InvalidValueError: If the folder is missing or holds no run.
    """
    results, _ = find_runs(folder)
    return results_table(results)


def results_table(results: list[RunResult]) -> pd.DataFrame:
    """`load_results` of results at hand."""
    rows = [{**asdict(result), "train_epoch_s": result.steady_epoch_s} for result in results]
    table = pd.DataFrame(rows).drop(columns=["val_epoch_s", "versions", "schema"])
    leading = ["backbone", "seed", "status", "test_acc_pct", "train_epoch_s", "params", "macs"]
    return table[leading + [column for column in table.columns if column not in leading]]
