"""What single test images show: which are hard, whose labels are in doubt, and what leaks change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_compare.formatting import format_list
from cnn_compare.pictures import MOST_NETWORKS, Leaked
from cnn_compare.report import statistics
from cnn_compare.report.cross_validation import Folds, accuracy_estimate
from cnn_compare.report.load import Predictions, StoredRun
from cnn_compare.report.statistics import Estimate
from cnn_compare.report.summary import Answer, Leaks, ShownImage, WrongLabel, class_name
from cnn_compare.report.wrong_labels import Suspicion, suspicious, worth_a_look

HARDEST = 10
WRONG_LABELS_SHOWN = 20
# Of all test images: with more exact copies a report says so at its top.
WARNED_SHARE = 0.01
_NONE: Mapping[int, str] = {}


@dataclass(frozen=True)
class Answers:
    """The answers of all networks to the same images, in the order of the images.

    Args:
        labels: ``(N,)``.
        places: ``(N,)``, each image's place in the test set; with folds among all images.
        groups: ``(N,)``, numbers of the images' groups; None where no groups are known.
        networks: Name -> its answers, one a seed; at least one.
        class_names: In the order of the labels.
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
        """Those about as many images as there are, by network; others, as of unfinished folds, are left out."""
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

    def suspicious(self) -> tuple[list[Suspicion], float]:
        """The images whose labels are worth a look, and which share of these labels is likely to be wrong."""
        networks = [[run.doubts for run in runs] for runs in self.networks.values()]
        found, share = worth_a_look(suspicious(self.labels, networks), networks)
        return [replace(each, image=int(self.places[each.image])) for each in found], share

    def shown(self, images: Sequence[int], order: Sequence[str]) -> list[ShownImage]:
        """What a report says of images; networks in the given order."""
        runs = [run for runs in self.networks.values() for run in runs]
        return [self._shown(image, self.index(image), runs, order) for image in images if image in self.places]

    def index(self, image: int) -> int:
        """Where the answers to an image are, which is given by its place."""
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
        """`suspicious` with names, and the share in percent; None where no answers are at hand."""
        found, share = self.suspicious()
        named = [
            WrongLabel(
                image=each.image,
                name=self.names.get(each.image),
                label=self._class(int(self.labels[self.index(each.image)])),
                instead=self._class(each.instead),
                contradicted_pct=each.contradicted_pct,
                margin=each.margin,
            )
            for each in found
        ]
        return named, 100 * share if self.networks else None


def _most_frequent(classes: Sequence[int]) -> int:
    return int(np.bincount(classes).argmax())


def by_network(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    """The runs of each network, by seed and fold."""
    groups: dict[str, list[StoredRun]] = {}
    for run in sorted(runs, key=lambda run: (run.result.seed, run.result.fold or 0)):
        groups.setdefault(run.network, []).append(run)
    return groups


def answers_of(runs: Sequence[StoredRun]) -> list[Predictions]:
    """One network's answers: of each run or, with folds, those of a repeat together, in the order of the images."""
    by_seed: dict[int, list[Predictions]] = {}
    for run in runs:
        if run.predictions is not None and (run.result.fold is None or run.predictions.rows is not None):
            by_seed.setdefault(run.result.seed, []).append(run.predictions)
    return [parts[0] if len(parts) == 1 else _joined(parts) for parts in by_seed.values()]


def _joined(parts: Sequence[Predictions]) -> Predictions:
    order = np.argsort(np.concatenate([part.rows for part in parts if part.rows is not None]))

    def joined(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if any(array is None for array in arrays) else np.concatenate(arrays)[order]

    return Predictions(*(joined(field.name) for field in fields(Predictions)))


def without_leaks(
    leaked: Leaked, answers: Answers, runs: Mapping[str, Sequence[StoredRun]], folds: Mapping[str, Folds]
) -> Leaks:
    """What leaks change: each network's accuracy without the test images that training has seen.

    Args:
        leaked: Which these are.
        answers: Of all networks.
        runs: Of all networks.
        folds: What cross-validation tests; empty without it.
    """
    places = leaked.exact + leaked.near
    seen = np.isin(answers.places, places)
    without, of_leaked = {}, {}
    if seen.any() and not seen.all():
        right = {
            name: np.stack([run.predictions == answers.labels for run in of]) for name, of in answers.networks.items()
        }
        of_leaked = {name: 100 * float(each[:, seen].mean()) for name, each in right.items()}
        if folds:
            estimates = [accuracy_estimate(_without(places, runs[name], folds[name])) for name in right]
        else:
            groups = None if answers.groups is None else answers.groups[~seen]
            samples = [statistics.Sample.of(each[:, ~seen], groups) for each in right.values()]
            estimates = statistics.accuracy_estimates(samples)
        without = dict(zip(right, map(statistics.percent, estimates), strict=True))
    return Leaks(len(leaked.exact), len(leaked.near), len(seen), leaked.complete, without, of_leaked)


def _without(places: Sequence[int], runs: Sequence[StoredRun], folds: Folds) -> Folds:
    """One network's folds without some images."""
    rest = {}
    for run in runs:
        answers, key = run.predictions, (run.result.seed, run.result.fold)
        if answers is not None and answers.rows is not None:
            right = (answers.predictions == answers.labels)[~np.isin(answers.rows, places)]
            if len(right):
                rest[key] = replace(folds[key], accuracy=float(right.mean()), images=len(right))
    return rest


def leaks_warning(found: Leaks, accuracies: Mapping[str, Estimate]) -> list[str]:
    """What the top of the report says: of exact copies, or of leaks that change an accuracy by more than its interval.

    Args:
        found: The leaks.
        accuracies: Of all networks on all test images.
    """
    changed = [
        name
        for name, without in found.without_pct.items()
        if not accuracies[name].low <= without.value <= accuracies[name].high
    ]
    if found.exact <= WARNED_SHARE * found.images and not changed:
        return []
    what = [f"{found.exact:,} of {found.images:,} test images have an exact copy among the training images"]
    what += [f"{found.near:,} look alike one of them"] if found.near else []
    what += [f"without them the accuracy of {format_list(changed)} is outside its interval"] if changed else []
    return [
        f"leaks: {'; '.join(what)}; the table of leaks has the accuracies without them, `cnn-compare data` the pairs"
    ]
