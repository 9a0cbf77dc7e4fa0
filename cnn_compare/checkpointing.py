"""Checkpoints that are whole or not there, and what to go on from when one is damaged."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from cnn_compare.errors import CheckpointFileError
from cnn_compare.files import write_bytes

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, waits for the disk, renames; ``last.ckpt`` leaves the one before as ``previous.ckpt``.

    Lightning's own way goes through the system's temporary folder: from another disk, renaming becomes copying, and a
    process that dies then leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint as one file."""
        path = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(path, buffer.getbuffer(), keep=path.with_name(PREVIOUS) if path.name == LAST else None)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint as data: an object that would run code when it is made is refused, whoever asks."""
        return super().load_checkpoint(path, map_location, weights_only=True)


def require_checkpoint(path: str | Path) -> None:
    """Look into a checkpoint that a user names, without running what may be in it.

    Raises:
        CheckpointFileError: If there is none, or it cannot be read as data.
    """
    if not Path(path).is_file():
        raise CheckpointFileError(path, "there is no such file")
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointFileError(path, "it holds code, or damaged data, and is not opened") from error
    # A damaged archive raises whatever its bytes happen to mean.
    except Exception as error:
        raise CheckpointFileError(path, f"{type(error).__name__}: {str(error).splitlines()[0]}") from error


def resumable(folder: Path) -> Path | None:
    """The newest checkpoint in a run's folder that can be read; None where the run has to begin anew.

    What cannot be read is set aside as ``<name>.damaged`` and named in the log.
    """
    candidates = [path for name in (LAST, PREVIOUS) if (path := folder / name).exists()]
    best = folder / "best.ckpt"
    if candidates and not (best.exists() and _readable(best)):
        # The weights to be tested are gone: only training again brings them back.
        for path in candidates:
            path.unlink()
        return None
    return next((path for path in candidates if _readable(path)), None)


def _readable(path: Path) -> bool:
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    # A damaged archive raises whatever its bytes happen to mean.
    except Exception as error:
        log.warning("%s cannot be read and is set aside: %s: %s", path, type(error).__name__, error)
        path.replace(path.with_name(f"{path.name}.damaged"))
        return False
    return True
