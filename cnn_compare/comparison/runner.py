"""Has an executor carry out runs, repeats those that failed, and records how each one ended."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.jobs import planned_work
from cnn_compare.comparison.spec import Progress, RunSpec
from cnn_compare.errors import ResultError, RunError
from cnn_compare.formatting import format_duration
from cnn_compare.progress import Display
from cnn_compare.results import RunFolder, RunResult
from cnn_compare.run_key import RunKey


def run_all(specs: Sequence[RunSpec], executor: Executor, retries: int = 0) -> list[RunResult]:
    """Carry out every run that is not finished yet; one that fails is recorded, and the others go on.

    Args:
        specs: The runs, in the order in which they start.
        executor: Where they run.
        retries: How often a failed run is started again, from its last checkpoint. One that diverged is not: it would
            diverge again.

    Returns:
        One result per spec, in the same order, including those of runs that finished earlier.
    """
    interrupted = threading.Event()

    def run(spec: RunSpec) -> RunResult:
        if earlier := finished_result(spec.folder):
            display.end(spec, earlier, finished_earlier(earlier))
            return earlier
        for attempt in range(1, retries + 2):
            tried = replace(spec, attempts=attempt)
            reason = executor.run(tried, partial(display.update, spec))
            if interrupted.is_set():
                return tried.result("failed", reason="interrupted")  # Nobody gets it, and it is not stored.
            try:
                result = spec.folder.load_result()
            except ResultError:
                result = tried.result("failed", reason=reason or "it left no result")
                spec.folder.save_result(result)
            if result.status != "failed":
                break
        display.end(spec, result)
        return result

    with _RunsDisplay(specs) as display, ThreadPoolExecutor(executor.jobs) as pool:
        try:
            return list(pool.map(run, specs))
        except BaseException:
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            executor.stop()


def runs_failed(labels: Sequence[str], folder: Path) -> RunError:
    """The error for a comparison of which some runs failed; the others are finished and reported."""
    return RunError(
        f"{len(labels)} run{'s' if len(labels) > 1 else ''} failed: {', '.join(labels)}. The reasons are in "
        f"{folder}/report.md. The same command again retries them, except those that diverged: rerun begins these "
        "anew. drop removes a backbone from the comparison.",
        ("rerun", "drop"),
    )


def finished_earlier(result: RunResult) -> str:
    """Words about when and where a run of an earlier command ended."""
    when = result.finished_at.replace("T", " ")[:16] if result.finished_at else "date unknown"
    return f"{result.status} earlier ({when}{f', {result.device}' if result.device else ''})"


def finished_result(folder: RunFolder) -> RunResult | None:
    """The result of a run that finished or diverged; None if it failed or left no readable result."""
    try:
        result = folder.load_result()
    except ResultError:
        return None
    return None if result.status == "failed" else result


class _RunsDisplay:
    """Progress over all runs: how many have ended, which are active, and how long the rest may take."""

    def __init__(self, specs: Sequence[RunSpec], console: Console | None = None) -> None:
        self.lock = threading.Lock()  # Each run has a thread of its own.
        self.ended, self.total = 0, len(specs)
        self.active: dict[RunKey, tuple[str, float]] = {}  # Run -> description, share that is done.
        self.display = Display("run", console, line_after_s=0.0, time_left=False)
        works = {spec.key: planned_work(spec) for spec in specs}
        known = [work for work in works.values() if math.isfinite(work)]
        usual = sum(known) / len(known) if known else 1.0
        self.left = {key: work if math.isfinite(work) else usual for key, work in works.items()}
        self.trained: dict[RunKey, float] = {}  # Run -> the work that this command has done of it.
        self.epoch_ended, self.began = False, time.monotonic()

    def __enter__(self) -> _RunsDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self.display.stop()

    def update(self, spec: RunSpec, progress: Progress) -> None:
        """Show how far a run is."""
        epochs = spec.config["trainer"]["max_epochs"] or 0
        description = f"{spec.key.label}, epoch {progress.epoch + 1}" + (f" of {epochs}" if epochs > 0 else "")
        with self.lock:
            share = min(progress.share, 1.0)
            _, before = self.active.get(spec.key, ("", 0.0))
            self.active[spec.key] = description, share
            # The first share above 0 may be that of an earlier command, from whose checkpoint the run goes on.
            work = self.left[spec.key] * max(0.0, share - (before or share))
            self.trained[spec.key] = self.trained.get(spec.key, 0.0) + work
            self.epoch_ended |= progress.epoch > 0
            self._refresh()

    def end(self, spec: RunSpec, result: RunResult, remark: str = "") -> None:
        """Count a run as ended, and print its outcome."""
        with self.lock:
            work = self.left.pop(spec.key, 0.0)
            if active := self.active.pop(spec.key, None):
                self.trained[spec.key] += work * (1 - active[1])
                self.epoch_ended = True
            self.ended += 1
            self._refresh()
        accuracy = result.value("test_acc_pct" if spec.tested else "best_val_acc_pct")
        outcome = f"{accuracy:.2f} %" if accuracy is not None else f"{result.status}: {result.reason}"
        outcome += "" if spec.tested or accuracy is None else " of the validation images"
        line = f"{spec.key.label}: {outcome}" + (f", {remark}" if remark else "")
        self.display.print(line)

    def _refresh(self) -> None:
        descriptions = [description for description, _ in self.active.values()]
        text = next(iter(descriptions), "")
        if len(descriptions) > 1:
            text += f" and {len(descriptions) - 1} more"
        text += self._left() if text else ""
        done = self.ended + sum(share for _, share in self.active.values())
        line = f"run {self.ended + 1} of {self.total}: {text}" if text else ""
        self.display.show(done, self.total, text, line)

    def _left(self) -> str:
        """About how long the rest takes, by what this command has done so far; nothing before the end of an epoch."""
        done, elapsed_s = sum(self.trained.values()), time.monotonic() - self.began
        if not self.epoch_ended or done <= 0:
            return ""
        left = sum(self.left.values()) - sum(self.left[key] * share for key, (_, share) in self.active.items())
        return f", about {format_duration(elapsed_s * left / done)} left"
