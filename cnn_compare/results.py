"""Records of runs: `RunResult`, and `RunFolder`, the names of all files of a run."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Self

from cnn_compare.errors import ResultError, first_line
from cnn_compare.files import read_json, write_bytes, write_text
from cnn_compare.records import read_record, write_record
from cnn_compare.run_key import RunKey, run_paths

SCHEMA = 2
MANIFEST, SPLITS_FILE = "manifest.json", "splits.csv"
"""What a comparison records of itself, in its folder."""
SEARCH = "search"
"""The folder, in that of a comparison, of the trials that chose its networks' settings."""
COMMON = "common"
"""The variant, in a comparison with a search, that has the comparison's own settings."""

LOG_LINES = 20
"""What a result keeps of the log of a run without an accuracy."""

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
        metrics: Figures. Accuracies are percents of images, 0 to 100. ``test_*`` and ``best_val_acc_pct`` come from
            the weights of ``best_epoch``; those of the last epoch have ``last_val_acc_pct`` alone, because the test set
            is used once. ``train_epoch_s`` is the usual epoch: the median without the first one; with one epoch, that
            one. ``macs`` are multiply-accumulates of one image's forward pass. ``seconds_to_target`` counts the
            training until the validation accuracy first was at ``target_acc_pct``; it is missing where it never was.
            ``precise_bn_s`` is the part of ``fit_s`` that recomputing batch norm's statistics took.
            ``training_memory_bytes`` is the peak of what data, network and training took: torch's memory on a GPU,
            elsewhere the growth of the process (`cnn_compare.machine.PeakMemory`).
        best_epoch: The first epoch with the best validation value of what ``--monitor`` names, counted from 0.
        train_images: How many images the run was trained on.
        val_images: How many images it was validated with.
        test_images: How many images it was tested on.
        train_epochs_s: Seconds of training, one value an epoch, the first with its warm-up included.
        val_epochs_s: Seconds of validation, one value a validation.
        target_acc_pct: The validation accuracy at which training was to end.
        contended: Whether other processes used the machine enough to disturb the times, as
            `cnn_compare.callbacks.MachineLoad` decides. ``other_cpu_pct`` is their share of all its cores' time.
        device: Name of the device.
        precision: Lightning's name of the precision.
        versions: Versions of Python and of every package that can change a result.
        data_fingerprint: Equal where the network was shown the same images in the same order and preparation.
        pictures: Digest of all images and labels there were, the same in every seed, fold and subset.
        class_names: Names in the order of the labels.
        data: Summary of the user's files: layout, splits, what was skipped; empty for a published data set.
        architecture: Facts of the backbone: ``year``, ``venue``, ``paper``, ``key_idea``, ``depth``.
        finished_at: When the run ended, in ISO 8601.
        code_fingerprint: The backbone's `cnn_compare.backbones.code_fingerprint`.
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
    val_images: int | None = None
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

    @property
    def key(self) -> RunKey:
        """The run's identity within its comparison."""
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
        write_record(path, self, SCHEMA)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ResultError: If the file is missing, not whole, or of another schema.
        """
        result = read_record(path, cls, SCHEMA)
        accuracy = result.value("test_acc_pct")
        if result.status == "finished" and result.tested and not (accuracy is not None and 0 <= accuracy <= 100):
            raise ResultError(path, "its test_acc_pct is none")
        return result


def metrics_of(values: Mapping[str, float | None]) -> dict[str, Metric]:
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
        accuracies: Accuracy after each epoch.
        seconds: Seconds of each epoch.
        level: An accuracy in the same unit.
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
    return next(([*found.values()] for found in groups.values() if len(found) > 1), [])


@dataclass
class RunFolder:
    """A run's folder: the name of each file in it. All of them are written atomically, but for the logs.

    Args:
        path: The folder.

    Attributes:
        result: The run's `RunResult`, written last of all.
        config: The whole configuration, defaults written out.
        code: The fingerprint of the network's code that its checkpoints were trained with.
        curves: Every logged value, one row a validation or end of an epoch.
        predictions: Label, answer and probabilities of each test image, and what `ImageDataModule.test_arrays` adds.
        log: The run's output.
        lock: Held by the process that works on the run.
        checkpoints: Folder of ``best.ckpt``, ``last.ckpt`` and, while training, those before them.
        best: The weights of the best validation.
    """

    path: Path

    RESULT = "result.json"
    CONFIG = "config.yaml"
    LAST, PREVIOUS, BEST, PREVIOUS_BEST = "last.ckpt", "previous.ckpt", "best.ckpt", "previous_best.ckpt"

    def __post_init__(self) -> None:
        self.result, self.config, self.code = self.path / self.RESULT, self.path / self.CONFIG, self.path / "code.json"
        self.curves, self.predictions = self.path / "metrics.csv", self.path / "predictions.npz"
        self.log, self.lock = self.path / "run.log", self.path / ".lock"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / self.BEST

    def log_tail(self) -> list[str]:
        """The last lines of the log, empty without one; bytes that are not UTF-8 are replaced."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 20_000))
                return file.read().decode(errors="replace").splitlines()[-LOG_LINES:]
        except OSError:
            return []

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

    def load_config(self) -> dict[str, Any]:
        """Read the configuration.

        Raises:
            ResultError: If it is missing or holds none.
        """
        import yaml

        # Written in C where PyYAML was built with it, which is ten times faster.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            config = yaml.load(self.config.read_text(encoding="utf-8"), loader)  # noqa: S506, a safe loader
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise ResultError(self.config, f"it cannot be read as YAML ({first_line(error)})") from error
        if not isinstance(config, dict):
            raise ResultError(self.config, "it holds no configuration")
        return config

    def save_predictions(self, **arrays: Any) -> None:
        """Write arrays of one length: those of `ClassifierModule.test_outputs`, probabilities with half precision."""
        import numpy as np

        arrays["probabilities"] = np.asarray(arrays["probabilities"]).astype(np.float16)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_bytes(self.predictions, buffer.getvalue())


def read_manifest(comparison: Path) -> dict[str, Any]:
    """A comparison's manifest; empty where it is missing or damaged."""
    try:
        manifest = read_json(comparison / MANIFEST)
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def run_folders(comparison: Path, holding: str) -> list[RunFolder]:
    """The folders of a comparison's runs that hold a file of that name."""
    return [RunFolder(path) for path in run_paths(comparison, holding)]


def tested_runs(comparison: Path) -> dict[str, list[tuple[RunFolder, RunResult]]]:
    """Network -> its finished and tested runs; where numbers of training images vary, those with the most."""
    found: dict[str, list[tuple[RunFolder, RunResult]]] = {}
    for folder in run_folders(comparison, RunFolder.RESULT):
        try:
            result = folder.load_result()
        except ResultError:
            continue  # The report lists it.
        if result.status == "finished" and result.tested:
            found.setdefault(result.network, []).append((folder, result))
    for name, runs in found.items():
        most = max(result.train_subset or math.inf for _, result in runs)
        found[name] = [run for run in runs if (run[1].train_subset or math.inf) == most]
    return found
