"""What a run leaves behind: the record `RunResult`, and `RunFolder`, the names of all its files."""

from __future__ import annotations

import io
import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Self, get_args

from cnn_compare.errors import ResultError
from cnn_compare.files import read_json, write_bytes, write_text
from cnn_compare.run_key import RunKey, run_paths

SCHEMA = 2
MANIFEST, SPLITS = "manifest.json", "splits.csv"
"""What a comparison records of itself, in its folder."""
SEARCH = "search"
"""The folder, in that of a comparison, of the trials that chose its networks' settings."""

Status = Literal["finished", "failed", "diverged"]


@dataclass(frozen=True)
class Metric:
    """A figure of a run. The unit also ends its name; ``larger_is_better`` is None where neither is."""

    value: float
    unit: str
    larger_is_better: bool | None


def over_seeds(metrics: Sequence[Metric]) -> float:
    """One value for several seeds.

    Args:
        metrics: The same metric of each seed, at least one.

    Returns:
        The median of what a clock or a counter of the machine measures, which other programs disturb; the largest
        number of bytes; the mean of everything else.
    """
    values = [metric.value for metric in metrics]
    if metrics[0].unit in ("s", "1/s", "J"):
        return statistics.median(values)
    return max(values) if metrics[0].unit == "B" else statistics.fmean(values)


# Unit, and whether larger is better. A result may hold more metrics: each carries both with its value.
METRICS: dict[str, tuple[str, bool | None]] = {
    "test_acc_pct": ("%", True),
    "test_top5_pct": ("%", True),
    "test_macro_f1_pct": ("%", True),
    "test_loss": ("nats", False),
    "best_val_acc_pct": ("%", True),
    "last_val_acc_pct": ("%", True),
    "train_acc_pct": ("%", True),
    "train_epoch_s": ("s", False),
    "first_epoch_s": ("s", False),
    "predict_ms": ("ms", False),
    "fit_s": ("s", False),
    "precise_bn_s": ("s", False),
    "seconds_to_target": ("s", False),
    "images_per_s": ("1/s", True),
    "params": ("", False),
    "macs": ("", False),
    "training_memory_bytes": ("B", False),
    # Of earlier versions: on a CPU it holds the libraries too.
    "peak_memory_bytes": ("B", False),
    "energy_j_per_epoch": ("J", False),
    "other_cpu_pct": ("%", None),
}


@dataclass(kw_only=True)
class RunResult:
    """One run: one backbone in one variant, one seed or a fold of it.

    None and empty values stand for what a failed run did not reach.

    Args:
        backbone: Its name.
        seed: The run's seed.
        fold: Number of the fold that it was tested on, from 0; None without cross-validation.
        tested: Whether the network was to see the test images; a trial of a search is not.
        status: ``diverged``: the loss became infinite or NaN.
        reason: Why a run has no accuracy.
        log_tail: The last lines of the log of a run without an accuracy.
        attempts: How often the run was begun within one command.
        recipe: Name of the recipe.
        variant: Name of the variant; None where the comparison has none.
        train_subset: How many training images it was to get, where the comparison varies their number; else None.
        declared_changes: Settings, by dotted name, that the variant or the backbone's own recipe changes.
        metrics: By name. Accuracies are percents of images, 0 to 100. ``test_*`` and ``best_val_acc_pct`` come from
            the weights of ``best_epoch``; those of the last epoch have ``last_val_acc_pct`` alone, because the test set
            is used once. ``train_epoch_s`` is the usual epoch: the median without the first one; with one epoch, that
            one. ``macs`` are multiply-accumulates of one image's forward pass. ``seconds_to_target`` counts the
            training until the validation accuracy first was at ``target_acc_pct``; it is missing where it never was.
            ``precise_bn_s`` is the part of ``fit_s`` that recomputing batch norm's statistics took.
            ``training_memory_bytes`` is the peak of what data, network and training took: torch's memory on a GPU,
            elsewhere the growth of the process (`cnn_compare.machine.PeakMemory`). Earlier versions recorded
            ``peak_memory_bytes`` instead, which on a CPU is that of the whole process.
        best_epoch: The first epoch with the best validation value of what ``--monitor`` names, counted from 0.
        train_images: How many images the run was trained on.
        test_images: How many images it was tested on.
        train_epochs_s: Seconds of training, one value an epoch, the first with its warm-up included.
        val_epochs_s: Seconds of validation, one value a validation.
        target_acc_pct: The validation accuracy at which training was to end.
        contended: Whether other processes used the machine enough to disturb the times, as
            `cnn_compare.callbacks.MachineLoad` decides. ``other_cpu_pct`` is their share of all its cores' time.
        device: Name of the device.
        precision: Lightning's name of the precision.
        versions: Of Python and of every package that can change a result.
        data_fingerprint: Equal where the network was shown the same images in the same order and preparation.
        pictures: Digest of all images and labels there were, the same in every seed, fold and subset.
        class_names: In the order of the labels.
        data: What was understood of the user's files: layout, splits, what was skipped; empty for a published data set.
        architecture: What the registry knows of the backbone: ``year``, ``venue``, ``paper``, ``key_idea``, ``depth``.
        finished_at: When the run ended, in ISO 8601.
        code_fingerprint: As `cnn_compare.backbones.code_fingerprint` gives it.
        schema: Version of this record.
    """

    backbone: str
    seed: int
    status: Status
    reason: str | None = None
    log_tail: list[str] = field(default_factory=list)
    attempts: int = 1
    recipe: str | None = None
    variant: str | None = None
    train_subset: int | None = None
    fold: int | None = None
    tested: bool = True
    declared_changes: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    best_epoch: int | None = None
    train_images: int | None = None
    test_images: int | None = None
    train_epochs_s: list[float] = field(default_factory=list)
    val_epochs_s: list[float] = field(default_factory=list)
    target_acc_pct: float | None = None
    contended: bool | None = None
    device: str | None = None
    precision: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    data_fingerprint: str | None = None
    pictures: str | None = None
    class_names: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    finished_at: str | None = None
    code_fingerprint: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def key(self) -> RunKey:
        """Which run of its comparison it is."""
        return RunKey(self.backbone, self.variant, self.train_subset, self.seed, self.fold)

    @property
    def network(self) -> str:
        """Backbone and variant, as reports call them."""
        return self.key.network

    def value(self, metric: str) -> float | None:
        """A metric's value; None where the run has none."""
        return self.metrics[metric].value if metric in self.metrics else None

    def save(self, path: Path) -> None:
        """Write as JSON, atomically. NaN and infinity, which a diverging test loss may be, come back from `load`."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote, also that of schema 1.

        Raises:
            ResultError: If the file is missing, not whole, or of another schema.
        """
        try:
            stored = read_json(path)
        except FileNotFoundError as error:
            raise ResultError(path, "the file is missing") from error
        except (OSError, ValueError) as error:
            raise ResultError(path, f"it cannot be read as JSON ({error})") from error
        schema = stored.get("schema") if isinstance(stored, dict) else None
        if schema not in (1, SCHEMA):
            raise ResultError(path, f"its schema is {schema!r}, and this version reads 1 and {SCHEMA}")
        if schema == 1:
            stored = _from_schema_1(stored)
        wrong = {name for name in ("backbone", "seed", "status") if name not in stored} | _wrong_fields(cls, stored)
        if not wrong:
            metrics = {name: Metric(**metric) for name, metric in stored.get("metrics", {}).items()}
            result = cls(**{**stored, "metrics": metrics})
            accuracy = result.value("test_acc_pct")
            if result.status != "finished" or not result.tested or (accuracy is not None and 0 <= accuracy <= 100):
                return result
            wrong = {"test_acc_pct"}
        raise ResultError(path, f"its fields are not those of a result ({', '.join(sorted(wrong))})")


def _from_schema_1(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 1 kept each metric as a field of its own, and the seconds of every epoch under ``train_epoch_s``."""
    new_names = {"train_epoch_s": "train_epochs_s", "val_epoch_s": "val_epochs_s", "declared": "declared_changes"}
    result = {name: value for name, value in stored.items() if name not in {*METRICS, *new_names}}
    result |= {new: stored[old] for old, new in new_names.items() if old in stored}
    values = {name: stored.get(name) for name in METRICS}
    seconds: Any = stored.get("train_epoch_s")
    values["train_epoch_s"] = usual_epoch_s(seconds) if _is_of_type(seconds, "list[float]") else None
    return result | {"schema": SCHEMA, "metrics": {name: vars(metric) for name, metric in measured(values).items()}}


def measured(values: Mapping[str, float | None]) -> dict[str, Metric]:
    """`METRICS` with their values, without those that are None."""
    return {name: Metric(value, *METRICS[name]) for name, value in values.items() if value is not None}


def usual_epoch_s(seconds: Sequence[float]) -> float | None:
    """Seconds of a usual epoch: the median without the first, which warms up; with one epoch, that one."""
    return statistics.median(seconds[1:] or seconds) if seconds else None


def first_best(values: Sequence[float], larger_is_better: bool) -> int:
    """Index of the first best value; NaN is best only where there is nothing else."""
    sign = 1 if larger_is_better else -1
    return max(range(len(values)), key=lambda index: -math.inf if math.isnan(values[index]) else sign * values[index])


def first_reached(accuracies: Sequence[float], seconds: Sequence[float], level: float) -> float | None:
    """Seconds of training until a curve first is at ``level`` or above; None if it never is.

    Args:
        accuracies: After each epoch.
        seconds: Each epoch took.
        level: In the unit of the accuracies.
    """
    reached = zip(accuracies, accumulate(seconds), strict=True)
    return next((float(elapsed) for accuracy, elapsed in reached if accuracy >= level), None)


def training_s(rows: Sequence[Mapping[str, float]]) -> list[float]:
    """Seconds of training between the rows of a run's curves; 0 where a row does not tell.

    Args:
        rows: Each with its ``epoch`` and ``time/train_epoch_s``, the seconds since that epoch began.
    """
    seconds, counted = [], dict[float, float]()
    for row in rows:
        before, end = counted.get(row["epoch"], 0.0), row.get("time/train_epoch_s", math.nan)
        counted[row["epoch"]] = before if math.isnan(end) else end
        seconds.append(counted[row["epoch"]] - before)
    return seconds


VALIDATION_LAGS = "validation far below training at the first epochs:"
WHY_IT_LAGS = (
    "Where the network has batch norm, its running statistics have not followed the weights: "
    "--trainer.callbacks+=cnn_compare.PreciseBatchNorm recomputes them before each validation"
)


def validation_lags(train_pct: Sequence[float], val_pct: Sequence[float]) -> str | None:
    """The figures where validation is far below training in one of the first three epochs; None where it is not.

    Overfitting takes longer: so early, it is the evaluation mode of the network that differs from its training mode.

    Args:
        train_pct: Accuracy on training images after each epoch, in percent.
        val_pct: Accuracy on validation images.
    """
    for epoch, (train, val) in enumerate(zip(train_pct[:3], val_pct[:3], strict=False), start=1):
        if 2 * val < train and train - val > 10:
            return f"{val:.0f} % beside {train:.0f} % in epoch {epoch}"
    return None


def different_pictures(results: Sequence[RunResult]) -> list[list[RunResult]]:
    """Results by the pictures that there were for them, where that differs although no declared setting does.

    Returns:
        Two lists or more, of results that do not belong together; empty where nothing tells that pictures differ.
    """
    groups: dict[str, dict[str, list[RunResult]]] = {}
    for result in results:
        settings = str(sorted(item for item in result.declared_changes.items() if item[0].startswith("data.")))
        if result.pictures:
            groups.setdefault(settings, {}).setdefault(result.pictures, []).append(result)
        if result.data.get("splits"):
            # Earlier versions recorded numbers of images alone. A subset's training images are chosen of them.
            counts = Counter[str]()
            for name, split in result.data["splits"].items():
                counts.update(split["classes"] if name != "train" or result.train_subset is None else {})
            of_size = groups.setdefault(f"{settings}, counts of {result.train_subset}", {})
            of_size.setdefault(str(sorted(counts.items())), []).append(result)
    return next(([*found.values()] for found in groups.values() if len(found) > 1), [])


def _wrong_fields(cls: type, stored: Mapping[str, Any]) -> set[str]:
    """Names that a dataclass does not have, and those whose value from JSON is not of the annotated type."""
    types = {field.name: str(field.type) for field in fields(cls)}
    return {name for name, value in stored.items() if name not in types or not _is_of_type(value, types[name])}


def _is_of_type(value: Any, annotation: str) -> bool:
    """Whether a value from JSON is of a field's annotated type."""
    if annotation.endswith(" | None"):
        return value is None or _is_of_type(value, annotation.removesuffix(" | None"))
    if annotation.startswith("list["):
        return isinstance(value, list) and all(_is_of_type(item, annotation[5:-1]) for item in value)
    if annotation == "dict[str, Metric]":
        return isinstance(value, dict) and all(_is_of_type(item, "Metric") for item in value.values())
    if annotation.startswith("dict["):
        return isinstance(value, dict)
    if annotation == "Metric":
        complete = isinstance(value, dict) and len(value) == len(fields(Metric))
        return complete and not _wrong_fields(Metric, value)
    if annotation == "Status":
        return value in get_args(Status)
    if annotation == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value).__name__ == annotation


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: the name of each file in it. All of them are written atomically, but for the logs.

    Args:
        path: The folder.
    """

    path: Path

    RESULT = "result.json"
    CONFIG = "config.yaml"
    LAST, PREVIOUS, BEST, PREVIOUS_BEST = "last.ckpt", "previous.ckpt", "best.ckpt", "previous_best.ckpt"

    @property
    def result(self) -> Path:
        """The run's `RunResult`, written last of all."""
        return self.path / self.RESULT

    @property
    def config(self) -> Path:
        """The whole configuration, defaults written out."""
        return self.path / self.CONFIG

    @property
    def code(self) -> Path:
        """The fingerprint of the network's code that its checkpoints were trained with."""
        return self.path / "code.json"

    @property
    def curves(self) -> Path:
        """Every logged value, one row a validation or end of an epoch."""
        return self.path / "metrics.csv"

    @property
    def predictions(self) -> Path:
        """Label, answer and probabilities of each test image, and what `ImageDataModule.test_arrays` adds."""
        return self.path / "predictions.npz"

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.path / "run.log"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / ".lock"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``best.ckpt``, ``last.ckpt`` and, while training, those before them."""
        return self.path / "checkpoints"

    def load_result(self) -> RunResult:
        """See `RunResult.load`."""
        return RunResult.load(self.result)

    def save_result(self, result: RunResult) -> None:
        """Write the result: from then on the run counts as ended."""
        result.save(self.result)

    def save_config(self, config: Mapping[str, Any]) -> None:
        """Write the configuration."""
        import yaml

        write_text(self.config, yaml.safe_dump(config, sort_keys=False))

    def save_predictions(self, **arrays: Any) -> None:
        """Write arrays of one length: those of `ClassifierModule.test_outputs`, probabilities with half precision."""
        import numpy as np

        arrays["probabilities"] = np.asarray(arrays["probabilities"]).astype(np.float16)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_bytes(self.predictions, buffer.getvalue())


def run_folders(comparison: Path, holding: str) -> list[RunFolder]:
    """The folders of a comparison's runs that hold a file of that name."""
    return [RunFolder(path) for path in run_paths(comparison, holding)]
