"""Has specs run by an executor, tries again what failed, and keeps what each leaves behind."""

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
from cnn_compare.comparison.spec import RunSpec
from cnn_compare.errors import ResultError
from cnn_compare.results import RunFolder, RunResult

LOG_LINES = 20


def run_all(
    specs: Sequence[RunSpec], executor: Executor, retries: int = 0, console: Console | None = None
) -> list[RunResult]:
    """Run what is not finished yet; a run that fails is recorded, and the others go on.

    Args:
        specs: In the order in which they begin.
        executor: Where they run.
        retries: How often a failed run is begun again, from its last checkpoint; one that diverged would again.
        console: Where the progress is shown; None: standard error.

    Returns:
        One result a spec, in the same order, also those of runs finished earlier.
    """
    interrupted = threading.Event()

    def work(spec: RunSpec) -> RunResult | None:
        result = finished_result(spec.folder)
        for attempt in range(1, retries + 2):
            if result is None or result.status == "failed":
                reason = executor.run(spec, lambda epoch, share: display.reach(spec, epoch, share))
                if interrupted.is_set():
                    return None
                result = _kept(spec, reason, attempt)
        assert result is not None
        display.done(spec, result)
        return result

    with _Display(specs, console or Console(stderr=True)) as display, ThreadPoolExecutor(executor.jobs) as pool:
        try:
            results = list(pool.map(work, specs))
        except BaseException:
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            executor.stop()
    return [result for result in results if result is not None]


def finished_result(folder: RunFolder) -> RunResult | None:
    """The result of a run that reached its end, good or bad; None where there is none, it failed, or is unreadable."""
    try:
        result = folder.load_result()
    except ResultError:
        return None
    return result if result.status in ("finished", "diverged") else None


def _kept(spec: RunSpec, reason: str | None, attempt: int) -> RunResult:
    """The result that a run has left, or else one that says why there is none."""
    try:
        result = spec.folder.load_result()
    except ResultError:
        result = RunResult(
            backbone=spec.backbone,
            seed=spec.seed,
            status="failed",
            reason=reason or "it left no result",
            recipe=spec.recipe,
            variant=spec.variant,
            declared_changes=spec.declared_changes,
        )
    if result.status != "finished" or attempt > 1:
        result.attempts = attempt
        result.log_tail = _tail(spec.folder.log) if result.status != "finished" else []
        spec.folder.save_result(result)
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

    def __init__(self, specs: Sequence[RunSpec], console: Console) -> None:
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
        self.task = self.progress.add_task("", total=len(specs))

    def __enter__(self) -> _Display:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def reach(self, spec: RunSpec, epoch: int, share: float) -> None:
        epochs = spec.config["trainer"]["max_epochs"] or 0
        place = f"{spec.name}, epoch {epoch + 1}" + (f" of {epochs}" if epochs > 0 else "")
        with self.lock:
            self.running[spec.name] = place, min(share, 1.0)
            self._show()

    def done(self, spec: RunSpec, result: RunResult) -> None:
        with self.lock:
            self.running.pop(spec.name, None)
            self.finished += 1
            self._show()
        accuracy = result.value("test_acc_pct")
        outcome = f"{accuracy:.2f} %" if accuracy is not None else f"{result.status}: {result.reason}"
        self.progress.console.print(f"{spec.name}: {outcome}", highlight=False, markup=False, soft_wrap=True)

    def _show(self) -> None:
        places, shares = zip(*self.running.values(), strict=True) if self.running else ((), ())
        text = f"{places[0]} and {len(places) - 1} more" if len(places) > 1 else "".join(places)
        self.progress.update(self.task, completed=self.finished + sum(shares), description=text)
