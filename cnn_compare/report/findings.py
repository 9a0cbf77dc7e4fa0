"""Findings of the stored runs of a comparison, from which every section of a report is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from cnn_compare.report import cross_validation, intervals
from cnn_compare.report.answers import Answers, by_network
from cnn_compare.report.control import Control, control, other_pictures, unfinished
from cnn_compare.report.cross_validation import Fold, Folds
from cnn_compare.report.intervals import Estimate, Sample
from cnn_compare.report.load import StoredRun, StoredRuns
from cnn_compare.report.network import BALANCED, Network, networks_of, samples_of
from cnn_compare.report.order import Ratios, more_accurate, standings, time_ratios
from cnn_compare.report.pairs import Pair, find_question, looks_of, pairs_of


class Findings:
    """Figures that more than one section needs; each is computed when it is first asked for.

    Args:
        stored: The runs.
        baseline: See `Question`; None: what the comparison itself was asked.
        margin: See `Question`; None: what the comparison itself was asked.
        limits: See `Question`.

    Attributes:
        stored: The runs.
        question: The reader's question.
        ignored: Sentences about what of the comparison's own question cannot be answered.

    Raises:
        InvalidValueError: See `find_question`.
    """

    def __init__(
        self,
        stored: StoredRuns,
        baseline: str | None = None,
        margin: float | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self.stored = stored
        self.question, self.ignored = find_question(stored, baseline, margin, limits)

    @property
    def name(self) -> str:
        """The comparison's name."""
        return str(self.stored.manifest.get("name", self.stored.folder.resolve().name))

    @cached_property
    def groups(self) -> dict[str, list[StoredRun]]:
        """The finished runs of each network, by seed and fold."""
        return by_network(self.stored.finished)

    @cached_property
    def control(self) -> Control:
        """The control of the comparison, and whether times can be compared."""
        return control(self.stored)

    @cached_property
    def read_first(self) -> list[str]:
        """Sentences to be read before anything else."""
        return [text for text in (other_pictures(self.stored), unfinished(self.stored)) if text]

    @cached_property
    def complete(self) -> bool:
        """Whether every planned run is finished."""
        return unfinished(self.stored) is None

    @cached_property
    def folds(self) -> dict[str, Folds]:
        """The results on folds of each network; empty without cross-validation."""
        return self._folds("test_acc_pct")

    def _folds(self, metric: str) -> dict[str, Folds]:
        """A metric of each network's folds. Networks without folds share none with others, and nothing is claimed."""
        if not any(run.result.fold is not None for run in self.stored.finished):
            return {}
        return {
            name: {
                (run.result.seed, run.result.fold): Fold(
                    run.result.metrics[metric].value / 100,
                    run.result.test_images or 1,
                    max(2, len({fold for _, fold in self.stored.planned[name]})),
                )
                for run in members
            }
            for name, members in self.groups.items()
        }

    @cached_property
    def _samples(self) -> dict[str, Sample]:
        return {} if self.folds else samples_of(self.groups)

    @cached_property
    def _unordered(self) -> list[Network]:
        estimates = {name: cross_validation.accuracy_estimate(each) for name, each in self.folds.items()}
        estimates |= zip(self._samples, intervals.accuracy_estimates([*self._samples.values()]), strict=True)
        balanced: dict[str, Estimate] = {}
        if all(run.predictions and BALANCED in run.result.metrics for run in self.stored.finished):
            folds = self._folds(BALANCED)
            balanced = {name: cross_validation.accuracy_estimate(each) for name, each in folds.items()}
        return networks_of(self.groups, estimates, balanced, self.stored)

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every pair of networks, or each network with the baseline."""
        return pairs_of(self._unordered, self.question, self._samples, self.folds, looks_of(self.stored))

    @cached_property
    def ratios(self) -> Ratios | None:
        """Ratios of the networks' seconds, each to each other; None where times cannot be compared."""
        if not self.control.timings_ranked:
            return None
        seconds = {each.name: each.rounds_s or each.epochs_s for each in self._unordered if not each.at_chance}
        return time_ratios(seconds, in_turns=self.stored.times is not None)

    @cached_property
    def networks(self) -> list[Network]:
        """The networks, the most accurate first, with their standing unless they learned nothing."""
        if self.ratios is None:
            return self._unordered
        learned = {network.name: network for network in self._unordered if not network.at_chance}
        seconds = {name: network.epoch_s or math.nan for name, network in learned.items()}
        accuracies = {name: network.accuracy_pct.value for name, network in learned.items()}
        found = standings(accuracies, seconds, more_accurate(self.pairs), self.ratios)
        return [
            replace(each, **vars(found[each.name]), on_front=found[each.name].on_front) if each.name in found else each
            for each in self._unordered
        ]

    @cached_property
    def class_names(self) -> list[str]:
        """Names in the order of the labels."""
        return next((run.result.class_names for run in self.stored.finished if run.result.class_names), [])

    @cached_property
    def answers(self) -> Answers:
        """The answers of all networks to the test images."""
        pictures = self.stored.pictures
        return Answers.of(self.stored.finished, self.class_names, pictures.names if pictures else {})

    @cached_property
    def class_images(self) -> list[int]:
        """Number of test images of each class; empty without predictions."""
        images: list[int] = np.bincount(self.answers.labels).tolist()
        return images

    @property
    def unequal_classes(self) -> bool:
        """Whether some class has more test images than another."""
        return len(set(self.class_images)) > 1
