"""Reads stored runs: results, curves, predictions, configurations; lists what cannot be read."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_compare.archive import archived_runs
from cnn_compare.errors import NoRunsError, ResultError, first_line
from cnn_compare.files import plain_text
from cnn_compare.formatting import format_list
from cnn_compare.pictures import ReportPictures, labels_digest
from cnn_compare.report.wrong_labels import Doubts, doubts
from cnn_compare.results import METRICS, SEARCH, RunFolder, RunResult, read_manifest, run_folders
from cnn_compare.run_key import RunKey, is_run_path
from cnn_compare.times import Times

FIT_RUN_WAY_OUT = (
    "`fit` measures no test accuracy: `cnn-compare test` does, and `cnn-compare compare --backbones ...` trains, tests "
    "and reports. TensorBoard shows the curves of a `fit`"
)
FIT_RUN = f"a run of `fit`, without a result.json. {FIT_RUN_WAY_OUT}"
TRIALS = "it holds trials of a search, which see no test images; report on the comparison that they choose settings for"
# What a report lacks without a file of a finished run.
WITHOUT_FILE = {
    "config": "the file is missing: whether the run's settings are those of the others is not known",
    "curves": "the file is missing: learning curves and seconds to an accuracy are without this run",
    "predictions": "the file is missing: the network is compared by its accuracies alone, which can establish less",
}


@dataclass(frozen=True)
class Predictions:
    """Answers to the test images, each ``(N,)``.

    Args:
        labels: Labels of the images.
        predictions: The answers.
        confidence: The probability of each answer.
        doubts: Doubts of the labels.
        rows: Each image's place among all that are tested in some fold; None without folds.
        groups: Number of each image's group; None where no groups are known.
    """

    labels: NDArray[np.integer[Any]]
    predictions: NDArray[np.integer[Any]]
    confidence: NDArray[np.floating[Any]]
    doubts: Doubts
    rows: NDArray[np.integer[Any]] | None = None
    groups: NDArray[np.integer[Any]] | None = None


@dataclass(frozen=True)
class StoredRun:
    """A run's result and its other files; None or empty for what is missing or unreadable.

    Args:
        folder: Its own, also where its comparison is archived.
        files: Where its files can be read.
        network: Name of backbone and variant.
        result: Its record.
        config: Its settings.
        curves: A row an epoch.
        predictions: Its answers to the test images.
    """

    folder: Path
    files: RunFolder
    network: str
    result: RunResult
    config: dict[str, Any] = field(default_factory=dict)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    predictions: Predictions | None = None


@dataclass(frozen=True)
class StoredRuns:
    """Everything found below a folder.

    Args:
        folder: The folder.
        manifest: The comparison's own record; empty if there is none.
        all_runs: Runs with a readable result, including failed ones.
        unfinished: Folders of runs that have begun, and have no result yet.
        problems: An error for every unusable file.
        times: Times of all networks with finished runs, measured apart; None where they have not been.
        trials: Trials of a search with a readable result.
        pictures: Pictures from the data; None where they were not read.
    """

    folder: Path
    manifest: dict[str, Any]
    all_runs: list[StoredRun]
    unfinished: list[Path]
    problems: list[ResultError]
    times: Times | None = None
    trials: list[RunResult] = field(default_factory=list)
    pictures: ReportPictures | None = None

    @cached_property
    def planned_runs(self) -> list[tuple[str, int | None, int, int | None]]:
        """Network, training subset, seed and fold: what the manifest asks for, and whatever is stored besides."""
        planned: list[tuple[str, int | None, int, int | None]] = []
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # A damaged manifest.
            for run in self.manifest["runs"]:
                key = RunKey(**run)
                planned.append((key.network, key.train_subset, key.seed, key.fold))
        results = [(run.network, run.result) for run in self.all_runs]
        planned += [(name, result.train_subset, result.seed, result.fold) for name, result in results]
        return list(dict.fromkeys(planned))

    @cached_property
    def _largest(self) -> dict[str, int | None]:
        """Network -> the largest training subset that is planned; None: all training images."""
        subsets: dict[str, list[int | None]] = {}
        for network, subset, *_ in self.planned_runs:
            subsets.setdefault(network, []).append(subset)
        return {network: max(sizes, key=lambda size: size or math.inf) for network, sizes in subsets.items()}

    @property
    def planned(self) -> dict[str, set[tuple[int, int | None]]]:
        """Network -> seed and fold of each planned run, with the network's largest training subset."""
        planned: dict[str, set[tuple[int, int | None]]] = {name: set() for name in self._largest}
        for network, subset, seed, fold in self.planned_runs:
            if subset == self._largest[network]:
                planned[network].add((seed, fold))
        return planned

    @property
    def runs(self) -> list[StoredRun]:
        """The runs that are compared: those with the largest training subset of their network."""
        return [run for run in self.all_runs if run.result.train_subset == self._largest[run.network]]

    @property
    def all_finished(self) -> list[StoredRun]:
        """The runs that reached their end."""
        return [run for run in self.all_runs if run.result.status == "finished"]

    @property
    def finished(self) -> list[StoredRun]:
        """The runs among ``runs`` that reached their end."""
        return [run for run in self.runs if run.result.status == "finished"]


def find_runs(folder: str | Path) -> StoredRuns:
    """All runs below a folder; damaged files are listed.

    Args:
        folder: A comparison's folder, or any folder that holds some.

    Raises:
        NoRunsError: If the folder is missing or holds no run of a comparison.
    """
    folder = Path(folder)
    copies = archived_runs(folder)
    results, unfinished, problems = _results(folder, copies)
    names = _network_names(folder, results)
    runs: list[StoredRun] = []
    labels: NDArray[np.integer[Any]] | None = None
    for run_folder, result in results.items():
        parts: dict[str, Any] = {}
        files = RunFolder(_moved(run_folder, copies))
        if result.status == "finished":
            reading = {"config": RunFolder.load_config, "curves": _curves, "predictions": _predictions}
            for part, read in reading.items():
                path = getattr(files, part)
                try:
                    if not path.exists():
                        raise ResultError(path, WITHOUT_FILE[part])
                    parts[part] = read(files)
                except ResultError as error:
                    problems.append(error)
        if (answers := parts.get("predictions")) is not None:
            # Kept once: they are the same in all runs of a comparison.
            labels = answers.labels if labels is None else labels
            if np.array_equal(labels, answers.labels):
                parts["predictions"] = replace(answers, labels=labels)
        runs.append(StoredRun(run_folder, files, names[run_folder], result, **parts))
    times: Times | None = None
    beside = _moved(folder, copies)
    try:
        times = Times.load(beside)
        finished = {run.network for run in runs if run.result.status == "finished"}
        if times and (missing := finished - times.epoch_s.keys()):
            path, times = Times.path(folder), None
            way_out = f"`cnn-compare report {folder} --measure_times` measures all of them again"
            raise ResultError(
                path, f"{format_list(sorted(missing))} did not take part, so that it is not used; {way_out}"
            )
    except ResultError as error:
        problems.append(error)
    trials = []
    for run in run_folders(beside / SEARCH, RunFolder.RESULT):
        try:
            trials.append(run.load_result())
        except ResultError as error:
            problems.append(error)
    pictures: ReportPictures | None = None
    try:
        pictures = ReportPictures.load(beside)
        if pictures and pictures.test_labels != test_labels(runs):
            path, pictures = ReportPictures.path(folder), None
            raise ResultError(path, f"it is of other test images; `cnn-compare explain {folder}` makes it anew")
    except ResultError as error:
        problems.append(error)
    originals = {copy: comparison for comparison, copy in copies.items()}
    problems = [ResultError(_moved(error.path, originals), error.reason) for error in problems]
    return StoredRuns(folder, read_manifest(folder), runs, unfinished, problems, times, trials, pictures)


def test_labels(runs: Sequence[StoredRun]) -> str | None:
    """The `labels_digest` of the first run's test images, which tells test sets apart; None without predictions."""
    return next((labels_digest(run.predictions.labels) for run in runs if run.predictions), None)


def load_results(folder: str | Path) -> pd.DataFrame:
    """One row a run: the fields of `RunResult`, with ``train_epoch_s`` the seconds of a usual epoch.

    A usual epoch is the median of all but the first; with a single epoch it is that one.

    Args:
        folder: A comparison's folder, or any folder that holds some.

    Raises:
        NoRunsError: If the folder is missing or holds no run of a comparison.
    """
    return results_table([*_results(Path(folder), archived_runs(Path(folder)))[0].values()])


def results_table(results: list[RunResult]) -> pd.DataFrame:
    """`load_results` of results at hand."""
    nested = {
        "train_epochs_s",
        "val_epochs_s",
        "versions",
        "architecture",
        "class_names",
        "code_fingerprint",
        "declared_changes",
        "metrics",
    }
    rows = [
        {name: value for name, value in asdict(result).items() if name not in nested}
        | {name: result.value(name) for name in dict.fromkeys([*METRICS, *result.metrics])}
        | {"network": result.network}
        for result in results
    ]
    leading = ["network", "backbone", "seed", "status", "test_acc_pct", "train_epoch_s", "params", "macs"]
    table = pd.DataFrame(rows, columns=None if rows else leading)
    return table[leading + [column for column in table.columns if column not in leading]]


def distinct(values: Iterable[Any]) -> list[str]:
    """The different values without None, sorted, as texts."""
    return sorted({str(value) for value in values if value is not None})


def _moved(path: Path, places: Mapping[Path, Path]) -> Path:
    """A path below one of the ``places``, below what this is mapped to; any other path as it is."""
    return next((new / path.relative_to(old) for old, new in places.items() if path.is_relative_to(old)), path)


def _results(folder: Path, copies: Mapping[Path, Path]) -> tuple[dict[Path, RunResult], list[Path], list[ResultError]]:
    """The results below a folder, the folders of runs without one, and what cannot be read."""
    results, unfinished, problems = {}, [], []
    run_folders: set[Path] = set()
    for comparison, copy in {folder: folder, **copies}.items():
        found = {path.parent for name in (RunFolder.RESULT, RunFolder.CONFIG) for path in copy.rglob(name)}
        found |= {path.parent.parent for path in copy.rglob(f"checkpoints/{RunFolder.LAST}")}
        run_folders |= {comparison / path.relative_to(copy) for path in found}
    # They are no results of the comparison that they chose settings for.
    trials = {path for path in run_folders if _is_trial(path)}
    if not run_folders - trials:
        raise NoRunsError(folder, TRIALS if trials else _why_none(folder))
    for run_folder in sorted(run_folders - trials):
        files = RunFolder(_moved(run_folder, copies))
        if not files.result.exists():
            if is_run_path(run_folder):
                unfinished.append(run_folder)
            else:
                problems.append(ResultError(run_folder, FIT_RUN))
            continue
        try:
            result = files.load_result()
        except ResultError as error:
            problems.append(error)
            continue
        if result.tested:
            results[run_folder] = result
        else:
            trials.add(run_folder)
    if trials and not (results or unfinished or problems):
        raise NoRunsError(folder, TRIALS)
    if not results and not unfinished and all(error.reason == FIT_RUN for error in problems):
        raise NoRunsError(folder, f"{len(problems)} of `fit`, without a result.json. {FIT_RUN_WAY_OUT}")
    return results, unfinished, problems


def _is_trial(run_folder: Path) -> bool:
    *_, above, network, _ = ("", "", *run_folder.absolute().parts)
    return above == SEARCH and "+trial_" in network


def _why_none(folder: Path) -> str:
    if folder.is_dir():
        return "the folder holds no result.json, no configuration and no checkpoint of a run"
    return "it is a file, not a folder" if folder.exists() else "there is no such folder"


def _network_names(folder: Path, results: dict[Path, RunResult]) -> dict[Path, str]:
    """Backbone and variant; or the folder's name where two runs share these, seed and fold, as in two comparisons.

    Also where one of two comparisons has folds, and the other none.
    """
    names = {run_folder: result.network for run_folder, result in results.items()}
    taken = Counter(
        (name, results[run_folder].train_subset, results[run_folder].seed, results[run_folder].fold)
        for run_folder, name in names.items()
    )
    ambiguous = {name for (name, *_), count in taken.items() if count > 1}
    of_folds, of_none = (
        {name for run_folder, name in names.items() if (results[run_folder].fold is None) == none}
        for none in (False, True)
    )
    ambiguous |= of_folds & of_none

    def network_folder(run_folder: Path) -> str:
        above = run_folder.parents[len(results[run_folder].key.path.parts) - 2]
        return above.relative_to(folder).as_posix() if above.is_relative_to(folder) else run_folder.name

    return {
        run_folder: network_folder(run_folder) if name in ambiguous and run_folder != folder else name
        for run_folder, name in names.items()
    }


def _curves(files: RunFolder) -> pd.DataFrame:
    try:
        curves = pd.read_csv(files.curves).rename(columns=plain_text)
    except (OSError, ValueError) as error:
        raise ResultError(files.curves, f"it cannot be read as a table ({first_line(error)})") from error
    if "epoch" not in curves or not all(map(pd.api.types.is_numeric_dtype, curves.dtypes)):
        raise ResultError(files.curves, "it holds no curves")
    return curves


def _predictions(files: RunFolder) -> Predictions:
    path = files.predictions
    try:
        # Opened here, and not by numpy, which leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            # Reference comparisons keep the answer's probability alone, and what all of them say of the label.
            last = "confidence" if "confidence" in stored.files else "probabilities"
            labels, predictions, probabilities = (stored[name] for name in ("labels", "predictions", last))
            known = {name: stored[name] for name in ("rows", "groups", "instead") if name in stored.files}
            margin = stored["margin"] if "instead" in known else None
    # A damaged archive can raise nearly anything.
    except Exception as error:
        raise ResultError(path, f"it cannot be read as predictions ({first_line(error)})") from error
    if probabilities.ndim == 2 and len(probabilities):
        classes, confidence = probabilities.shape[1], probabilities.max(1, initial=0.0)
    else:
        classes, confidence = np.iinfo(np.int16).max, probabilities
    integers = all(np.issubdtype(array.dtype, np.integer) for array in (labels, predictions, *known.values()))
    if not (
        integers
        and labels.ndim == 1
        and len(labels) > 0
        and all(array.shape == labels.shape for array in (predictions, *known.values()))
        and confidence.shape == labels.shape
        and np.issubdtype(confidence.dtype, np.floating)
        and (margin is None or (margin.shape == labels.shape and np.issubdtype(margin.dtype, np.floating)))
        and min(array.min() for array in (labels, predictions, *known.values())) >= 0
        and max(array.max() for array in (labels, predictions, known.get("instead", labels))) < classes
    ):
        raise ResultError(path, "its arrays are not those of predictions")
    # In the smallest type, because there may be thousands of runs.
    small = np.min_scalar_type(int(max(labels.max(), predictions.max())))
    if confidence.dtype != np.float16:
        confidence = confidence.astype(np.float32)
    labels, predictions = labels.astype(small), predictions.astype(small)
    instead = known.pop("instead", None)
    stored_doubts = None if instead is None or margin is None else (instead, margin.astype(np.float32))
    found = doubts(labels, predictions, probabilities, known.get("rows"), stored_doubts)
    margins = {name: getattr(found, name).astype(np.float16) for name in ("margin", "flipped_margin")}
    return Predictions(labels, predictions, confidence, replace(found, **margins), **known)


def read_probabilities(run: StoredRun) -> NDArray[np.floating[Any]] | None:
    """A run's probabilities ``(N, classes)``, read anew; None where it has none.

    `StoredRun` does not keep them: those of many runs, classes and images would fill the memory.
    """
    if run.predictions is None:
        return None
    with run.files.predictions.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return stored["probabilities"] if "probabilities" in stored.files else None
