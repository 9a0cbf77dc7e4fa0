"""What single test images show: which are hard, whose labels are in doubt, and what leaks change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_compare.pictures import MOST_NETWORKS, Leaked
from cnn_compare.report import statistics
from cnn_compare.report.load import Predictions, StoredRun
from cnn_compare.report.statistics import Sample
from cnn_compare.report.summary import Answer, Leaks, ShownImage, WrongLabel, class_name
from cnn_compare.report.wrong_labels import Suspicion, suspicious

HARDEST = 10
WRONG_LABELS_SHOWN = 20
# Of all test images: with so many leaks a report says so at its top.
WARNED_SHARE = 0.01


@dataclass(frozen=True)
class Answers:
    """The answers of all runs that were tested on the same images.

    Args:
        labels: ``(N,)``.
        networks: Name -> the answers of its runs; at least one each.
        class_names: In the order of the labels.
        names: Place in the test set -> name of the user's file.
    """

    labels: NDArray[np.integer[Any]]
    networks: dict[str, list[Predictions]]
    class_names: Sequence[str]
    names: Mapping[int, str]

    @classmethod
    def of(cls, runs: Sequence[StoredRun], class_names: Sequence[str], names: Mapping[int, str]) -> Answers:
        """Those of the finished runs with predictions, of the images of the first one."""
        networks: dict[str, list[Predictions]] = {}
        answered = [(run.network, run.predictions) for run in runs if run.predictions]
        labels = answered[0][1].labels if answered else np.empty(0, np.int64)
        for network, predictions in answered:
            if np.array_equal(predictions.labels, labels):
                networks.setdefault(network, []).append(predictions)
        return cls(labels, networks, class_names, names)

    def hardest(self) -> list[int]:
        """The images that most runs got wrong; of those, first where they were surest."""
        runs = [run for runs in self.networks.values() for run in runs]
        if not runs:
            return []
        wrong = np.mean([run.predictions != self.labels for run in runs], 0)
        margin = np.mean([run.doubts.margin for run in runs], 0, np.float32)
        return [image for image in np.lexsort((margin, -wrong))[:HARDEST].tolist() if wrong[image] > 0]

    def suspicious(self) -> list[Suspicion]:
        """The images whose labels most networks contradict."""
        return suspicious(self.labels, [[run.doubts for run in runs] for runs in self.networks.values()])

    def shown(self, images: Sequence[int], order: Sequence[str]) -> list[ShownImage]:
        """What a report says of images; networks in the given order."""
        runs = [run for runs in self.networks.values() for run in runs]
        return [self._shown(image, runs, order) for image in images if image < len(self.labels)]

    def _shown(self, image: int, runs: Sequence[Predictions], order: Sequence[str]) -> ShownImage:
        label, given = int(self.labels[image]), [int(run.predictions[image]) for run in runs]
        wrong = [answer for answer in given if answer != label]
        answers = {name: self._answer(image, self.networks[name]) for name in order if name in self.networks}
        return ShownImage(
            image=image,
            name=self.names.get(image),
            label=self._class(label),
            answer=self._class(_most_frequent(wrong or given)),
            wrong_pct=100 * len(wrong) / len(given),
            answers=dict(list(answers.items())[:MOST_NETWORKS]),
        )

    def _answer(self, image: int, runs: Sequence[Predictions]) -> Answer:
        answer = _most_frequent([int(run.predictions[image]) for run in runs])
        given = [float(run.confidence[image]) for run in runs if run.predictions[image] == answer]
        return Answer(self._class(answer), 100 * sum(given) / len(given))

    def _class(self, label: int) -> str:
        return class_name(self.class_names, label)

    def wrong_labels(self) -> list[WrongLabel]:
        """`suspicious` with names."""
        return [
            WrongLabel(
                image=each.image,
                name=self.names.get(each.image),
                label=self._class(int(self.labels[each.image])),
                instead=self._class(each.instead),
                contradicted_pct=each.contradicted_pct,
                margin=each.margin,
            )
            for each in self.suspicious()
        ]


def _most_frequent(classes: Sequence[int]) -> int:
    return int(np.bincount(classes).argmax())


def without_leaks(leaked: Leaked, samples: Mapping[str, Sample]) -> Leaks:
    """What leaks change: each network's accuracy without the test images that training has seen.

    Args:
        leaked: Which these are.
        samples: By network; those whose single answers are at hand are counted again.
    """
    images = max((sample.images for sample in samples.values()), default=0)
    seen = np.zeros(images, bool)
    seen[[image for image in leaked.exact + leaked.near if image < images]] = True
    known = {name: sample.correct for name, sample in samples.items() if sample.correct is not None}
    without, of_leaked = {}, {}
    if seen.any() and not seen.all():
        rest = [Sample.of(correct[:, ~seen]) for correct in known.values()]
        without = dict(zip(known, map(statistics.percent, statistics.accuracy_estimates(rest)), strict=True))
        of_leaked = {name: 100 * float(correct[:, seen].mean()) for name, correct in known.items()}
    return Leaks(len(leaked.exact), len(leaked.near), images, leaked.complete, without, of_leaked)


def leaks_warning(found: Leaks) -> list[str]:
    """What the top of the report says, where the share is large enough."""
    count = found.exact + found.near
    if count <= WARNED_SHARE * found.images:
        return []
    return [
        f"leaks: {count:,} of {found.images:,} test images ({100 * count / found.images:.1f} %) have a copy among the "
        f"training images, {found.exact:,} an exact one and {found.near:,} one that looks the same when small; the "
        "table of leaks has the accuracies without them, `cnn-compare data` shows the pairs"
    ]
