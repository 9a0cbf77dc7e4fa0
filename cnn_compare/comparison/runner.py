"""Has cells run by an executor, tries again what failed, and keeps what each leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.plan import Cell
from cnn_compare.errors import ResultError
from cnn_compare.results import RunResult

LOG_LINES = 20


def run_cells(
    cells: Sequence[Cell], executor: Executor, retries: int = 0, console: Console | None = None
) -> list[RunResult]:
    """Run what is not finished yet; a run that fails is recorded, and the others go on.

    Args:
        cells: In the order in which they begin.
        executor: Where they run.
        retries: How often a failed run is begun again, from its last checkpoint; one that diverged would again.
        console: Where the progress is shown; None: standard error.

    Returns:
        One result a cell, in the same order, also those of runs finished earlier.
    """
    interrupted = threading.Event()

    def work(cell: Cell) -> RunResult | None:
        result = finished_result(cell.folder)
        for attempt in range(1, retries + 2):
            if result is None or result.status == "failed":
                reason = executor.run(cell, lambda epoch, share: display.reach(cell, epoch, share))
                if interrupted.is_set():
                    return None
                result = _kept(cell, reason, attempt)
        assert result is not None
        display.done(cell, result)
        return result

    with _Display(cells, console or Console(stderr=True)) as display, ThreadPoolExecutor(executor.jobs) as pool:
        try:
            results = list(pool.map(work, cells))
        except BaseException:
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            executor.stop()
    return [result for result in results if result is not None]


def finished_result(folder: Path) -> RunResult | None:
    """The result of a run that reached its end, good or bad; None where there is none, it failed, or is unreadable."""
    try:
        result = RunResult.load(folder / "result.json")
    except ResultError:
        return None
    return result if result.status in ("finished", "diverged") else None


def _kept(cell: Cell, reason: str | None, attempt: int) -> RunResult:
    """The result that a run has left, or else one that says why there is none."""
    try:
        result = RunResult.load(cell.folder / "result.json")
    except ResultError:
        result = RunResult(
            backbone=cell.backbone,
            seed=cell.seed,
            status="failed",
            reason=reason or "it left no result",
            recipe=cell.recipe,
            variant=cell.variant,
            declared=cell.declared,
        )
    if result.status != "finished" or attempt > 1:
        result.attempts = attempt
        result.log_tail = _tail(cell.folder / "run.log") if result.status != "finished" else []
        result.save(cell.folder / "result.json")
    return result


def _tail(path: Path) -> list[str]:
    """The last lines of a log, without the bytes of a damaged one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            return file.read().decode(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []


class _Display:
    """Which runs of how many, how far, and how long the rest may take; told by several threads."""

    def __init__(self, cells: Sequence[Cell], console: Console) -> None:
        self.lock = threading.Lock()
        self.finished = 0
        self.running: dict[str, tuple[str, float]] = {}
        self.progress = Progress(
            TextColumn("run"),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.progress.add_task("", total=len(cells))

    def __enter__(self) -> _Display:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def reach(self, cell: Cell, epoch: int, share: float) -> None:
        epochs = cell.config["trainer"]["max_epochs"] or 0
        place = f"{cell.name}, epoch {epoch + 1}" + (f" of {epochs}" if epochs > 0 else "")
        with self.lock:
            self.running[cell.name] = place, min(share, 1.0)
            self._show()

    def done(self, cell: Cell, result: RunResult) -> None:
        with self.lock:
            self.running.pop(cell.name, None)
            self.finished += 1
            self._show()
        done = result.test_acc_pct is not None
        outcome = f"{result.test_acc_pct:.2f} %" if done else f"{result.status}: {result.reason}"
        self.progress.console.print(f"{cell.name}: {outcome}", highlight=False, markup=False, soft_wrap=True)

    def _show(self) -> None:
        places, shares = zip(*self.running.values(), strict=True) if self.running else ((), ())
        text = f"{places[0]} and {len(places) - 1} more" if len(places) > 1 else "".join(places)
        self.progress.update(self.task, completed=self.finished + sum(shares), description=text)
