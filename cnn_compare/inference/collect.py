"""After training: read from the data of a comparison what its report shows of single pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnn_compare.checkpointing import require_checkpoint
from cnn_compare.data import ImageDataModule
from cnn_compare.data.check import Images, leaked
from cnn_compare.errors import CnnCompareError, InvalidValueError, NotExplainedError, PicturesError
from cnn_compare.experiment import make_data
from cnn_compare.inference.grad_cam import heat_maps, require_captum, under_heat
from cnn_compare.module import ClassifierModule
from cnn_compare.pictures import MOST_BYTES, MOST_NETWORKS, HeatMap, Leaked, Pictures, labels_digest, small_picture
from cnn_compare.report.images import WRONG_LABELS_SHOWN, Answers
from cnn_compare.report.load import StoredRun, find_runs
from cnn_compare.results import RunFolder

MOST_ASKED = 10
# Sides of the small pictures, in pixels: the first with which all of them fit into a report.
SIDES = (96, 64, 48, 32)


def collect_pictures(folder: str | Path, images: Sequence[int] = (), explain: bool = False) -> Pictures:
    """Write a comparison's `pictures.json`: its hardest test images, doubtful labels and leaks, for the report.

    Args:
        folder: The comparison's, with finished runs; their data must be where it was.
        images: Places in the test set of images to show as well.
        explain: Whether to compute heat maps of the hardest images, or of ``images`` where some are given.

    Returns:
        What was written.

    Raises:
        NoRunsError: If there are no runs.
        PicturesError: If there are no predictions, or the data is not that of the runs.
        InvalidValueError: If ``images`` are not in the test set, or too many.
        MissingExtraError: If heat maps are asked for, and captum is not installed.
        CnnCompareError: The same as for `fit`, if the data cannot be read.
    """
    if explain:
        require_captum("explain")
    folder = Path(folder)
    runs = [run for run in find_runs(folder).finished if run.predictions]
    if not runs:
        raise PicturesError(folder, "no finished run has predictions")
    answers = Answers.of(runs, [], {})
    runs = [run for run in runs if run.predictions and np.array_equal(run.predictions.labels, answers.labels)]
    count = len(answers.labels)
    if len(images) > MOST_ASKED or not all(0 <= image < count for image in images):
        expected = f"at most {MOST_ASKED} places in the test set, from 0 to {count - 1}"
        raise InvalidValueError("images", list(images), expected)
    # Of runs with fewer training images, those that leaked are among those of the run with the most.
    main = max(runs, key=lambda run: run.result.train_images or 0)
    loaded = _Loaded(folder, answers.labels)
    data = loaded.data_of(main)
    notes = []
    if main.result.data_fingerprint not in (None, data.fingerprint()):
        notes.append(
            "The data is no longer exactly what the networks were trained and tested with: pictures, their decoder or "
            "this program have changed."
        )
    exact, near, complete = leaked(Images(data))
    suspicious = [each.image for each in answers.suspicious()]
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
    collected = Pictures(
        test_labels=labels_digest(answers.labels),
        names={image: _name(data, image) for image in named},
        pictures=pictures,
        leaked=Leaked(exact, near, complete),
        asked=list(images),
        heat_maps=maps,
        notes=notes,
    )
    collected.save(folder)
    return collected


Heat = tuple[NDArray[np.uint8], NDArray[np.float32], int]
"""An image, its heat map, and the class answered."""


class _Loaded:
    """The data modules of stored runs, each loaded once.

    Args:
        folder: The comparison's.
        labels: Of the test images, ``(N,)``.
    """

    def __init__(self, folder: Path, labels: NDArray[np.integer[Any]]) -> None:
        self.folder, self.labels = folder, labels
        self._loaded: dict[str, ImageDataModule] = {}

    def data_of(self, run: StoredRun) -> ImageDataModule:
        """Its data module, loaded.

        Raises:
            PicturesError: If the test images are others than the run's.
        """
        section = run.config.get("data")
        if not section:
            raise PicturesError(self.folder, f"{RunFolder(run.folder).config} does not tell which data it was")
        key = json.dumps(section, sort_keys=True, default=str)
        if key not in self._loaded:
            data = make_data(run.config)
            data.seed = run.result.seed  # It decides the order of the batches, which is part of the fingerprint.
            test = data.splits["test"]
            if not np.array_equal(test.labels[test.subset].numpy(), self.labels):
                raise PicturesError(self.folder, "the test images of its data are no longer those of the runs")
            self._loaded[key] = data
        return self._loaded[key]


def _pixels(data: ImageDataModule, image: int) -> NDArray[np.uint8]:
    test = data.splits["test"]
    pixels: NDArray[np.uint8] = test.images[test.subset[image]].numpy()
    return pixels


def _name(data: ImageDataModule, image: int) -> str:
    return data.image_name("test", int(data.splits["test"].subset[image]))


def _explained(
    runs: Sequence[StoredRun], answers: Answers, images: Sequence[int], loaded: _Loaded
) -> tuple[dict[str, dict[int, Heat]], list[str]]:
    """Heat maps of every network, by image, and sentences about those that there are none of."""
    found: dict[str, dict[int, Heat]] = {}
    problems = []
    accuracies = {
        name: np.mean([(run.predictions == answers.labels).mean() for run in members])
        for name, members in answers.networks.items()
    }
    for name in sorted(accuracies, key=lambda name: -accuracies[name])[:MOST_NETWORKS]:
        # The test set is used once; so the seed is chosen by its validation.
        seeds = [run for run in runs if run.network == name]
        best = max(seeds, key=lambda run: run.result.value("best_val_acc_pct") or 0.0)
        print(f"{name}: heat maps of seed {best.result.seed}", file=sys.stderr, flush=True)
        try:
            found[name] = _heat_of(best, images, loaded)
        # Of a network or a checkpoint of the user's own, anything can go wrong; the others are explained all the same.
        except Exception as error:
            reason = str(error) if isinstance(error, CnnCompareError) else f"{type(error).__name__}: {error}"
            problems.append(f"No heat map of {name}: {reason.partition(chr(10))[0]}")
    return found, problems


def _heat_of(run: StoredRun, images: Sequence[int], loaded: _Loaded) -> dict[int, Heat]:
    checkpoint = RunFolder(run.folder).checkpoints / RunFolder.BEST
    if not checkpoint.is_file():
        raise NotExplainedError(run.network, f"there is no {checkpoint}")
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
                image: HeatMap(small_picture(under_heat(each, hot, side), side), answer)
                for image, (each, hot, answer) in found.items()
            }
            for network, found in heat.items()
        }
        urls = [*pictures.values(), *(each.picture for found in maps.values() for each in found.values())]
        if sum(map(len, urls)) <= MOST_BYTES:
            break
    return pictures, maps
