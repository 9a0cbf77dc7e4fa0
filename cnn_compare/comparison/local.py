"""Runs on this machine, each in a fresh process, or in one a device where a run takes several."""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import socket
import time
from dataclasses import dataclass, field, replace
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from cnn_compare.comparison.executor import Report
from cnn_compare.comparison.spec import RunSpec, WorkerSpec
from cnn_compare.errors import InvalidValueError

# The server imports torch and Lightning once; every run is a fork of it that has computed nothing yet.
PRELOAD = ["cnn_compare.comparison.worker"]


def start_server() -> multiprocessing.context.ForkServerContext:
    """Let the process that runs are forked from begin its imports; called before one's own, both go on side by side."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()
    return context


@dataclass
class LocalExecutor:
    """Runs specs on this machine.

    Args:
        jobs: How many at a time; each gets devices of its own, while there are enough.
        timeout_s: A run that takes longer is stopped; None: no limit.
        threads: For torch on the processor, in each run; None: a share of what torch takes by itself.

    Raises:
        InvalidValueError: If ``jobs`` is below 1.
    """

    jobs: int = 1
    timeout_s: float | None = None
    threads: int | None = None
    _running: dict[int, list[ForkServerProcess]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InvalidValueError("jobs", self.jobs, "1 or more")
        self._stopped = False
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.jobs):
            self._slots.put(slot)

    def run(self, spec: RunSpec, report: Report) -> str | None:
        """See `Executor`."""
        slot = self._slots.get()
        try:
            return self._run(spec, report, slot)
        finally:
            self._slots.put(slot)

    def stop(self) -> None:
        """See `Executor`."""
        self._stopped = True
        for processes in list(self._running.values()):
            for process in processes:
                process.kill()

    def _run(self, spec: RunSpec, report: Report, slot: int) -> str | None:
        # Imported here, and not above, so that planning a comparison costs no import of Lightning.
        from cnn_compare.comparison.worker import run_worker

        spec.folder.result.unlink(missing_ok=True)
        spec.folder.save_config(spec.config)
        context, size = start_server(), world_size(spec.config)
        place = WorkerSpec(slot, self.jobs, self.threads, os.environ.get("CUDA_VISIBLE_DEVICES"), world_size=size)
        if size > 1:
            place = replace(place, port=_free_port())
        receiver, sender = context.Pipe(duplex=False)
        processes = self._running[slot] = [
            context.Process(target=run_worker, args=(spec, place, sender), name=spec.name)
        ]
        processes[0].start()
        sender.close()
        if self._stopped:
            processes[0].kill()
        report(0, 0.0)

        def start_others(checkpoint: Path | None) -> None:
            for rank in range(1, size):
                other = replace(place, rank=rank, checkpoint=checkpoint)
                processes.append(context.Process(target=run_worker, args=(spec, other, None), name=spec.name))
                processes[-1].start()

        try:
            ended = self._follow(receiver, processes, start_others, report)
            if ended is None:
                processes[0].join()
        finally:
            # Also when the user interrupts: what the run has reached is in its last checkpoint.
            for process in processes:
                process.kill()
                process.join()
            del self._running[slot]
        return ended or _how_it_ended(processes[0].exitcode or 0)

    def _follow(
        self, receiver: connection.Connection, processes: list[ForkServerProcess], start_others: Any, report: Report
    ) -> str | None:
        """Pass on what the run's first process reports until that ends; what is wrong, if it is stopped before."""
        deadline = math.inf if self.timeout_s is None else time.monotonic() + self.timeout_s
        while True:
            left = deadline - time.monotonic()
            others = {
                process.sentinel: rank for rank, process in enumerate(processes) if rank and process.exitcode != 0
            }
            ready = connection.wait([receiver, *others], None if math.isinf(left) else max(0.0, left))
            if not ready or left <= 0:
                return f"it was not done after {self.timeout_s:g} s (--run_timeout_s)"
            for sentinel, rank in others.items():
                if sentinel in ready:
                    processes[rank].join()
                    if code := processes[rank].exitcode:
                        return _how_it_ended(code, f"its process for device {rank}")
            if receiver in ready:
                try:
                    message = receiver.recv()
                except (EOFError, OSError):
                    return None
                if isinstance(message, tuple):
                    report(*message)
                else:
                    start_others(message)


def world_size(config: dict[str, Any]) -> int:
    """How many devices a run takes, by ``--trainer.devices``; Lightning's ``auto`` is one here.

    Raises:
        InvalidValueError: If it is no number or list of devices, or of several machines.
    """
    trainer = config["trainer"]
    if (nodes := trainer.get("num_nodes") or 1) != 1:
        raise InvalidValueError("--trainer.num_nodes", nodes, "1: --executor=ray has runs on several machines")
    devices = trainer.get("devices", "auto")
    if isinstance(devices, str) and devices != "auto":
        listed = [part for part in devices.split(",") if part]
        devices = listed if "," in devices or not devices.isdecimal() else int(devices)
    size = 1 if devices in ("auto", None) else len(devices) if isinstance(devices, list) else devices
    numbers = devices if isinstance(devices, list) else []
    if size < 1 or not all(str(number).isdecimal() for number in numbers):
        raise InvalidValueError("--trainer.devices", devices, "how many a run takes, or a list of them")
    return int(size)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _how_it_ended(code: int, what: str = "its process") -> str:
    if code >= 0:
        return f"{what} ended with exit status {code}"
    name = signal.Signals(-code).name
    # Nobody else tells: the kernel kills without a word.
    hint = " (as the system does when memory runs out: a smaller batch needs less)" if name == "SIGKILL" else ""
    return f"{what} was killed by {name}{hint}"
