"""Answers to single test images: which are hard, and whose labels are in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnn_compare.pictures import MOST_NETWORKS
from cnn_compare.report.load import Predictions, StoredRun
from cnn_compare.report.wrong_labels import suspicious, worth_a_look

HARDEST = 10
WRONG_LABELS_SHOWN = 20
_NONE: Mapping[int, str] = {}


@dataclass(frozen=True)
class Answer:
    """A network's answer to one image.

    Args:
        answer: The class that its seeds named most often.
        probability_pct: Mean probability that these seeds gave it.
    """

    answer: str
    probability_pct: float


@dataclass(frozen=True)
class ShownImage:
    """A test image, and what the networks answered.

    Args:
        image: Its place in the test set, from 0.
        name: Name of the user's file; None where that is not known.
        label: Its class.
        answer: The wrong answer most often given; where there was none, the right one.
        wrong_pct: Percent of all runs that answered wrong.
        answers: Answers by network.
    """

    image: int
    name: str | None
    label: str
    answer: str
    wrong_pct: float
    answers: dict[str, Answer]


@dataclass(frozen=True)
class WrongLabel:
    """A test image whose label is possibly wrong.

    Args:
        image: Its place in the test set, from 0.
        name: Name of the user's file; None where that is not known.
        label: The class that it has in the data.
        instead: The one that most runs name instead.
        contradicted_pct: Percent of the runs that name another class, every network counting the same.
        margin: Mean over the networks of the label's probability less that of the most probable other class.
    """

    image: int
    name: str | None
    label: str
    instead: str
    contradicted_pct: float
    margin: float


@dataclass(frozen=True)
class Answers:
    """The answers of all networks to the same images, in the order of the images.

    Args:
        labels: ``(N,)``.
        places: ``(N,)``, each image's place in the test set; with folds among all images.
        groups: ``(N,)``, numbers of the images' groups; None where no groups are known.
        networks: Name -> its answers, one a seed; at least one.
        class_names: Names in the order of the labels.
        names: Place -> name of the user's file.
    """

    labels: NDArray[np.integer[Any]]
    places: NDArray[np.integer[Any]]
    groups: NDArray[np.integer[Any]] | None
    networks: dict[str, list[Predictions]]
    class_names: Sequence[str]
    names: Mapping[int, str]

    @classmethod
    def of(
        cls, runs: Sequence[StoredRun], class_names: Sequence[str] = (), names: Mapping[int, str] = _NONE
    ) -> Answers:
        """Collect the answers to the same images, as many as there are; others, of unfinished folds, are left out."""
        answered = {name: answers_of(members) for name, members in by_network(runs).items()}
        most = max((each for of in answered.values() for each in of), key=lambda each: len(each.labels), default=None)
        if most is None:
            nothing = np.empty(0, np.int64)
            return cls(nothing, nothing, None, {}, class_names, names)
        same = {
            name: [each for each in of if np.array_equal(each.labels, most.labels)] for name, of in answered.items()
        }
        networks = {name: of for name, of in same.items() if of}
        places = np.arange(len(most.labels)) if most.rows is None else most.rows
        return cls(most.labels, places, most.groups, networks, class_names, names)

    def hardest(self) -> list[int]:
        """The images that most runs got wrong; of those, first where they were surest."""
        runs = [run for runs in self.networks.values() for run in runs]
        if not runs:
            return []
        wrong = np.mean([run.predictions != self.labels for run in runs], 0)
        margin = np.mean([run.doubts.margin for run in runs], 0, np.float32)
        order = np.lexsort((margin, -wrong))[:HARDEST]
        places: list[int] = self.places[order[wrong[order] > 0]].tolist()
        return places

    def shown(self, images: Sequence[int], order: Sequence[str]) -> list[ShownImage]:
        """Images with what the networks answered, in the given order of networks."""
        runs = [run for runs in self.networks.values() for run in runs]
        return [self._shown(image, self.index(image), runs, order) for image in images if image in self.places]

    def index(self, image: int) -> int:
        """The index of the answers to an image, which is given by its place."""
        return int(np.searchsorted(self.places, image))

    def _shown(self, image: int, index: int, runs: Sequence[Predictions], order: Sequence[str]) -> ShownImage:
        label, given = int(self.labels[index]), [int(run.predictions[index]) for run in runs]
        wrong = [answer for answer in given if answer != label]
        answers = {name: self._answer(index, self.networks[name]) for name in order if name in self.networks}
        return ShownImage(
            image=image,
            name=self.names.get(image),
            label=self._class(label),
            answer=self._class(_most_frequent(wrong or given)),
            wrong_pct=100 * len(wrong) / len(given),
            answers=dict(list(answers.items())[:MOST_NETWORKS]),
        )

    def _answer(self, index: int, runs: Sequence[Predictions]) -> Answer:
        answer = _most_frequent([int(run.predictions[index]) for run in runs])
        given = [float(run.confidence[index]) for run in runs if run.predictions[index] == answer]
        return Answer(self._class(answer), 100 * sum(given) / len(given))

    def _class(self, label: int) -> str:
        return class_name(self.class_names, label)

    def wrong_labels(self) -> tuple[list[WrongLabel], float | None]:
        """The images whose labels are worth a look, and in how many percent of these the label is likely to be wrong.

        The share is None where no answers are at hand.
        """
        networks = [[run.doubts for run in runs] for runs in self.networks.values()]
        found, share = worth_a_look(suspicious(self.labels, networks), networks)
        named = [
            WrongLabel(
                image=int(self.places[each.image]),
                name=self.names.get(int(self.places[each.image])),
                label=self._class(int(self.labels[each.image])),
                instead=self._class(each.instead),
                contradicted_pct=each.contradicted_pct,
                margin=each.margin,
            )
            for each in found
        ]
        return named, 100 * share if self.networks else None


def class_name(names: Sequence[str], label: int) -> str:
    """The name of a class; its number where the name is not recorded."""
    return names[label] if label < len(names) else f"class {label}"


def _most_frequent(classes: Sequence[int]) -> int:
    return int(np.bincount(classes).argmax())


def by_network(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    """The runs of each network, by seed and fold."""
    groups: dict[str, list[StoredRun]] = {}
    for run in sorted(runs, key=lambda run: (run.result.seed, run.result.fold or 0)):
        groups.setdefault(run.network, []).append(run)
    return groups


def answers_of(runs: Sequence[StoredRun]) -> list[Predictions]:
    """One network's answers: a set a run or, with folds, a repeat, in the order of the images."""
    by_seed: dict[int, list[Predictions]] = {}
    for run in runs:
        if run.predictions is not None and (run.result.fold is None or run.predictions.rows is not None):
            by_seed.setdefault(run.result.seed, []).append(run.predictions)
    return [parts[0] if len(parts) == 1 else _joined(parts) for parts in by_seed.values()]


def _joined(parts: Sequence[Predictions]) -> Predictions:
    order = np.argsort(np.concatenate([part.rows for part in parts if part.rows is not None]))

    def joined(values: Sequence[Any]) -> Any:
        """Join arrays, or records of arrays, in the order of the images; None where one is missing."""
        if any(value is None for value in values):
            return None
        if not is_dataclass(values[0]):
            return np.concatenate(values)[order]
        columns = {field.name: joined([getattr(each, field.name) for each in values]) for field in fields(values[0])}
        return replace(cast(Any, values[0]), **columns)

    return cast(Predictions, joined(parts))
