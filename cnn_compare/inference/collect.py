"""Collecting, after training, the pictures that a comparison's report shows, from its data."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnn_compare.checkpointing import require_checkpoint
from cnn_compare.data import ImageDataModule
from cnn_compare.data.check import NumberedImages, leaked_images
from cnn_compare.errors import InvalidValueError, RunError
from cnn_compare.experiment import make_data
from cnn_compare.inference.best import best_validated
from cnn_compare.inference.grad_cam import blend_heat_map, heat_maps, require_captum
from cnn_compare.module import ClassifierModule
from cnn_compare.pictures import MOST_BYTES, MOST_NETWORKS, HeatMap, Leaked, ReportPictures, small_picture
from cnn_compare.report.answers import WRONG_LABELS_SHOWN, Answers, by_network
from cnn_compare.report.load import StoredRun, find_runs, test_labels
from cnn_compare.results import RunFolder
from cnn_compare.trusted import require_trusted

MOST_ASKED = 10
# Sides of the small pictures, in pixels: the first with which all of them fit into a report.
SIDES = (96, 64, 48, 32)


def collect_pictures(folder: str | Path, images: Sequence[int] = (), explain: bool = False) -> ReportPictures:
    """Write a comparison's `pictures.json`: its hardest test images, doubtful labels and leaks, for the report.

    Args:
        folder: The comparison's folder, with finished runs; their data must be where it was.
        images: Places in the test set of images to show as well.
        explain: Whether to compute heat maps of the hardest images, or of ``images`` where some are given.

    Returns:
        What was written.

    Raises:
        NoRunsError: If there are no runs.
        RunError: If there are no predictions, or the data is not that of the runs.
        InvalidValueError: If ``images`` are not in the test set, or too many.
        MissingExtraError: If heat maps are asked for, and captum is not installed.
        UntrustedCodeError: If data of another package is named, and was not given to `trust`.
        CnnCompareError: The same as for `fit`, if the data cannot be read.
    """
    if explain:
        require_captum("explain")
    folder = Path(folder)
    stored = find_runs(folder).finished
    answers = Answers.of(stored)
    # Tested on the same images; of folds, each on some of them.
    runs = by_network([run for run in stored if run.network in answers.networks and run.predictions])
    if not runs:
        raise _no_pictures(folder, "no finished run has predictions")
    if len(images) > MOST_ASKED or not np.isin(images, answers.places).all():
        expected = f"at most {MOST_ASKED} places in the test set, from {answers.places.min()} to {answers.places.max()}"
        raise InvalidValueError("images", list(images), expected)
    # Of runs with fewer training images, those that leaked are among those of the run with the most.
    main = max(runs.values(), key=lambda members: members[0].result.train_images or 0)
    loaded = _Loaded(folder)
    data = loaded.data_of(main[0])
    notes = []
    if main[0].result.data_fingerprint not in (None, data.fingerprint()):
        notes.append(
            "The data is no longer exactly what the networks were trained and tested with: pictures, their decoder or "
            "this program have changed."
        )
    leaked = _leaked(main, loaded)
    suspicious = [each.image for each in answers.wrong_labels()[0]]
    hardest = answers.hardest()
    shown = list(dict.fromkeys([*images, *hardest, *suspicious[:WRONG_LABELS_SHOWN]]))
    found: dict[str, dict[int, Heat]] = {}
    if explain and shown:
        found, problems = _explained(runs, answers, images or hardest, loaded)
        notes += problems
    pixels = {image: _pixels(data, image) for image in shown}
    pictures, maps = _fitting(pixels, found)
    # Published data has no file names.
    named = list(dict.fromkeys([*shown, *suspicious])) if data.describe() else []
    collected = ReportPictures(
        test_labels=str(test_labels(stored)),
        names={image: data.image_name("test", int(_rows(data)[image])) for image in named},
        pictures=pictures,
        leaked=leaked,
        asked=list(images),
        heat_maps=maps,
        notes=notes,
    )
    collected.save(folder)
    return collected


Heat = tuple[NDArray[np.uint8], NDArray[np.float32], int]
"""An image, its heat map, and the class answered."""


class _Loaded:
    """The data modules of stored runs; one that the next run has as well is loaded once.

    Args:
        folder: The comparison's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: tuple[Any, ImageDataModule] | None = None

    def data_of(self, run: StoredRun) -> ImageDataModule:
        """Its data module, loaded.

        Raises:
            RunError: If the test images are others than the run's.
        """
        section = run.config.get("data")
        if not section:
            raise _no_pictures(self.folder, f"{RunFolder(run.folder).config} does not tell which data it was")
        if self._last is None or self._last[0] != section:
            require_trusted(RunFolder(run.folder).config, section)
            self._last = section, make_data(run.config)
        data = self._last[1]
        data.seed = run.result.seed  # It decides the order of the batches, which is part of the fingerprint.
        test = data.splits["test"]
        labels = test.labels[test.subset].numpy()
        if run.config["trainer"].get("limit_test_batches") is not None:
            labels = labels[: run.result.test_images]
        if run.predictions and not np.array_equal(labels, run.predictions.labels):
            raise _no_pictures(self.folder, "the test images of its data are no longer those of the runs")
        return data


def _no_pictures(folder: Path, reason: str) -> RunError:
    return RunError(f"no pictures of {folder}: {reason}.")


def _rows(data: ImageDataModule) -> NDArray[np.int64]:
    """The rows of the test images in the data, by place; with folds, where every image is tested, of all images."""
    test = data.splits["test"]
    rows: NDArray[np.int64] = (test.subset if data.fold is None else torch.arange(len(test.images))).numpy()
    return rows


def _pixels(data: ImageDataModule, image: int) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = data.splits["test"].images[_rows(data)[image]].numpy()
    return pixels


def _leaked(runs: Sequence[StoredRun], loaded: _Loaded) -> Leaked:
    """The leaks of a network's runs, which differ where folds do."""
    exact, near, complete = set[int](), set[int](), True
    done: list[Any] = []
    for run in runs:
        if run.config.get("data") in done:
            continue
        done.append(run.config.get("data"))
        data = loaded.data_of(run)
        equal, alike, all_compared = leaked_images(NumberedImages(data))
        places = np.arange(len(data.splits["test"])) if data.fold is None else data.splits["test"].subset.numpy()
        # A trainer's limit_test_batches leaves out the last ones.
        tested = set(places[: run.result.test_images].tolist())
        exact |= tested & set(places[equal].tolist())
        near |= tested & set(places[alike].tolist())
        complete = complete and all_compared
    return Leaked(sorted(exact), sorted(near - exact), complete)


def _explained(
    runs: Mapping[str, Sequence[StoredRun]], answers: Answers, images: Sequence[int], loaded: _Loaded
) -> tuple[dict[str, dict[int, Heat]], list[str]]:
    """Heat maps of every network, by image, and sentences about those that there are none of."""
    found: dict[str, dict[int, Heat]] = {}
    problems = []
    accuracies = {
        name: np.mean([(each.predictions == answers.labels).mean() for each in of])
        for name, of in answers.networks.items()
    }
    for name in sorted(accuracies, key=lambda name: -accuracies[name])[:MOST_NETWORKS]:
        print(f"{name}: heat maps", file=sys.stderr, flush=True)
        try:
            found[name] = {
                image: heat
                for run, tested in _best_runs(runs[name], images)
                for image, heat in _heat_of(run, tested, loaded).items()
            }
        # Of a network or a checkpoint of the user's own, anything can go wrong; the others are explained all the same.
        except Exception as error:
            what = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
            problems.append(f"No heat map of {name}: {what.partition(chr(10))[0].rstrip('.')}.")
    return found, problems


def _best_runs(runs: Sequence[StoredRun], images: Sequence[int]) -> list[tuple[StoredRun, list[int]]]:
    """Runs and their images: each image with the best run in validation of those that were tested with it."""
    left, rest, chosen = list(runs), list(images), []
    while left:
        run = left.pop(best_validated([each.result for each in left]))
        rows = run.predictions.rows if run.predictions else None
        tested = [image for image in rest if rows is None or image in rows]
        rest = [image for image in rest if image not in tested]
        if tested:
            chosen.append((run, tested))
    return chosen


def _heat_of(run: StoredRun, images: Sequence[int], loaded: _Loaded) -> dict[int, Heat]:
    checkpoint = RunFolder(run.folder).best
    if not checkpoint.is_file():
        raise RunError(f"there is no {checkpoint}")
    require_checkpoint(checkpoint)
    data = loaded.data_of(run)
    # Compiled networks have no hooks, and take long to compile.
    module = ClassifierModule.load_from_checkpoint(checkpoint, map_location="cpu", compile=False)
    pixels = [_pixels(data, image) for image in images]
    inputs = data.to_input(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    maps, classes = heat_maps(module, inputs)
    return dict(zip(images, zip(pixels, maps, classes.tolist(), strict=True), strict=True))


def _fitting(
    pixels: Mapping[int, NDArray[np.uint8]], heat: Mapping[str, Mapping[int, Heat]]
) -> tuple[dict[int, str], dict[str, dict[int, HeatMap]]]:
    """Small pictures and heat maps, in a size in which all of them together are not too large for a report."""
    for side in SIDES:
        pictures = {image: small_picture(each, side) for image, each in pixels.items()}
        maps = {
            network: {
                image: HeatMap(small_picture(blend_heat_map(each, hot, side), side), answer)
                for image, (each, hot, answer) in found.items()
            }
            for network, found in heat.items()
        }
        urls = [*pictures.values(), *(each.picture for found in maps.values() for each in found.values())]
        if sum(map(len, urls)) <= MOST_BYTES:
            break
    return pictures, maps
