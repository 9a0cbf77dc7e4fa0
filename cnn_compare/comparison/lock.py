"""One command at a time on a comparison."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cnn_compare.errors import UsageError
from cnn_compare.files import write_text


@contextmanager
def comparison_lock(folder: Path) -> Iterator[None]:
    """Hold a comparison's lock. The system releases it when the process ends, even if it is killed.

    Args:
        folder: The comparison's. The lock lies beside it, because the folder may be deleted and created again.

    Raises:
        UsageError: If another process holds the lock; the message names it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    holder = folder.parent / f".{folder.name}.holder"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        name = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        way_out = "Wait for it to end, stop it, or choose another name."
        raise UsageError(f"{folder} is being worked on by {name}. {way_out}", ["name"]) from error
    try:
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        write_text(holder, f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
