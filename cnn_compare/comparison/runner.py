"""Runs cells one after the other, each in a fresh process, and keeps what each leaves behind."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cnn_compare.comparison.plan import Cell
from cnn_compare.errors import ResultError
from cnn_compare.results import RunResult, write_text

# The server imports torch and Lightning once; every run is a fork of it that has computed nothing yet.
PRELOAD = ["cnn_compare.comparison.cell"]


def start_server() -> multiprocessing.context.ForkServerContext:
    """Let the process that runs are forked from begin its imports; called before one's own, both go on side by side."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()
    return context


def run_cells(cells: Sequence[Cell], console: Console | None = None) -> list[RunResult]:
    """Run what is not finished yet; a run that fails is recorded, and the others go on.

    Args:
        cells: In the order in which they run.
        console: Where the progress is shown; None: standard error.

    Returns:
        One result a cell, in the same order, also those of runs finished earlier.
    """
    context = start_server()
    results = []
    with _Display(cells, console or Console(stderr=True)) as display:
        for cell in cells:
            result = finished_result(cell.folder)
            if result is None:
                display.start(cell)
                result = _run(context, cell, display)
            display.done(cell, result)
            results.append(result)
    return results


def finished_result(folder: Path) -> RunResult | None:
    """The result of a run that reached its end; None where there is none, it failed, or it cannot be read."""
    try:
        result = RunResult.load(folder / "result.json")
    except ResultError:
        return None
    return result if result.status == "finished" else None


def _run(context: multiprocessing.context.ForkServerContext, cell: Cell, display: _Display) -> RunResult:
    # Imported here, and not above, so that planning a comparison costs no import of Lightning.
    from cnn_compare.comparison.cell import run_cell

    (cell.folder / "result.json").unlink(missing_ok=True)
    write_text(cell.folder / "config.yaml", yaml.safe_dump(cell.config, sort_keys=False))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_cell, args=(cell, sender), name=cell.name)
    process.start()
    sender.close()
    try:
        _follow(receiver, display)
        process.join()
    finally:
        # Also when the user interrupts: what the run has reached is in its last checkpoint.
        if process.is_alive():
            process.kill()
            process.join()
    try:
        return RunResult.load(cell.folder / "result.json")
    except ResultError:
        code = process.exitcode or 0
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        result = RunResult(
            backbone=cell.backbone,
            seed=cell.seed,
            status="failed",
            reason=f"its process was {ended}; see run.log",
            recipe=cell.recipe,
            variant=cell.variant,
            declared=cell.declared,
        )
        result.save(cell.folder / "result.json")
        return result


def _follow(receiver: Connection, display: _Display) -> None:
    """Pass on what the run reports until it closes its end."""
    while True:
        try:
            display.reach(*receiver.recv())
        except (EOFError, OSError):
            return


class _Display:
    """Which run of how many, how far, and how long the rest may take."""

    def __init__(self, cells: Sequence[Cell], console: Console) -> None:
        self.cells = cells
        self.progress = Progress(
            TextColumn("run"),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )

    def __enter__(self) -> _Display:
        self.progress.start()
        self.finished = 0
        self.task: TaskID = self.progress.add_task("", total=len(self.cells))
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def start(self, cell: Cell) -> None:
        self.name, epochs = cell.name, cell.config["trainer"]["max_epochs"] or 0
        self.of_epochs = f" of {epochs}" if epochs > 0 else ""
        self.reach(0, 0.0)

    def reach(self, epoch: int, share: float) -> None:
        self.progress.update(
            self.task,
            completed=self.finished + min(share, 1.0),
            description=f"{self.name}, epoch {epoch + 1}{self.of_epochs}",
        )

    def done(self, cell: Cell, result: RunResult) -> None:
        self.finished += 1
        self.progress.update(self.task, completed=self.finished)
        outcome = f"{result.test_acc_pct:.2f} %" if result.test_acc_pct is not None else f"failed: {result.reason}"
        self.progress.console.print(f"{cell.name}: {outcome}", highlight=False, markup=False, soft_wrap=True)
