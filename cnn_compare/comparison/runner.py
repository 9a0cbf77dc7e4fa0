"""Runs cells one after the other, each in a fresh process, and keeps what each leaves behind."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
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
LOG_LINES = 20


def start_server() -> multiprocessing.context.ForkServerContext:
    """Let the process that runs are forked from begin its imports; called before one's own, both go on side by side."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()
    return context


def run_cells(
    cells: Sequence[Cell], console: Console | None = None, timeout_s: float | None = None, retries: int = 0
) -> list[RunResult]:
    """Run what is not finished yet; a run that fails is recorded, and the others go on.

    Args:
        cells: In the order in which they run.
        console: Where the progress is shown; None: standard error.
        timeout_s: A run that takes longer has failed; None: no limit.
        retries: How often a failed run is begun again, from its last checkpoint; one that diverged would again.

    Returns:
        One result a cell, in the same order, also those of runs finished earlier.
    """
    context = start_server()
    results = []
    with _Display(cells, console or Console(stderr=True)) as display:
        for cell in cells:
            result = finished_result(cell.folder)
            for attempt in range(retries + 1):
                if result is None or result.status == "failed":
                    display.start(cell)
                    result = _run(context, cell, display, timeout_s, attempt + 1)
            assert result is not None
            display.done(cell, result)
            results.append(result)
    return results


def finished_result(folder: Path) -> RunResult | None:
    """The result of a run that reached its end, good or bad; None where there is none, it failed, or is unreadable."""
    try:
        result = RunResult.load(folder / "result.json")
    except ResultError:
        return None
    return result if result.status in ("finished", "diverged") else None


def _run(
    context: multiprocessing.context.ForkServerContext,
    cell: Cell,
    display: _Display,
    timeout_s: float | None,
    attempt: int,
) -> RunResult:
    # Imported here, and not above, so that planning a comparison costs no import of Lightning.
    from cnn_compare.comparison.cell import run_cell

    (cell.folder / "result.json").unlink(missing_ok=True)
    write_text(cell.folder / "config.yaml", yaml.safe_dump(cell.config, sort_keys=False))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_cell, args=(cell, sender), name=cell.name)
    process.start()
    sender.close()
    ended = None
    try:
        if not _follow(receiver, display, timeout_s):
            ended = f"it was not done after {timeout_s:g} s (--run_timeout_s)"
            process.kill()
        process.join()
    finally:
        # Also when the user interrupts: what the run has reached is in its last checkpoint.
        if process.is_alive():
            process.kill()
            process.join()
    try:
        result = RunResult.load(cell.folder / "result.json")
    except ResultError:
        result = RunResult(
            backbone=cell.backbone,
            seed=cell.seed,
            status="failed",
            reason=ended or _how_it_ended(process.exitcode or 0),
            recipe=cell.recipe,
            variant=cell.variant,
            declared=cell.declared,
        )
    if result.status != "finished" or attempt > 1:
        result.attempts = attempt
        result.log_tail = _tail(cell.folder / "run.log") if result.status != "finished" else []
        result.save(cell.folder / "result.json")
    return result


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit status {code}"
    name = signal.Signals(-code).name
    # Nobody else tells: the kernel kills without a word.
    hint = " (as the system does when memory runs out: a smaller batch needs less)" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"


def _tail(path: Path) -> list[str]:
    """The last lines of a log, without the bytes of a damaged one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            return file.read().decode(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []


def _follow(receiver: Connection, display: _Display, timeout_s: float | None) -> bool:
    """Pass on what the run reports until it closes its end; False if that took too long."""
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = deadline - time.monotonic()
        try:
            if not receiver.poll(None if math.isinf(left) else max(0.0, left)):
                return False
            display.reach(*receiver.recv())
        except (EOFError, OSError):
            return True
        if left <= 0:
            return False


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
        done = result.test_acc_pct is not None
        outcome = f"{result.test_acc_pct:.2f} %" if done else f"{result.status}: {result.reason}"
        self.progress.console.print(f"{cell.name}: {outcome}", highlight=False, markup=False, soft_wrap=True)
