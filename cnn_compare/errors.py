"""Every error says what happened, with which value, and what to do about it.

`UsageError` is a mistake in the request (exit status 2), `RunError` a failure while carrying it out (exit status 1).
Below them is a class for what a program may want to tell apart, and for a sentence that several places need.
"""

from __future__ import annotations

import copyreg
import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

# Faults of a disk or its permissions, not of a request.
STORAGE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG),
}


class CnnCompareError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        message: What happened, with which value, and the way out. It names settings as configurations do, such as
            ``data.image_size``.
        fields: The settings that the message names, so that the command can show them as options.
        facts: Become attributes, so that programs need not parse the message.
    """

    exit_status = 1

    def __init__(self, message: str, fields: Iterable[str] = (), **facts: Any) -> None:
        self.fields = tuple(fields)
        vars(self).update(facts)
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep message and attributes: pickle would otherwise call the class with the message alone."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(CnnCompareError):
    """The request itself cannot be carried out."""

    exit_status = 2


class InvalidValueError(UsageError, ValueError):
    """A setting has a value that it does not accept."""

    def __init__(self, field: str, value: object, expected: str, mentioned: Iterable[str] = ()) -> None:
        self.field, self.value, self.expected = field, value, expected
        super().__init__(f"{field} must be {expected}, and is {value!r}.", (field, *mentioned))


class RefusedSettingError(UsageError, ValueError):
    """Lightning or torch refuses a setting."""

    def __init__(self, field: str, value: object, reason: str, mentioned: Iterable[str] = ()) -> None:
        setting = field if value is None else f"{field}={value}"
        reason = " ".join(reason.split()).rstrip(".!")
        super().__init__(f"{setting} is refused: {reason}.", (field, *mentioned), field=field, value=value)


class ConfigurationError(UsageError, ValueError):
    """A configuration has a setting that does not exist, or a value of the wrong type."""

    def __init__(self, problem: str, fields: Iterable[str] = ()) -> None:
        self.problem = " ".join(problem.split())
        super().__init__(f"{self.problem}{'' if problem.endswith('?') else '.'} --help lists all settings.", fields)


class UnknownBackboneError(UsageError):
    """No backbone has this name: it is not registered, not importable, and unknown to timm."""

    def __init__(self, name: str, known: Iterable[str], reason: str | None = None) -> None:
        self.name, self.known, self.reason = name, sorted(known), reason
        close = get_close_matches(name, self.known, n=1)
        hint = reason or (f"Did you mean {close[0]!r}?" if close else "")
        lists = f"`cnn-compare backbones` lists all {len(self.known)}."
        super().__init__(" ".join(filter(None, (f"no backbone is registered as {name!r}.", hint, lists))))


class UntrustedCodeError(UsageError):
    """A file names code that is neither this package's nor given by the user."""


class MissingExtraError(UsageError):
    """A setting needs packages that only an extra of this package installs."""

    def __init__(self, field: str, extra: str) -> None:
        super().__init__(f"{field} needs `pip install 'cnn-compare[{extra}]'`.", [field.partition("=")[0]], extra=extra)


class ComparisonExistsError(UsageError):
    """A comparison of that name exists already."""

    def __init__(self, folder: Path, reason: str) -> None:
        message = (
            f"{folder} already exists{reason}. Choose another name, or use on_existing=overwrite "
            "(deletes it) or on_existing=resume (continues it; needs the same configuration and pictures)."
        )
        super().__init__(message, ("name", "on_existing"), folder=folder)


class NoRunsError(UsageError, ValueError):
    """There is nothing to report on."""

    def __init__(self, folder: Path, reason: str) -> None:
        message = (
            f"no run to report on in {folder}: {reason}. Give the folder of a comparison, such as "
            "lightning_logs/<name>; `cnn-compare compare` makes one."
        )
        super().__init__(message, ["runs_dir"], folder=folder)


class RunError(CnnCompareError):
    """The request was sound, and carrying it out failed."""


class WeightsError(RunError):
    """Weights cannot be found, read, or fitted to the network."""


class DataError(RunError):
    """Data cannot be found, downloaded, trusted, or used."""


class DataUnavailableError(DataError):
    """The data is missing and could not be downloaded."""

    def __init__(self, name: str, folder: Path, url: str, files: str, reason: object) -> None:
        message = (
            f"no {name} in {folder}, and downloading it from {url} failed ({reason}). "
            f"Try again, or put {files} there by hand, or name the folder that holds it with "
            "data.data_dir or CNN_COMPARE_DATA_DIR. data=DigitsDataModule needs no network."
        )
        super().__init__(message, ("data.data_dir", "data"), folder=folder, url=url)


class FolderError(DataError):
    """Folders or a table of labels cannot be understood as a data set."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        settings = ("data_dir", "labels", "group", "group_pattern", "columns", "min_class_images")
        super().__init__(f"{path}: {problem}.", [f"data.{name}" for name in settings])


class BadPictureError(DataError):
    """A file is no picture, or one that cannot be decoded completely."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} cannot be decoded: {reason}.", ["data.max_pixels"])


class ResultError(RunError):
    """A stored result is missing, half-written, or of another schema."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} holds no readable result: {reason}.")


class CheckpointError(RunError):
    """A checkpoint cannot be used as requested."""


class CheckpointFileError(CheckpointError):
    """A checkpoint is missing or unreadable."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = path, reason
        message = (
            f"no checkpoint in {path}: {reason}. Give ckpt_path a file that `fit` or `compare` has written, "
            "such as lightning_logs/version_0/checkpoints/last.ckpt."
        )
        super().__init__(message, ("ckpt_path", "model.weights"))


class ResumeError(CheckpointError):
    """Training cannot go on from a checkpoint."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = path, reason
        model = ("weights", "optimizer", "decay_norm_and_bias", "backbone_lr_factor", "lr_scheduler")
        fields = ("ckpt_path", *(f"model.{name}" for name in model), "trainer.max_epochs", "trainer.max_steps")
        super().__init__(f"training cannot go on from ckpt_path={path}: {reason}.", fields)


class NoTrainedNetworkError(CheckpointError):
    """A file or folder holds no trained network."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"no trained network in {path}: {reason}. Give a checkpoint that `fit` or `compare` has written, such as "
            "lightning_logs/version_0/checkpoints/best.ckpt, or the folder of a run or a comparison."
        )


class DivergedError(RunError):
    """The training loss became infinite or NaN."""


class StorageError(RunError):
    """Reading or writing a file failed: the disk is full, or permissions lack."""


class UnforeseenError(RunError):
    """An error that this package does not expect; its traceback is in a file."""


def own_error(error: BaseException | None) -> CnnCompareError | None:
    """The package's error that caused another library's error, as jsonargparse raises while it instantiates classes."""
    while error is not None and not isinstance(error, CnnCompareError):
        if type(error).__name__ == "MisconfigurationException":  # Lightning's, which is slow to import.
            return RefusedSettingError("trainer", None, str(error))
        if isinstance(error, OSError) and error.errno in STORAGE:
            where = f" ({error.filename})" if error.filename else ""
            return StorageError(
                f"a file could not be read or written: {error.strerror}{where}. Make room or change its permissions, "
                "and give the same command again: a comparison goes on from its last checkpoints."
            )
        error = error.__cause__
    return error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class."""
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


def with_flags(error: CnnCompareError) -> str:
    """An error's message, with each field that it mentions written as a flag."""
    message = str(error)
    for field in error.fields:
        message = re.sub(rf"(?<![\w.'/\[-]){re.escape(field)}(?![\w/]|\.\w)", f"--{field}", message)
    return message
