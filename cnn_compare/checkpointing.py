"""Checkpoints that are written atomically, and which one to resume from when some are damaged."""

from __future__ import annotations

import io
import logging
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from torch.optim import Optimizer

from cnn_compare.errors import CheckpointError, CheckpointFileError, ResumeError
from cnn_compare.files import ADDRESS, is_address, write_bytes
from cnn_compare.results import RunFolder

BEST_STATE = "best.ckpt"
"""The name of `BestCheckpoint`'s state in a checkpoint."""

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint atomically; the ``last.ckpt`` before becomes ``previous.ckpt``.

    Lightning writes through the system's temporary folder. If that is on another disk, it copies the file from there,
    and a process that dies while it copies leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint as one file."""
        path = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        keep = path.with_name(RunFolder.PREVIOUS) if path.name == RunFolder.LAST else None
        write_bytes(path, buffer.getbuffer(), keep)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint as data: objects that would run code when loaded are always refused."""
        return super().load_checkpoint(path, map_location, weights_only=True)


def require_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's content, without running code that may be in it.

    Raises:
        CheckpointFileError: If there is no such file, it cannot be read as data, or it holds something else.
    """
    content = read_stored(path)
    if not content.keys() >= {"state_dict", "pytorch-lightning_version"}:
        reason = f"it holds weights alone, which are given as model.weights={path}, or something else"
        raise CheckpointFileError(path, reason)
    return content


def read_stored(path: str | Path) -> dict[str, Any]:
    """Read what ``torch.save`` has written, without running code that may be in it.

    Raises:
        CheckpointFileError: If there is no such file, or it cannot be read as a dictionary of data.
    """
    if not Path(path).is_file():
        raise CheckpointFileError(path, ADDRESS if is_address(path) else "there is no such file")
    try:
        # Files of torch before 1.6 are no archives, and cannot be mapped.
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointFileError(path, "it holds code, or damaged data, and is not opened") from error
    # A damaged archive can raise anything.
    except Exception as error:
        message = str(error).partition("\n")[0].rstrip(".")
        raise CheckpointFileError(path, f"{type(error).__name__}: {message or 'the file is damaged'}") from error
    if not isinstance(content, dict):
        raise CheckpointFileError(path, f"it holds a {type(content).__name__}")
    return content


def other_setting(field: str, stored: object, requested: object) -> CheckpointError:
    """The error for a checkpoint that was made with another setting than the requested one."""
    data = " To use it all the same, give allow_other_data=true." if field.startswith("data") else ""
    return CheckpointError(
        f"the checkpoint has {field}={stored!r}, and {requested!r} was requested. Leave {field} out, or give "
        f"another ckpt_path.{data}",
        (field, "ckpt_path", "allow_other_data"),
    )


def require_resumable(
    path: str | Path, checkpoint: dict[str, Any], optimizer: Optimizer, max_epochs: int | None, max_steps: int = -1
) -> None:
    """Check that training can go on from a checkpoint.

    Args:
        path: The checkpoint's path, for messages.
        checkpoint: Its content.
        optimizer: One like that of the training that is to go on.
        max_epochs: The training's limit of epochs; None or -1: no limit.
        max_steps: The training's limit of optimiser steps; -1: no limit.

    Raises:
        ResumeError: If it holds no state of training, that of another optimiser, or a training that is over.
    """
    if not checkpoint.get("optimizer_states"):
        reason = f"it holds weights alone; give {RunFolder.LAST}, which holds all state, or model.weights={path}"
        raise ResumeError(path, f"{reason} to train anew from these weights")
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    factor, wanted = (_lr_factor(each) for each in (groups, optimizer.param_groups))
    if factor != wanted:
        raise ResumeError(path, f"it was trained with model.backbone_lr_factor={factor:g}")
    if len(groups) != len(optimizer.param_groups):
        raise ResumeError(
            path,
            f"it was trained with model.decay_norm_and_bias={str(len(groups) < len(optimizer.param_groups)).lower()}",
        )
    if missing := sorted(optimizer.param_groups[0].keys() - groups[0].keys()):
        reason = f"its optimiser is another one than {type(optimizer).__name__}, which has {', '.join(missing)}"
        raise ResumeError(path, f"{reason}; give the model.optimizer that it was trained with")
    epochs = checkpoint["epoch"] + 1
    if max_epochs is not None and 0 <= max_epochs <= epochs:
        reason = f"it has {epochs} epoch{'s' if epochs > 1 else ''}, and trainer.max_epochs={max_epochs} is reached"
        raise ResumeError(path, f"{reason}; give trainer.max_epochs={epochs + 1} or more")
    if 0 <= max_steps <= (steps := checkpoint.get("global_step", -1)):
        reason = f"it has {steps} steps, and trainer.max_steps={max_steps} is reached"
        raise ResumeError(path, f"{reason}; give trainer.max_steps={steps + 1} or more")


def _lr_factor(groups: Sequence[Mapping[str, Any]]) -> float:
    return next((float(group["lr_factor"]) for group in groups if "lr_factor" in group), 1.0)


def logs_folder(trainer: Trainer) -> Path | None:
    """The folder of a training's own files, beside its logs; None without a logger. On several devices, ask on each.

    MLflow, W&B and others have one folder for all trainings, or none: then it is the one that Lightning makes for the
    checkpoints.
    """
    if not trainer.loggers:
        return None
    if isinstance(trainer.loggers[0], TensorBoardLogger | CSVLogger):
        return Path(trainer.log_dir or "")
    logger: Any = trainer.loggers[0]
    _ = logger.experiment  # Only then are name and version known.
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    folder = Path(logger.save_dir or trainer.default_root_dir, str(logger.name), version)
    return Path(trainer.strategy.broadcast(str(folder)))


def newest_checkpoint(log_dir: Path, name: str) -> Path:
    """The newest checkpoint that `fit` has written below a folder of logs.

    Args:
        log_dir: The folder of the ``version_<n>`` folders.
        name: ``last`` or ``best``.

    Raises:
        CheckpointFileError: If there is none.
    """
    paths = list(log_dir.glob(f"version_*/checkpoints/{name}.ckpt"))
    if not paths:
        raise CheckpointFileError(name, f"`fit` has written no {name}.ckpt below {log_dir}")
    return max(paths, key=lambda path: path.stat().st_mtime)


def resumable(checkpoints: Path) -> Path | None:
    """The newest readable checkpoint of a run whose best weights are there too; None if the run must start anew.

    An unreadable file is renamed to ``<name>.damaged``, and the log says so.

    Args:
        checkpoints: The run's folder of checkpoints.
    """
    for path in (checkpoints / RunFolder.LAST, checkpoints / RunFolder.PREVIOUS):
        content = _whole(path)
        if content is None or (state := content["callbacks"].get(BEST_STATE)) is None:
            continue  # There is none, or one of an earlier version.
        try:
            if state["best_model_path"]:
                # A copied run must not use the original's.
                best_weights(path, content["global_step"], str(path))
            return path
        except ResumeError:
            # The weights to test are lost, and only training from the beginning brings them back.
            path.unlink()
    return None


def best_weights(path: Path, step: int, known: str) -> Path:
    """The file of the best weights that a checkpoint knows, which is not one of weights that were saved after it.

    Args:
        path: The checkpoint.
        step: Its optimiser steps.
        known: The path that it stores.

    Raises:
        ResumeError: If there is none.
    """
    # Where a training was continued beside other logs, its best weights may have stayed with the first ones.
    folders = dict.fromkeys([path.resolve().parent, Path(known).resolve().parent])
    candidates = [folder / name for folder in folders for name in (RunFolder.BEST, RunFolder.PREVIOUS_BEST)]
    for candidate in candidates:
        if (content := _whole(candidate)) is not None and content["global_step"] <= step:
            return candidate
    reason = f"the best weights of its first {step} steps are not in {candidates[0]}"
    raise ResumeError(path, f"{reason}; give model.weights={path} to train anew from its own weights")


def _whole(path: Path) -> dict[str, Any] | None:
    """A checkpoint's content, all of which is read; None if there is none, or it is damaged and set aside."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    # A damaged archive can raise anything.
    except Exception as error:
        log.warning("%s cannot be read and is set aside: %s: %s", path, type(error).__name__, error)
        path.replace(path.with_name(f"{path.name}.damaged"))
        return None
    return content
