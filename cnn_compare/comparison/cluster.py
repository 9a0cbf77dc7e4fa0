"""Runs on a Ray cluster: each on a node that has the resources it needs.

No shared disk is needed. A run works in a temporary folder of its node and sends new files back while it runs, so that
a run whose node is lost resumes on another node from its last checkpoint.

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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnn_compare.comparison.executor import OnProgress
from cnn_compare.comparison.local import LocalExecutor, world_size
from cnn_compare.comparison.spec import Ended, NewFiles, Progress, RunSpec
from cnn_compare.errors import MissingExtraError, RunError
from cnn_compare.files import write_bytes
from cnn_compare.results import RunFolder
from cnn_compare.run_key import RunKey

# How often a run is started again after its node or its worker was lost.
LOST_NODES = 3
# Runs handed to Ray at the same time. Each has a waiting thread here; Ray starts as many as fit on the nodes.
QUEUED = 1000
# Between two messages about the progress of a run.
MESSAGE_INTERVAL_S = 1.0


class RayExecutor:
    """Carries out runs on a Ray cluster.

    Args:
        address: One that ``ray.init`` takes; None starts a cluster on this machine.
        resources: Resources of each run, by Ray's names (``CPU``, ``GPU``, custom ones); None: a processor core, and a
            GPU if the cluster has any.
        timeout_s: A run that takes longer is killed; None: no limit.

    Raises:
        MissingExtraError: If Ray is not installed.
        RunError: If there is no cluster at the address.
    """

    jobs = QUEUED

    def __init__(
        self, address: str | None = None, resources: dict[str, float] | None = None, timeout_s: float | None = None
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("executor=ray", "ray") from error
        self._ray: Any = ray
        self._timeout_s = timeout_s
        self._tasks: dict[RunKey, Any] = {}
        # One at a time: Ray starts runs in the order in which it gets them, and without this all threads race.
        self._handing_over = threading.Lock()
        self._connected_here = not self._ray.is_initialized()
        if self._connected_here:
            self._connect(address)
        resources = resources or {"CPU": 1, **({"GPU": 1} if self._ray.cluster_resources().get("GPU") else {})}
        if not any(
            all(node["Resources"].get(name, 0) >= amount for name, amount in resources.items())
            for node in self._ray.nodes()
        ):
            print(f"no node has {resources} at present: the runs wait for one", file=sys.stderr)
        self._cores = int(resources.get("CPU", 1))
        custom = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")}
        # Ray would repeat a lost run from its beginning; `run` resumes it from the files that have arrived.
        self._remote_run = self._ray.remote(_run_on_node).options(
            num_cpus=resources.get("CPU", 0), num_gpus=resources.get("GPU", 0), resources=custom, max_retries=0
        )

    def _connect(self, address: str | None) -> None:
        variables = {name: os.environ[name] for name in ("CNN_COMPARE_DATA_DIR",) if name in os.environ}
        options = {} if address else {"include_dashboard": False}
        try:
            if host_and_port := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address or ""):
                # Ray itself tries for minutes, and then ends the process.
                host, port = host_and_port.groups()
                socket.create_connection((host, int(port)), timeout=10).close()
            self._ray.init(address, log_to_driver=False, runtime_env={"env_vars": variables}, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(
                f"no Ray cluster at {address or 'this machine'}: {error}. Start one with `ray start --head`, or leave "
                "out ray_address to have one started for the comparison.",
                ["ray_address"],
            ) from error

    def check(self, specs: Sequence[RunSpec]) -> None:
        """See `Executor`; what the cluster's machines have is not known here."""

    def plan(self, specs: Sequence[RunSpec], threads: int | None) -> int:
        """See `Executor`; a run has the cores that Ray sets aside for it."""
        return threads or max(1, self._cores // max(world_size(spec.config) for spec in specs))

    def run(self, spec: RunSpec, on_progress: OnProgress) -> str | None:
        """See `Executor`."""
        losses: list[str] = []
        while len(losses) <= LOST_NODES:
            spec.folder.result.unlink(missing_ok=True)
            try:
                with self._handing_over:
                    files = _changed_files(spec.folder, {})
                    task = self._tasks[spec.key] = self._remote_run.remote(spec, files, self._timeout_s)
                reason: str | None = None
                for reference in task:
                    match self._ray.get(reference):
                        case Progress() as progress:
                            on_progress(progress)
                        case NewFiles(contents):
                            _write_files(spec.folder, contents)
                        case Ended() as ended:
                            reason = ended.reason
                return reason
            except self._ray.exceptions.RayError as error:
                losses.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
            finally:
                self._tasks.pop(spec.key, None)
        return f"its node or worker was lost {len(losses)} times, the last time by {losses[-1]}"

    def stop(self) -> None:
        """See `Executor`."""
        for task in list(self._tasks.values()):
            self._ray.cancel(task, force=True)
        if self._connected_here:
            self._ray.shutdown()


def _run_on_node(
    spec: RunSpec, files: dict[str, bytes], timeout_s: float | None
) -> Iterator[Progress | NewFiles | Ended]:
    """Carry out a run on this node, as on any machine, and send its files after each checkpoint and at the end."""
    with TemporaryDirectory(prefix="cnn_compare_") as path:
        folder = RunFolder(Path(path))
        _write_files(folder, files)
        sent: dict[Path, int] = {}
        _changed_files(folder, sent)
        messages: queue.SimpleQueue[Progress | Ended] = queue.SimpleQueue()

        def run() -> None:
            try:
                executor = LocalExecutor(jobs=1, timeout_s=timeout_s)
                reason = executor.run(replace(spec, folder=folder), messages.put)
            except Exception as error:  # Such as a full disk: nothing else would report it.
                reason = f"{type(error).__name__}: {error}"
            messages.put(Ended(None if folder.result.exists() else reason))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        next_message_at, last = 0.0, folder.checkpoints / folder.LAST
        while isinstance(message := messages.get(), Progress):
            if time.monotonic() >= next_message_at:
                yield message
                if last.exists() and last.stat().st_mtime_ns != sent.get(last):
                    yield NewFiles(_changed_files(folder, sent))
                next_message_at = time.monotonic() + MESSAGE_INTERVAL_S
        thread.join()
        yield NewFiles(_changed_files(folder, sent, with_result=True))
        yield message


def _changed_files(folder: RunFolder, sent: dict[Path, int], with_result: bool = False) -> dict[str, bytes]:
    """Read the files of a run that are new or changed; ``sent`` keeps the time of change of each file read so far."""
    contents: dict[str, bytes] = {}
    not_sent = {folder.lock} if with_result else {folder.lock, folder.result}
    # The last checkpoint first: the best one, read later, is then of an epoch that the last one knows or will repeat.
    for path in sorted(folder.path.rglob("*"), key=lambda path: path.name != RunFolder.LAST):
        if path in not_sent or path.name.endswith(".tmp"):
            continue
        try:
            changed = path.stat().st_mtime_ns
            if path.is_file() and sent.get(path) != changed:
                contents[path.relative_to(folder.path).as_posix()], sent[path] = path.read_bytes(), changed
        except FileNotFoundError:
            continue  # It was renamed just now: the next call reads it under its new name.
    return contents


def _write_files(folder: RunFolder, contents: dict[str, bytes]) -> None:
    # The last checkpoint after what it refers to, and the result after everything else: a killed driver leaves neither
    # without the rest.
    for name in sorted(contents, key=lambda name: (name == RunFolder.RESULT, RunFolder.LAST in name)):
        write_bytes(folder.path / name, contents[name])
