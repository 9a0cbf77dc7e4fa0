"""What the benchmarks share: both sides in turn in one run, medians, ratios, a table, a stored result."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table

from cnn_compare import EpochTimer
from cnn_compare.callbacks import FitProgress
from cnn_compare.experiment import ExperimentCLI, checkpoints
from cnn_compare.machine import describe_device, versions

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def training_device() -> torch.device:
    """Where `fit` trains unless told otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    """The description of this machine and of the packages that is stored with each result."""
    device = training_device()
    described = {"device": describe_device(device), "cpu_count": os.cpu_count(), "system": platform.system()}
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        described |= {"cuda": torch.version.cuda, "device_memory_bytes": memory}
    return {**described, "load_average": os.getloadavg()[0], "versions": versions()}


def in_turn(sides: Mapping[str, Callable[[], float]], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Measure the sides one after the other, again and again, so that a slow minute of the machine meets all of them.

    Args:
        sides: Name -> a function that does the work once and returns its seconds (or its rate).
        repeats: How often.
        warm_up: Rounds before them that are dropped.
    """
    values: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(warm_up + repeats):
        for name, measure in sides.items():
            value = measure()
            if round_ >= warm_up:
                values[name].append(value)
    return values


def processes_in_turn(sides: Mapping[str, tuple[Any, ...]], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Measure as `in_turn` does, with each side in a process of its own, which the settings of the other cannot reach.

    Args:
        sides: Name -> a function and its arguments. It is called with them and a connection: whenever that receives
            true it does the work once and sends its seconds, and it ends at false.
        repeats: How often.
        warm_up: Rounds before them that are dropped.
    """
    context = multiprocessing.get_context("spawn")
    turns, processes = {}, []
    for name, (function, *arguments) in sides.items():
        turns[name], theirs = context.Pipe()
        processes.append(context.Process(target=function, args=(*arguments, theirs), daemon=False))
        processes[-1].start()
        theirs.close()

    def measure(side: str) -> float:
        turns[side].send(True)
        return float(turns[side].recv())

    seconds = in_turn({side: lambda side=side: measure(side) for side in sides}, repeats, warm_up)
    for turn, process in zip(turns.values(), processes, strict=True):
        turn.send(False)
        process.join()
    return seconds


class Turns(Callback):
    """Wait for this side's turn before each epoch, and say how long it took. Listed before the timer."""

    def __init__(self, turn: Connection, timer: EpochTimer) -> None:
        self.turn, self.timer = turn, timer

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.turn.recv():
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.turn.send(self.timer.train_epoch_s[-1])


def fit(arguments: list[str], turn: Connection) -> None:
    """`cnn-compare fit` with these arguments, callbacks and all, an epoch a turn."""
    timer = EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        ExperimentCLI(
            ["fit", *arguments],
            callbacks=[Turns(turn, timer), timer, FitProgress(), *checkpoints(None, "val/acc")],
            default_root_dir=folder,
            max_epochs=1_000,
        )


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """The median of the ratios of neighbours."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def report(subject: str, rows: list[dict[str, Any]], raw: Any, folder: Path = RESULTS) -> None:
    """Print the rows as a table and store them, with the single values and the machine.

    Args:
        subject: The benchmark's name.
        rows: One dictionary a row, with the same keys.
        raw: Every single measurement, in any form that JSON can hold.
        folder: For the file.
    """
    table = Table(title=subject, title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="right" if isinstance(rows[0][heading], int | float) else "left")
    for row in rows:
        table.add_row(*(f"{value:,.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    stored = {"subject": subject, "machine": machine(), "rows": rows}
    device, version = training_device().type, torch.__version__.partition("+")[0]
    path = folder / f"{datetime.date.today()}_{subject}_{device}_torch{version}.json"
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps({**stored, "raw": raw}, indent=1) + "\n")
    print(f"stored: {path}")
