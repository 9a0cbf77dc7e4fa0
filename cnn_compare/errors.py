"""Every error says what happened, with which value, and what to do about it.

`UsageError` is a mistake in the request (exit status 2), `RunError` a failure while carrying it out (exit status 1).
The facts of each error are also its attributes, so that programs need not parse messages. Messages name settings as
configurations do, such as ``data.image_size``; ``fields`` lists them, so that the command can show them as options.
"""

from __future__ import annotations

import copyreg
import errno
import re
from collections.abc import Iterable, Mapping, Sequence
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
    """Base of every error that this package raises on purpose."""

    exit_status = 1
    fields: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep message and attributes: pickle would otherwise call the class with the message alone."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(CnnCompareError):
    """The request itself cannot be carried out."""

    exit_status = 2


class RunError(CnnCompareError):
    """The request was sound, and carrying it out failed."""


class InvalidValueError(UsageError, ValueError):
    """A setting has a value that it does not accept."""

    def __init__(self, field: str, value: object, expected: str, mentioned: Iterable[str] = ()) -> None:
        self.field, self.value, self.expected = field, value, expected
        self.fields = (field, *mentioned)
        super().__init__(f"{field} must be {expected}, and is {value!r}.")


class ConfigurationError(UsageError, ValueError):
    """A configuration has a setting that does not exist, or a value of the wrong type."""

    def __init__(self, problem: str, fields: tuple[str, ...] = ()) -> None:
        self.problem, self.fields = " ".join(problem.split()), fields
        super().__init__(f"{self.problem}{'' if problem.endswith('?') else '.'} --help lists all settings.")


class RefusedSettingError(UsageError, ValueError):
    """Lightning or torch refuses a setting."""

    def __init__(self, field: str, value: object, reason: str, mentioned: Iterable[str] = ()) -> None:
        self.field, self.value, self.reason = field, value, " ".join(reason.split()).rstrip(".!")
        self.fields = (field, *mentioned)
        setting = field if value is None else f"{field}={value}"
        super().__init__(f"{setting} is refused: {self.reason}.")


class NetworkOutputError(RunError):
    """A network does not return one number for each class."""

    fields = ("model.num_classes",)

    def __init__(self, backbone: str, found: object, num_classes: int, images: int = 1) -> None:
        self.backbone, self.found, self.num_classes, self.images = backbone, found, num_classes, images
        what = "one image" if images == 1 else f"{images} images in training"
        super().__init__(
            f"{backbone} returns {found} for {what}, and should return logits of shape ({images}, {num_classes}), one "
            "for each class. A backbone is called with num_classes, and its last layer has as many outputs."
        )


class AuxiliaryLossError(UsageError):
    """A network returns auxiliary logits in training, and does not say what their loss counts."""

    def __init__(self, backbone: str) -> None:
        self.backbone = backbone
        super().__init__(
            f"{backbone} returns auxiliary logits in training, and has no aux_loss_weight, by which their loss is "
            "multiplied. Set this attribute of the network, such as 0.3 for GoogLeNet, in a function of your own that "
            "builds it; or build it without auxiliary heads."
        )


class UnknownBackboneError(UsageError):
    """No backbone has this name: it is not registered, not importable, and unknown to timm."""

    def __init__(self, name: str, known: Iterable[str], reason: str | None = None) -> None:
        self.name, self.known, self.reason = name, sorted(known), reason
        close = get_close_matches(name, self.known, n=1)
        hint = reason or (f"Did you mean {close[0]!r}?" if close else "")
        lists = f"`cnn-compare backbones` lists all {len(self.known)}."
        super().__init__(" ".join(filter(None, (f"no backbone is registered as {name!r}.", hint, lists))))


class BackboneTakenError(UsageError):
    """A backbone is registered under a name that another one has."""

    def __init__(self, name: str, owner: str, others: Sequence[str] = ()) -> None:
        self.name, self.owner, self.others = name, owner, tuple(others)
        also = f", and {' and '.join(others)} adds it too" if others else ""
        way_out = "Uninstall one, or name a callable: package.module:callable" if others else "Register the new "
        way_out += "." if others else "backbone under another name."
        super().__init__(f"the name {name!r} is taken by {owner}{also}. {way_out}")


class ImageTooSmallError(UsageError):
    """The images would shrink to nothing inside the network."""

    def __init__(
        self,
        backbone: str,
        stem: str,
        min_size: int,
        size: int,
        size_field: str = "data.image_size",
        stem_field: str = "model.stem",
    ) -> None:
        self.backbone, self.stem, self.min_size, self.size = backbone, stem, min_size, size
        # With its value, because `stem` alone is an ordinary word of the message as well.
        self.fields = (size_field, f"{stem_field}=cifar")
        larger = 1 << (min_size - 1).bit_length()
        way_out = f"Use {size_field}={larger}"
        if stem == "imagenet" and size >= 32:
            way_out += f" or {stem_field}=cifar"
        super().__init__(
            f"{backbone} with its {stem} stem needs images of at least {min_size}x{min_size}, "
            f"and gets {size}x{size}. {way_out}."
        )


class WeightsError(RunError):
    """Weights cannot be found, read, or fitted to the network."""

    fields = ("model.weights",)


class WeightsFileError(WeightsError):
    """A source of weights is missing or unreadable."""

    def __init__(self, source: str | Path, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(
            f"no weights from {source}: {reason}. Give a state dict saved by torch.save or as .safetensors "
            "with model.weights=/path/to/file."
        )


class WeightsUnavailableError(WeightsError):
    """Published weights are not in torch's cache and could not be downloaded."""

    def __init__(self, path: Path, url: str, reason: object) -> None:
        self.path, self.url, self.reason = path, url, str(reason)
        super().__init__(
            f"{path.name} is not in {path.parent}, and downloading it failed ({reason}). Fetch {url} on another "
            f"machine and put it there, or anywhere and name it with model.weights=/path/to/{path.name}."
        )


class WeightsMismatchError(WeightsError):
    """Stored weights belong to another network."""

    fields = ("model.stem",)

    def __init__(
        self,
        source: str | Path,
        backbone: str,
        stem: str,
        missing: Iterable[str],
        unexpected: Iterable[str],
        mismatched: Iterable[str],
    ) -> None:
        self.source, self.backbone, self.stem = source, backbone, stem
        self.missing, self.unexpected, self.mismatched = sorted(missing), sorted(unexpected), sorted(mismatched)
        differences = [
            f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in (
                ("missing", self.missing),
                ("not in the network", self.unexpected),
                ("of another shape", self.mismatched),
            )
            if keys
        ]
        hint = " ImageNet weights fit model.stem=imagenet." if stem == "cifar" else ""
        super().__init__(
            f"the weights in {source} are not those of {backbone} with its {stem} stem: {', '.join(differences)}. "
            f"Use the backbone and stem that they were trained with.{hint}"
        )


class NoImageNetWeightsError(UsageError):
    """ImageNet weights are requested where none are published."""

    fields = ("model.stem", "model.pretrained", "model.weights")

    def __init__(self, backbone: str, stem: str, exist: bool) -> None:
        self.backbone, self.stem = backbone, stem
        way_out = "Use model.stem=imagenet, or train" if exist else "Train"
        super().__init__(
            f"{backbone} with its {stem} stem has no ImageNet weights. {way_out} from scratch "
            "(model.pretrained=false), or name a file with model.weights=/path/to/file."
        )


class DataError(RunError):
    """Data cannot be found, downloaded, or trusted."""


class DataUnavailableError(DataError):
    """The data is missing and could not be downloaded."""

    fields = ("data.data_dir", "data")

    def __init__(self, name: str, folder: Path, url: str, files: str, reason: object) -> None:
        self.name, self.folder, self.url, self.reason = name, folder, url, str(reason)
        super().__init__(
            f"no {name} in {folder}, and downloading it from {url} failed ({reason}). "
            f"Try again, or put {files} there by hand, or name the folder that holds it with "
            "data.data_dir or CNN_COMPARE_DATA_DIR. data=DigitsDataModule needs no network."
        )


class DataDamagedError(DataError):
    """A data file does not have its published checksum."""

    def __init__(self, path: Path, md5: str, expected_md5: str) -> None:
        self.path, self.md5, self.expected_md5 = path, md5, expected_md5
        super().__init__(
            f"{path} is damaged: its md5 is {md5} and should be {expected_md5}. "
            "It was not opened. Delete it and run again to download a fresh copy."
        )


class LoadedDataError(DataError):
    """What a data module's ``load`` returned cannot be used."""

    def __init__(self, source: str, found: str, expected: str) -> None:
        self.source, self.found, self.expected = source, found, expected
        super().__init__(f"{source} returned {found}. Expected: {expected}.")


class ClassTooSmallError(DataError):
    """Classes are too small to be in every split, or, where ``splits`` is their number, in every fold.

    Args:
        parts: Class -> how many images or groups it has: all classes that are too small.
        splits: Names of the splits, or number of folds.
        part: What is counted, such as ``image``.
        elsewhere: Class -> images of it in splits that the data has.
    """

    fields = ("data.group", "data.split_seed", "data.min_class_images")
    SHOWN = 50

    def __init__(
        self,
        parts: Mapping[str, int],
        splits: Sequence[str] | int,
        part: str,
        elsewhere: Mapping[str, int] | None = None,
    ) -> None:
        self.parts, self.splits, self.elsewhere = dict(parts), splits, dict(elsewhere or {})
        counts = [
            f"{count} {part}{'' if count == 1 else 's'}"
            + (f", and {self.elsewhere[name]} in other splits" if self.elsewhere.get(name) else "")
            for name, count in parts.items()
        ]
        where = f"each of {splits} folds" if isinstance(splits, int) else _each_of(splits)
        least, needed = min(parts.values()), splits if isinstance(splits, int) else len(splits)
        add = f"Use at most {least} folds, add" if isinstance(splits, int) and least > 1 else "Add"
        if len(parts) == 1:
            what, listed, them = f"class {next(iter(parts))!r}", f"it has {counts[0]}", "it"
        else:
            named = [f"{name!r} has {count}" for name, count in zip(parts, counts, strict=True)]
            more = f", and {len(parts) - self.SHOWN:,} more" if len(parts) > self.SHOWN else ""
            what, listed, them = f"{len(parts):,} classes", f"{', '.join(named[: self.SHOWN])}{more}", "them"
        # A class of enough images can have too few groups.
        out = f" with data.min_class_images={needed}" if part == "image" else ""
        other = (
            " With other groups or another data.split_seed it may be possible."
            if part == "group" and not isinstance(splits, int)
            else ""
        )
        super().__init__(
            f"{what} cannot be in {where}: {listed}. {add} images of {them}, or leave {them} out{out}.{other}"
        )


def _each_of(splits: Sequence[str]) -> str:
    return splits[0] if len(splits) == 1 else f"each of {', '.join(splits[:-1])} and {splits[-1]}"


class FolderError(DataError):
    """Folders or a table of labels cannot be understood as a data set."""

    fields = (
        *("data.data_dir", "data.labels", "data.group", "data.group_pattern"),
        *("data.columns", "data.min_class_images"),
    )

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}.")


class BadPicturesError(DataError):
    """Some pictures cannot be decoded, and are not to be skipped."""

    fields = ("data.on_bad_file",)
    SHOWN = 10

    def __init__(self, root: Path, reasons: Mapping[str, str], pictures: int) -> None:
        self.root, self.reasons = root, dict(reasons)
        listed = "; ".join(f"{path} ({reason})" for path, reason in [*self.reasons.items()][: self.SHOWN])
        more = f"; and {len(reasons) - self.SHOWN:,} more" if len(reasons) > self.SHOWN else ""
        super().__init__(
            f"{len(reasons):,} of {pictures:,} pictures in {root} cannot be used: {listed}{more}. Repair or remove "
            "them, or leave them out with data.on_bad_file=skip."
        )


class BadPictureError(DataError):
    """A file is no picture, or one that cannot be decoded completely."""

    fields = ("data.max_pixels",)

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} cannot be decoded: {reason}.")


class CacheError(DataError):
    """The folder of decoded data cannot be written."""

    def __init__(self, folder: Path, reason: str, needed_bytes: int = 0) -> None:
        self.folder, self.reason, self.needed_bytes = folder, reason, needed_bytes
        needed = f"; it needs {-(-needed_bytes // 2**20):,} MiB" if needed_bytes else ""
        super().__init__(
            f"decoded images cannot be stored in {folder}: {reason}{needed}. Make room there, or name another folder "
            "with the environment variable CNN_COMPARE_CACHE_DIR."
        )


class DecodingStoppedError(DataError):
    """A process that decodes pictures has ended before its work."""

    fields = ("data.max_pixels",)

    def __init__(self, status: int, paths: Sequence[str]) -> None:
        self.status, self.paths = status, list(paths)
        what = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        super().__init__(
            f"a process that decodes pictures {what}, at one of those from {paths[0]} to {paths[-1]}. Signal 9 usually "
            "means that memory ran out: close other programs, or leave out very large pictures with data.max_pixels."
        )


class ResultError(RunError):
    """A stored result is missing, half-written, or of another schema."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} holds no readable result: {reason}.")


class NoRunsError(UsageError, ValueError):
    """There is nothing to report on."""

    fields = ("runs_dir",)

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder, self.reason = folder, reason
        super().__init__(
            f"no run to report on in {folder}: {reason}. Give the folder of a comparison, such as "
            "lightning_logs/<name>; `cnn-compare compare` makes one."
        )


class DivergedError(RunError):
    """The training loss became infinite or NaN."""

    fields = ("model.optimizer.lr", "own_recipe")

    def __init__(self, epoch: int, loss: float) -> None:
        self.epoch, self.loss = epoch, loss
        super().__init__(
            f"the training loss became {loss} in epoch {epoch} (counted from 0). A lower learning rate usually helps: "
            "model.optimizer.lr, or own_recipe=true."
        )


class CheckpointError(RunError):
    """A checkpoint was made with another setting than the requested one."""

    def __init__(self, field: str, stored: object, requested: object) -> None:
        self.field, self.stored, self.requested = field, stored, requested
        self.fields = (field, "ckpt_path", "allow_other_data")
        data = " To use it all the same, give allow_other_data=true." if field.startswith("data") else ""
        super().__init__(
            f"the checkpoint has {field}={stored!r}, and {requested!r} was requested. Leave {field} out, or give "
            f"another ckpt_path.{data}"
        )


class OtherPicturesError(CheckpointError):
    """The pictures are no longer those that a checkpoint's split was cut from."""

    def __init__(self, stored: str, found: str) -> None:
        CnnCompareError.__init__(
            self,
            f"the checkpoint's split was cut from {stored}, and there are {found} now: images that it was trained "
            "with could be among those it is tested with. Name the folder as it was with data.data_dir or data.labels, "
            "or give allow_other_data=true.",
        )
        self.field, self.stored, self.requested = "data.pictures", stored, found
        self.fields = ("data.data_dir", "data.labels", "allow_other_data")


class NoWeightsError(UsageError):
    """A network is to be evaluated, and there are no trained weights."""

    fields = ("ckpt_path", "model.weights", "model.pretrained", "model.num_classes")

    def __init__(self, command: str, reason: str = "") -> None:
        self.command, self.reason = command, reason
        super().__init__(
            f"{command} needs trained weights{reason}. Give ckpt_path=FILE as written by `fit` or `compare`, "
            "ckpt_path=last for those of the last `fit`, model.weights=FILE, or model.pretrained=true."
        )


class ResumeError(RunError):
    """Training cannot go on from a checkpoint."""

    fields = (
        "ckpt_path",
        "model.weights",
        "model.optimizer",
        "model.decay_norm_and_bias",
        "model.backbone_lr_factor",
        "model.lr_scheduler",
        "trainer.max_epochs",
        "trainer.max_steps",
    )

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"training cannot go on from ckpt_path={path}: {reason}.")


class NotValidatedError(RunError):
    """A training has ended before any of its weights were validated, so that none can be tested."""

    fields = ("trainer.max_time", "trainer.max_steps", "trainer.max_epochs")

    def __init__(self, steps: int) -> None:
        self.steps = steps
        super().__init__(
            f"training has ended after {steps} steps without a validation, so there are no best weights. Give it more "
            "with trainer.max_time, trainer.max_steps or trainer.max_epochs, and at least one batch to validate with."
        )


class CheckpointFileError(RunError):
    """A checkpoint is missing or unreadable."""

    fields = ("ckpt_path", "model.weights")

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"no checkpoint in {path}: {reason}. Give ckpt_path a file that `fit` or `compare` has written, "
            "such as lightning_logs/version_0/checkpoints/last.ckpt."
        )


class UntrustedCodeError(UsageError):
    """A file names code that is neither this package's nor given by the user."""

    def __init__(self, source: str | Path, names: Sequence[str], way_out: str | None = None) -> None:
        self.source, self.names = source, tuple(names)
        modules = list(dict.fromkeys(re.split("[.:]", name)[0] for name in names))
        # With their values, because `trust` alone is an ordinary word of the message as well.
        self.fields = (way_out,) if way_out else tuple(f"trust={module}" for module in modules)
        in_python = "" if way_out else f" (in Python: cnn_compare.trusted.trust({', '.join(map(repr, modules))}))"
        super().__init__(
            f"{source} names {', '.join(names)}, which is not of this package: importing it would run its code. "
            f"If you trust it, give {' '.join(self.fields)}{in_python}."
        )


class NoTrainedNetworkError(RunError):
    """A file or folder holds no trained network."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"no trained network in {path}: {reason}. Give a checkpoint that `fit` or `compare` has written, such as "
            "lightning_logs/version_0/checkpoints/best.ckpt, or the folder of a run or a comparison."
        )


class IncompleteCheckpointError(UsageError):
    """A checkpoint, as earlier versions wrote it, does not say how pictures are prepared for its network."""

    def __init__(self, path: Path, missing: Sequence[str]) -> None:
        self.path, self.missing, self.fields = path, list(missing), tuple(missing)
        super().__init__(
            f"{path} does not say all that it takes to use its network. Give {', '.join(missing)} as well."
        )


class ExportError(RunError):
    """A network cannot be exported, or the file would give other answers than the network."""

    fields = ("format",)

    def __init__(self, backbone: str, format: str, reason: str) -> None:
        self.backbone, self.format, self.reason = backbone, format, reason
        way_out = "" if format == "safetensors" else " format=safetensors stores the weights alone."
        super().__init__(f"{backbone} is not exported as {format}, and nothing is written: {reason}.{way_out}")


class OutputExistsError(UsageError):
    """A file is to be written, and there is something of that name already."""

    fields = ("output",)

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} exists already, and is not overwritten. Give another output, or delete it.")


class NoPicturesError(UsageError):
    """There is nothing to classify."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        listed = "; ".join(f"{path}: {reason}" for path, reason in reasons.items())
        super().__init__(f"there are no pictures to classify. {listed or 'Give files, folders or patterns'}.")


class PicturesFailedError(RunError):
    """Some pictures could not be classified; the others were."""

    def __init__(self, reasons: Mapping[str, str], classified: int) -> None:
        self.reasons, self.classified = dict(reasons), classified
        paths = f"{len(reasons):,} path{'' if len(reasons) == 1 else 's'}"
        others = f"{classified:,} picture{' was' if classified == 1 else 's were'}"
        super().__init__(f"{paths} could not be classified, for the reasons above; {others}.")


class StorageError(RunError):
    """Reading or writing a file failed."""

    def __init__(self, error: OSError) -> None:
        self.path, self.errno = error.filename, error.errno
        where = f" ({error.filename})" if error.filename else ""
        super().__init__(
            f"a file could not be read or written: {error.strerror}{where}. Make room or change its permissions, and "
            "give the same command again: a comparison goes on from its last checkpoints."
        )


class ComparisonLockedError(UsageError):
    """Another process works on the comparison."""

    fields = ("name",)

    def __init__(self, folder: Path, holder: str) -> None:
        self.folder, self.holder = folder, holder
        super().__init__(
            f"{folder} is being worked on by {holder}. Wait for it to end, stop it, or choose another name."
        )


class ComparisonExistsError(UsageError):
    """A comparison of that name exists already."""

    fields = ("name", "on_existing")

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder, self.reason = folder, reason
        super().__init__(
            f"{folder} already exists{reason}. Choose another name, or use on_existing=overwrite "
            "(deletes it) or on_existing=resume (continues it; needs the same configuration and pictures)."
        )


class MainGuardError(UsageError):
    """A script compares when it is imported, and the process of each run imports it."""

    def __init__(self, script: str) -> None:
        self.script = script
        super().__init__(
            f"{script} calls compare() when it is imported, and the process of each run imports it, for the backbones "
            'that it may define. Put the call under `if __name__ == "__main__":`.'
        )


class MissingExtraError(UsageError):
    """A setting needs packages that only an extra of this package installs."""

    def __init__(self, field: str, extra: str) -> None:
        self.field, self.extra = field, extra
        self.fields = (field.partition("=")[0],)
        super().__init__(f"{field} needs `pip install 'cnn-compare[{extra}]'`.")


class ClusterError(RunError):
    """There is no cluster at the given address."""

    fields = ("ray_address",)

    def __init__(self, address: str | None, reason: object) -> None:
        self.address, self.reason = address, str(reason)
        super().__init__(
            f"no Ray cluster at {address or 'this machine'}: {reason}. Start one with `ray start --head`, or leave out "
            "ray_address to have one started for the comparison."
        )


class RunsFailedError(RunError):
    """Some runs of a comparison failed; the others are finished and reported."""

    fields = ("rerun", "drop")

    def __init__(self, failed: list[str], folder: Path) -> None:
        self.failed, self.folder = failed, folder
        super().__init__(
            f"{len(failed)} run{'s' if len(failed) > 1 else ''} failed: {', '.join(failed)}. The reasons are in "
            f"{folder}/report.md. The same command again retries them, except those that diverged: rerun begins these "
            "anew. drop removes a backbone from the comparison."
        )


class NotTimedError(RunError):
    """The networks of a comparison could not take turns to measure their times."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder, self.reason = folder, reason
        super().__init__(f"times are not measured for {folder}: {reason}.")


class PicturesError(RunError):
    """The pictures behind a comparison's results cannot be shown."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder, self.reason = folder, reason
        super().__init__(f"no pictures of {folder}: {reason}.")


class NotExplainedError(RunError):
    """There can be no heat map of a network."""

    def __init__(self, network: str, reason: str) -> None:
        self.network, self.reason = network, reason
        super().__init__(f"{network} cannot be explained, because {reason}.")


class UnforeseenError(RunError):
    """An error that this package does not expect; its traceback is in a file."""

    def __init__(self, error: Exception, traceback: Path) -> None:
        self.error, self.traceback = error, traceback
        what = " ".join(str(error).split()) or "without a message"
        super().__init__(f"{type(error).__name__}: {what}. The traceback is in {traceback}.")


def own_error(error: BaseException | None) -> CnnCompareError | None:
    """The package's error that caused another library's error, as jsonargparse raises while it instantiates classes."""
    while error is not None and not isinstance(error, CnnCompareError):
        if type(error).__name__ == "MisconfigurationException":  # Lightning's, which is slow to import.
            return RefusedSettingError("trainer", None, str(error))
        if isinstance(error, OSError) and error.errno in STORAGE:
            return StorageError(error)
        error = error.__cause__
    return error


def with_flags(error: CnnCompareError) -> str:
    """An error's message, with each field that it mentions written as a flag."""
    message = str(error)
    for field in error.fields:
        message = re.sub(rf"(?<![\w.'/\[-]){re.escape(field)}(?![\w/]|\.\w)", f"--{field}", message)
    return message
