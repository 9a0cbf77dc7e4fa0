"""Runs on a Ray cluster: each on a node that has what it needs, its files sent back as they come into being.

No disk is shared: a run works in a folder of its node's own, and its checkpoints travel with its result, so that a run
whose node is lost goes on elsewhere from the last one.

Source:
    Moritz et al. 2018, arXiv:1712.05889; Ray's documentation of generator tasks.
"""

from __future__ import annotations

import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnn_compare.comparison.executor import Report
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.comparison.spec import RunSpec
from cnn_compare.errors import ClusterError, MissingExtraError
from cnn_compare.files import write_bytes
from cnn_compare.results import RunFolder

Files = dict[str, bytes]
Message = tuple[int, float] | Files | str
"""How far a run is, files that are new, or why it left no result."""

# How often a run is begun again because its node or its worker was lost.
LOST_NODES = 3
# Runs handed to Ray at a time; each takes a waiting thread here, and Ray starts as many as there is room for.
QUEUED = 1000
# Between two messages about the progress of a run.
REPORT_EVERY_S = 1.0
LAST = "last.ckpt"
# What a run does not need again, or another process's.
NOT_SENT = {".lock", "result.json"}


class RayExecutor:
    """Runs specs on a Ray cluster.

    Args:
        address: As ``ray.init`` takes it; None starts a cluster on this machine.
        resources: What each run takes, by Ray's names (``CPU``, ``GPU``, those of one's own); None: a GPU where there
            are any, and a core.
        timeout_s: A run that takes longer is stopped; None: no limit.

    Raises:
        MissingExtraError: If Ray is not installed.
        ClusterError: If there is no cluster at the address.
    """

    jobs = QUEUED

    def __init__(self, address: str | None, resources: dict[str, float] | None, timeout_s: float | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("--executor=ray", "ray") from error
        self._ray: Any = ray
        self._timeout_s = timeout_s
        self._running: dict[str, Any] = {}
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address)
        there = self._ray.cluster_resources()
        resources = dict(resources or {"CPU": 1, **({"GPU": 1} if there.get("GPU") else {})})
        if not any(
            all(node["Resources"].get(name, 0) >= n for name, n in resources.items()) for node in self._ray.nodes()
        ):
            print(f"no node has {resources} at present: the runs wait for one", file=sys.stderr)
        self._threads = max(1, int(resources.get("CPU", 1)))
        options = {"num_cpus": resources.pop("CPU", 0), "num_gpus": resources.pop("GPU", 0), "resources": resources}
        # Ray would repeat a lost run from its beginning; here it goes on from what has arrived.
        self._task = self._ray.remote(_run_on_node).options(**options, max_retries=0)

    def _connect(self, address: str | None) -> None:
        variables = {name: os.environ[name] for name in ("CNN_COMPARE_DATA_DIR",) if name in os.environ}
        options = {} if address else {"include_dashboard": False}
        try:
            if (place := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address or "")) is not None:
                # Ray itself tries for minutes, and then ends the process.
                socket.create_connection((place[1], int(place[2])), timeout=10).close()
            self._ray.init(address, log_to_driver=False, runtime_env={"env_vars": variables}, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise ClusterError(address, error) from error

    def run(self, spec: RunSpec, report: Report) -> str | None:
        """See `Executor`."""
        lost: list[str] = []
        while len(lost) <= LOST_NODES:
            (spec.folder.path / "result.json").unlink(missing_ok=True)
            try:
                files = _changed(spec.folder.path, {})
                running = self._running[spec.name] = self._task.remote(spec, files, self._timeout_s, self._threads)
                for reference in running:
                    message = self._ray.get(reference)
                    if isinstance(message, str):
                        return message
                    if isinstance(message, tuple):
                        report(*message)
                    else:
                        _write(spec.folder.path, message)
                return None
            except self._ray.exceptions.RayError as error:
                lost.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
            finally:
                self._running.pop(spec.name, None)
        return f"its node or worker was lost {len(lost)} times, lastly by {lost[-1]}"

    def stop(self) -> None:
        """See `Executor`."""
        for running in self._running.values():
            self._ray.cancel(running, force=True)
        if self._ours:
            self._ray.shutdown()


def _run_on_node(spec: RunSpec, files: Files, timeout_s: float | None, threads: int) -> Iterator[Message]:
    """Run a spec on this node, in the way of every machine, and send its files whenever a checkpoint was written."""
    with TemporaryDirectory(prefix="cnn_compare_") as folder:
        there = replace(spec, folder=RunFolder(Path(folder)))
        _write(there.folder.path, files)
        sent: dict[str, int] = {}
        _changed(there.folder.path, sent)
        messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                executor = LocalExecutor(timeout_s=timeout_s, threads=threads)
                reason = executor.run(there, lambda epoch, share: messages.put((epoch, share)))
            except Exception as error:  # A full disk, say: nobody else would hear of it.
                reason = f"{type(error).__name__}: {error}"
            messages.put(None if (there.folder.path / "result.json").exists() else reason)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        due, last = 0.0, there.folder.path / "checkpoints" / LAST
        while isinstance(message := messages.get(), tuple):
            if time.monotonic() < due:
                continue
            yield message
            if last.exists() and last.stat().st_mtime_ns != sent.get(f"checkpoints/{LAST}"):
                yield _changed(there.folder.path, sent)
            due = time.monotonic() + REPORT_EVERY_S
        worker.join()
        yield _changed(there.folder.path, sent, whole=True)
        if message is not None:
            yield message


def _changed(folder: Path, sent: dict[str, int], whole: bool = False) -> Files:
    """What is new in a folder since the last call with the same ``sent``, which notes each file's time of change."""
    files: Files = {}
    # The last checkpoint first: read after it, the best one is of an epoch that it knows or that training will repeat.
    for path in sorted(folder.rglob("*"), key=lambda path: path.name != LAST):
        name = path.relative_to(folder).as_posix()
        if path.name in NOT_SENT - ({"result.json"} if whole else set()) or path.name.endswith(".tmp"):
            continue
        try:
            changed = path.stat().st_mtime_ns
            if path.is_file() and sent.get(name) != changed:
                files[name], sent[name] = path.read_bytes(), changed
        except FileNotFoundError:
            continue  # Renamed just now: its new name comes next time.
    return files


def _write(folder: Path, files: Files) -> None:
    # And written after all others, but for the result: where that lies, everything else does.
    for name, content in sorted(files.items(), key=lambda item: (item[0] == "result.json", LAST in item[0])):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
