"""Runs on this machine: each in a new process, or in one new process per device."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Literal

from cnn_compare.comparison.executor import OnProgress
from cnn_compare.comparison.spec import Config, Ended, Progress, RunSpec, Started, WorkerSpec
from cnn_compare.errors import InvalidValueError, UsageError
from cnn_compare.private import imports_main

# Exit status of a process that found, while it imported the user's script, that the script would compare again.
NO_MAIN_GUARD = 78


def require_main_guard() -> None:
    """End this process if it is a run's, which has reached ``compare()`` because it imports the user's script.

    The process that started it then says so. A run's process imports the script for the backbones that
    the script may define.
    """
    if imports_main():
        os._exit(NO_MAIN_GUARD)


def start_server() -> ForkServerContext:
    """Start the process that runs are forked from.

    It does once what all runs have in common, such as importing torch and Lightning. Call this before one's own slow
    imports: both then go on at the same time.
    """
    require_main_guard()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cnn_compare.comparison.server"])
    forkserver.ensure_running()
    return context


class LocalExecutor:
    """Carries out runs on this machine.

    Args:
        jobs: How many at the same time; each has devices of its own, as long as there are enough. ``auto``: one a GPU,
            or without GPUs as many as make the comparison end first.
        timeout_s: A run that takes longer is killed; None: no limit.

    Raises:
        InvalidValueError: If ``jobs`` is below 1.
    """

    def __init__(self, jobs: int | Literal["auto"] = "auto", timeout_s: float | None = None) -> None:
        if jobs != "auto" and jobs < 1:
            raise InvalidValueError("jobs", jobs, "1 or more, or auto")
        self.jobs = 1 if jobs == "auto" else jobs
        self.timeout_s = timeout_s
        self._auto = jobs == "auto"
        self._stopped = False
        self._processes: dict[int, list[ForkServerProcess]] = {}  # By slot.
        self._taking_slot = threading.Lock()

    def check(self, specs: Sequence[RunSpec]) -> None:
        """See `Executor`."""
        # Imported late, as the worker is.
        from cnn_compare.checks import check_machine
        from cnn_compare.experiment import make_data

        checked: list[Config] = []
        for spec in specs:
            sections = {name: spec.config[name] for name in ("trainer", "data")}
            if sections not in checked:
                checked.append(sections)
                check_machine(sections["trainer"])
                data = make_data(sections)
                # It says what the data is, and not for every fold and subset.
                if not spec.key.fold and spec.key.train_subset in (None, specs[0].key.train_subset):
                    data.prepare_data()
                try:
                    data.setup("fit")
                except InvalidValueError as error:
                    if spec.key.train_subset is None or error.field != "data.train_subset":
                        raise
                    raise InvalidValueError("train_subsets", spec.key.train_subset, error.expected) from error

    def plan(self, specs: Sequence[RunSpec], threads: int | None) -> int:
        """See `Executor`; torch's default of threads is shared among the runs."""
        import torch

        from cnn_compare.comparison.jobs import jobs_on_cores, jobs_on_gpus

        processes = max(world_size(spec.config) for spec in specs)
        cores = max(1, torch.get_num_threads() // processes)
        if self._auto:
            gpus = jobs_on_gpus(specs[0].config["trainer"], processes)
            self.jobs = gpus or (cores // threads if threads else jobs_on_cores(specs, cores))
            self.jobs = max(1, min(self.jobs, len(specs)))
        threads = threads or max(1, cores // self.jobs)
        if len(specs) > 1:
            runs, of_each = f"run{'s' * (self.jobs > 1)}", f"thread{'s' * (threads > 1)}"
            print(f"{self.jobs} {runs} at a time, {threads} {of_each} each", file=sys.stderr, flush=True)
        return threads

    def run(self, spec: RunSpec, on_progress: OnProgress) -> str | None:
        """See `Executor`."""
        with self._taking_slot:
            slot = next(slot for slot in itertools.count() if slot not in self._processes)
            processes = self._processes[slot] = []
        try:
            return self._run(spec, slot, processes, on_progress)
        finally:
            # Also if the user interrupts: the last checkpoint holds what the run has reached.
            for process in processes:
                process.kill()
                process.join()
            del self._processes[slot]

    def stop(self) -> None:
        """See `Executor`."""
        self._stopped = True
        for processes in list(self._processes.values()):
            for process in processes:
                process.kill()

    def _run(self, spec: RunSpec, slot: int, processes: list[ForkServerProcess], on_progress: OnProgress) -> str | None:
        def start(worker: WorkerSpec, parent: connection.Connection | None) -> None:
            process = context.Process(target=_run_worker, args=(spec, worker, parent), name=spec.key.label)
            process.start()
            processes.append(process)
            if self._stopped:
                process.kill()

        spec.folder.result.unlink(missing_ok=True)
        spec.folder.save_config(spec.config)
        context, size = start_server(), world_size(spec.config)
        port = _free_port() if size > 1 else 0
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        first = WorkerSpec(slot, self.jobs, gpus, world_size=size, port=port)
        receiver, sender = context.Pipe(duplex=False)
        start(first, sender)
        sender.close()
        on_progress(Progress(0, 0.0))
        deadline = math.inf if self.timeout_s is None else time.monotonic() + self.timeout_s
        while True:
            match self._next_message(receiver, processes, deadline):
                case Started(checkpoint):
                    for rank in range(1, size):
                        start(replace(first, rank=rank, checkpoint=checkpoint), None)
                case Progress() as progress:
                    on_progress(progress)
                case Ended(reason):
                    return reason

    def _next_message(
        self, receiver: connection.Connection, processes: list[ForkServerProcess], deadline: float
    ) -> Started | Progress | Ended:
        """Wait for a message of the run's first process, for the end of a process, or for the deadline."""
        while True:
            remaining_s = deadline - time.monotonic()
            others = [process for process in processes[1:] if process.exitcode != 0]
            timeout = None if math.isinf(remaining_s) else max(0.0, remaining_s)
            ready = connection.wait([receiver, *(process.sentinel for process in others)], timeout)
            if not ready or remaining_s <= 0:
                return Ended(f"it was stopped after {self.timeout_s:g} s, the limit set by run_timeout_s")
            for process in others:
                if process.sentinel in ready:
                    process.join()
                    if process.exitcode:
                        name = f"its process for device {processes.index(process)}"
                        return Ended(_describe_exit(process.exitcode, name))
            if receiver in ready:
                try:
                    message: Started | Progress = receiver.recv()
                except (EOFError, OSError):
                    processes[0].join()
                    if processes[0].exitcode == NO_MAIN_GUARD:
                        raise UsageError(
                            f"{getattr(sys.modules['__main__'], '__file__', None)} calls compare() when it is "
                            "imported, and the process of each run imports it, for the backbones that it may define. "
                            'Put the call under `if __name__ == "__main__":`.'
                        ) from None
                    return Ended(_describe_exit(processes[0].exitcode or 0, "its process"))
                return message


def _run_worker(spec: RunSpec, worker: WorkerSpec, parent: connection.Connection | None) -> None:
    # Imported in the run's process: the one that starts it, such as a node of a cluster, needs no torch.
    from cnn_compare.comparison.worker import run_worker

    run_worker(spec, worker, parent)


def world_size(config: Config) -> int:
    """The number of devices that a run takes, according to ``trainer.devices``; Lightning's ``auto`` means one here.

    Raises:
        InvalidValueError: If it is neither a number nor a list of devices, or asks for several machines.
    """
    trainer = config["trainer"]
    if (nodes := trainer.get("num_nodes") or 1) != 1:
        raise InvalidValueError("trainer.num_nodes", nodes, "1: executor=ray spreads runs over several machines")
    devices = trainer.get("devices", "auto")
    if isinstance(devices, str) and devices != "auto":
        numbers = [number for number in devices.split(",") if number]
        devices = numbers if "," in devices or not devices.isdecimal() else int(devices)
    size = 1 if devices in ("auto", None) else len(devices) if isinstance(devices, list) else devices
    if size < 1 or (isinstance(devices, list) and not all(str(number).isdecimal() for number in devices)):
        raise InvalidValueError("trainer.devices", devices, "a number of devices, or a list of them")
    return int(size)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _describe_exit(code: int, process: str) -> str:
    if code >= 0:
        return f"{process} ended with exit status {code}"
    name = signal.Signals(-code).name
    # The kernel kills without a message, so nothing else gives the likely cause.
    hint = " (as the system does when memory runs out: a smaller batch needs less)" if name == "SIGKILL" else ""
    return f"{process} was killed by {name}{hint}"
