"""The checkpoint that a path stands for: of a comparison, that of its best network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_compare.errors import InvalidValueError, NoTrainedNetworkError
from cnn_compare.files import ADDRESS, is_address
from cnn_compare.results import RunFolder, RunResult, first_best, tested_runs


@dataclass(frozen=True)
class Found:
    """Checkpoints that a path stands for.

    Args:
        checkpoints: One, or those of all seeds of a network.
        description: Which these are, in words; empty where the path itself says so.
    """

    checkpoints: list[Path]
    description: str = ""


def find_checkpoints(path: Path, ensemble: bool = False) -> Found:
    """Find what a path stands for; see `Classifier.load`.

    Raises:
        NoTrainedNetworkError: If there is no checkpoint.
        InvalidValueError: If an ensemble is asked for, and the path is no comparison's with several seeds.
    """
    if not path.exists():
        raise NoTrainedNetworkError(path, ADDRESS if is_address(path) else "there is no such file or folder")
    places = [path / RunFolder.BEST, RunFolder(path).best] if path.is_dir() else [path]
    if (checkpoint := next((place for place in places if place.is_file()), None)) is not None:
        if ensemble:
            raise InvalidValueError("ensemble", True, f"given with the folder of a comparison, which {path} is not")
        return Found([checkpoint])
    if not path.is_dir():
        raise NoTrainedNetworkError(path, "it is no file")
    networks = tested_runs(path)
    if not networks:
        raise NoTrainedNetworkError(path, "the folder holds neither a checkpoint nor a finished and tested run")
    accuracy = {
        name: math.fsum(result.metrics["test_acc_pct"].value for _, result in runs) / len(runs)
        for name, runs in networks.items()
    }
    best = max(accuracy, key=accuracy.__getitem__)
    runs = sorted(networks[best], key=lambda run: (run[1].seed, run[1].fold or 0))
    what = "seed" if runs[0][1].fold is None else "fold"
    of = f"the only network in {path}" if len(accuracy) == 1 else f"the best of {len(accuracy)} networks in {path}"
    description = f"{best}, {of}: {accuracy[best]:.2f} % of the test images are right"
    if ensemble:
        if len(runs) == 1:
            raise InvalidValueError("ensemble", True, f"left out: {best}, the best network in {path}, has one {what}")
        description += f" in the mean over {what}s; the mean probability of its {len(runs)} {what}s"
    elif len(runs) > 1:
        folder, result = runs[best_validated([result for _, result in runs])]
        number = result.seed if result.fold is None else result.fold
        description += f" in the mean over {len(runs)} {what}s; {what} {number}, the best in validation"
        runs = [(folder, result)]
    for folder, _ in runs:
        if not folder.best.is_file():
            raise NoTrainedNetworkError(folder.best, f"there is no such file, and {best} is the best network in {path}")
    return Found([folder.best for folder, _ in runs], description)


def best_validated(results: Sequence[RunResult]) -> int:
    """Index of the run of a network that was best in validation: the test set is used once, and chooses nothing."""
    return first_best([result.value("best_val_acc_pct") or math.nan for result in results], larger_is_better=True)
