"""Figures of each network over its runs: accuracy with its interval, classes, calibration, times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from cnn_compare.report import intervals
from cnn_compare.report.answers import answers_of
from cnn_compare.report.intervals import LEVEL, Calibration, Estimate, Sample
from cnn_compare.report.load import Predictions, StoredRun, StoredRuns, read_probabilities
from cnn_compare.results import RunResult, over_seeds
from cnn_compare.times import interval, ratio

BALANCED = "test_balanced_acc_pct"


@dataclass(frozen=True)
class Network:
    """One network of a comparison: a backbone in one variant, over all its seeds.

    Args:
        name: Name of backbone and variant.
        backbone: Its registered name.
        variant: None where the comparison has none.
        seeds: Seeds of the finished runs, in ascending order.
        folds: How many there are in a repeat of cross-validation; None without.
        planned: How many runs there were to be.
        failed: How many of them failed or diverged.
        test_acc_pct: Test accuracy of each run.
        accuracy_pct: Mean test accuracy; the interval covers other seeds and other test images, and with folds other
            training images.
        sd_points: Standard deviation over runs; None with one.
        metrics: Metrics by name, each combined by `cnn_compare.results.over_seeds`; without those that a seed lacks.
        architecture: See `RunResult`.
        calibration: None without predictions.
        class_acc_pct: Recall: accuracy on the test images of each class; empty without predictions.
        balanced_pct: Mean recall over the classes that the test set has; the interval covers other test images, and
            with folds other training images and seeds; None without predictions.
        ensemble_acc_pct: Test accuracy of the mean probability of all seeds; None with one seed, or where a seed's
            probabilities are not stored.
        epochs_s: Seconds of a usual training epoch of each seed; with one seed those of each epoch but the first.
        rounds_s: Seconds an epoch in each round in which the networks took turns; empty where they have not.
        times_fastest: How many times the seconds of the fastest network it takes; None where they have not. The
            intervals of all pairs together hold the truth in 95 % of comparisons.
        predict_ms: Milliseconds a prediction of one decoded picture takes; None where they were not measured.
        runs_at_chance: How many runs (with folds: repeats) are no better than guessing, over the classes.
        at_chance: Whether all are: the network learned nothing, and takes no part in the order.
        on_front: Whether it is on the Pareto front of accuracy and time; None where times cannot be ranked.
        dominated_by: See `Standing`.
        unordered: See `Standing`.
    """

    name: str
    backbone: str
    variant: str | None
    seeds: list[int]
    folds: int | None
    planned: int
    failed: int
    test_acc_pct: list[float]
    accuracy_pct: Estimate
    sd_points: float | None
    metrics: dict[str, float]
    architecture: dict[str, Any]
    calibration: Calibration | None
    class_acc_pct: list[Estimate]
    balanced_pct: Estimate | None
    ensemble_acc_pct: float | None
    epochs_s: list[float]
    rounds_s: list[float]
    times_fastest: Estimate | None
    predict_ms: Estimate | None
    runs_at_chance: int
    at_chance: bool
    on_front: bool | None = None
    dominated_by: str | None = None
    unordered: list[str] = field(default_factory=list)

    @property
    def epoch_s(self) -> float | None:
        """Seconds of a usual training epoch, measured apart where that was done."""
        return self.metrics.get("train_epoch_s")

    @property
    def runs_in_words(self) -> str:
        """Words for its seeds, or its folds and repeats."""
        count = len(self.seeds)
        if self.folds is None:
            return "one seed" if count == 1 else f"{count} seeds"
        if count < self.planned:
            return f"{count} of {self.planned} folds"
        return folds_in_words(self.folds, self.planned // self.folds)


def folds_in_words(folds: int, repeats: int) -> str:
    """Words such as ``5 folds × 2 repeats``."""
    return f"{folds} folds" + (f" × {repeats} repeats" if repeats > 1 else "")


def samples_of(groups: dict[str, list[StoredRun]]) -> dict[str, Sample]:
    """Samples of the networks; with single answers where all runs of all networks were tested on the same images."""
    all_runs = [run for members in groups.values() for run in members]
    answered = [run.predictions for run in all_runs if run.predictions]
    labels = answered[0].labels if answered else np.empty(0)
    # Of the test images; None unless all runs know the same ones.
    known = answered[0].groups if answered else None
    if known is not None and not all(
        np.array_equal(known, each.groups) for each in answered if each.groups is not None
    ):
        known = None
    fewest = None if known is None else len(np.unique(known))

    def sample(members: Sequence[StoredRun]) -> Sample:
        answers = [
            run.predictions.predictions == labels
            for run in members
            if run.predictions and np.array_equal(run.predictions.labels, labels)
        ]
        if len(answers) == len(members):
            return Sample.of(np.stack(answers), known)
        shares = [run.result.metrics["test_acc_pct"].value / 100 for run in members]
        # Where the number of images is not recorded, or of which groups, the accuracies say as little as possible.
        return Sample(shares, fewest or members[0].result.test_images or 1)

    return {name: sample(members) for name, members in groups.items()}


def networks_of(
    groups: Mapping[str, Sequence[StoredRun]],
    estimates: Mapping[str, Estimate],
    balanced: Mapping[str, Estimate],
    stored: StoredRuns,
) -> list[Network]:
    """Every network with finished runs, the most accurate first.

    Args:
        groups: The finished runs of each network.
        estimates: Mean accuracy of each network, as a share.
        balanced: Mean recall over the classes, where it does not come from the answers.
        stored: All runs, for those that were planned or failed, and times that were measured apart.
    """
    failed = Counter(run.network for run in stored.runs if run.result.status != "finished")
    times = stored.times
    fastest = min((times.epoch_s[name] for name in groups), key=interval, default=[]) if times else []
    level = LEVEL / max(math.comb(len(groups), 2), 1)
    made = []
    for name, runs in groups.items():
        planned = stored.planned[name]
        results = [run.result for run in runs]
        accuracies = [result.metrics["test_acc_pct"].value for result in results]
        names = set.intersection(*(set(result.metrics) for result in results))
        metrics = {each: over_seeds([result.metrics[each] for result in results]) for each in sorted(names)}
        several = len(accuracies) > 1
        predictions = answers_of(runs)
        answered = bool(predictions) and all(run.predictions for run in runs)
        recalls, balanced_pct = _by_class(predictions) if answered else ([], None)
        if balanced_pct and name in balanced:
            balanced_pct = intervals.percent(balanced[name])
        seconds = results[0].train_epochs_s[1:]
        if several:
            seconds = [value for result in results if (value := result.value("train_epoch_s")) is not None]
        rounds_s = times.epoch_s[name] if times else []
        predict_ms = Estimate(*interval(times.predict_ms[name])) if times and name in times.predict_ms else None
        if times:  # In the place of the training's own clock.
            if "train_epoch_s" in metrics:
                metrics["own_clock_epoch_s"] = metrics["train_epoch_s"]
            if predict_ms:
                metrics["predict_ms"] = predict_ms.value
            metrics["train_epoch_s"] = interval(rounds_s)[0]
        at_chance = sum(map(_guesses, predictions)) if answered else sum(map(_seems_to_guess, results))
        made.append(
            Network(
                name=name,
                backbone=results[0].backbone,
                variant=results[0].variant,
                seeds=[result.seed for result in results],
                folds=len({fold for _, fold in planned if fold is not None}) or None,
                planned=len(planned),
                failed=failed[name],
                test_acc_pct=accuracies,
                accuracy_pct=intervals.percent(estimates[name]),
                sd_points=float(np.std(accuracies, ddof=1)) if several else None,
                metrics=metrics,
                architecture=next((result.architecture for result in results if result.architecture), {}),
                calibration=_calibration(predictions),
                class_acc_pct=recalls,
                balanced_pct=balanced_pct,
                ensemble_acc_pct=_ensemble(runs),
                epochs_s=seconds,
                rounds_s=rounds_s,
                times_fastest=Estimate(*ratio(rounds_s, fastest, level)) if times else None,
                predict_ms=predict_ms,
                runs_at_chance=at_chance,
                at_chance=at_chance == (len(predictions) if answered else len(runs)),
            )
        )
    return sorted(made, key=lambda network: -network.accuracy_pct.value)


def _calibration(predictions: Sequence[Predictions]) -> Calibration | None:
    if len({len(run.labels) for run in predictions}) != 1:
        return None
    return intervals.calibration(
        np.stack([run.confidence for run in predictions]).astype(np.float32),
        np.stack([run.predictions == run.labels for run in predictions]),
        predictions[0].groups,
    )


def _guesses(answers: Predictions) -> bool:
    """Whether a run's mean recall is within what guesses, or one answer to all images, reach by chance."""
    images = np.bincount(answers.labels)
    recalls = np.bincount(answers.labels[answers.labels == answers.predictions], minlength=len(images))
    tested = images > 0
    return _by_chance(float((recalls[tested] / images[tested]).mean()), images[tested])


def _seems_to_guess(result: RunResult) -> bool:
    """Do as `_guesses` without answers; False where the number of classes is not recorded."""
    classes = len(result.class_names)
    found = result.metrics.get(BALANCED, result.metrics["test_acc_pct"])
    return _by_chance(found.value / 100, np.full(classes, (result.test_images or 1) / max(classes, 1)))


def _by_chance(recall: float, images: np.ndarray) -> bool:
    """Whether a mean recall is within the 95 % interval of guesses; ``images`` are those of each class."""
    classes = len(images)
    if classes < 2:
        return False
    guessed = 1 / classes
    error = math.sqrt(guessed * (1 - guessed) * float((1 / images).sum())) / classes
    return recall <= guessed + float(norm.isf(LEVEL / 2)) * error


def _by_class(predictions: Sequence[Predictions]) -> tuple[list[Estimate], Estimate]:
    """Recall of each class, and their mean, in percent."""
    labels = np.concatenate([run.labels for run in predictions]).astype(int)
    answers = np.concatenate([run.predictions for run in predictions]).astype(int)
    images = np.bincount(labels, minlength=1 + int(max(labels.max(), answers.max())))
    shares = np.bincount(labels[labels == answers], minlength=len(images)) / np.maximum(images, 1)
    recalls = [
        intervals.share_estimate(share, *_independent(predictions, label, count))
        for label, (share, count) in enumerate(zip(shares.tolist(), (images // len(predictions)).tolist(), strict=True))
    ]
    tested = [recall for recall in recalls if not math.isnan(recall.low)]
    together = [
        intervals.variance_together(each.predictions == each.labels, each.labels, each.groups)
        for each in predictions
        if each.groups is not None
    ]
    balanced = intervals.balanced_estimate(tested, float(np.mean(together)) if together else 1.0)
    return [*map(intervals.percent, recalls)], intervals.percent(balanced)


def _independent(predictions: Sequence[Predictions], label: int, images: int) -> tuple[float, float]:
    """The number of independent images of a class, of so many, and the degrees of freedom of that."""
    samples = []
    for answers in predictions:
        of_class = answers.labels == label
        if answers.groups is not None and of_class.any():
            right = (answers.predictions == answers.labels)[None, of_class]
            samples.append(Sample.of(right, answers.groups[of_class]))
    if not samples:
        return images, math.inf
    return float(np.mean([each.effective_size for each in samples])), min(each.image_freedom for each in samples)


def _ensemble(runs: Sequence[StoredRun]) -> float | None:
    """Test accuracy of the mean probability of all seeds; None with one seed, or without the probabilities of each."""
    if len(runs) < 2:
        return None
    total, labels = None, None
    for run in runs:
        probabilities = read_probabilities(run)
        if run.predictions is None or probabilities is None:
            return None
        labels = run.predictions.labels if labels is None else labels
        if not np.array_equal(run.predictions.labels, labels):
            return None
        total = probabilities.astype(np.float32) if total is None else total + probabilities
    return None if total is None else 100 * float((total.argmax(1) == labels).mean())
