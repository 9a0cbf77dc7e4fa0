"""What a comparison shows, as plain values: `Summary` and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cnn_compare.pictures import Pictures
from cnn_compare.report.learning_curve import LearningCurve
from cnn_compare.report.statistics import Calibration, Estimate
from cnn_compare.times import Times

MOST_CLASSES = 50
"""Up to so many classes a report shows every one; of more, the least accurate ones and the commonest mistakes."""
LOWEST_CLASSES = 25
"""How many of these."""


@dataclass(frozen=True)
class Question:
    """What a reader wants to know beyond which networks differ.

    Args:
        baseline: A network: each other one is compared with it, and no other pairs are.
        margin: Points below which two networks count as the same.
        limits: Metric -> its largest value, or smallest one where more is better, that is acceptable.
    """

    baseline: str | None = None
    margin: float | None = None
    limits: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistake:
    """Images of one class that were taken for another, over all seeds.

    Args:
        label: Number of the true class.
        answer: Number of the class that was answered.
        share_pct: Of the true class's images.
    """

    label: int
    answer: int
    share_pct: float


@dataclass(frozen=True)
class Curves:
    """Learning curves of one network: means over its seeds, one value an epoch or a validation.

    Args:
        epochs: Counted from 0; within an epoch a fraction.
        seconds: Of training, until then.
        val_acc_pct: Validation accuracy.
        lowest_pct: The lowest validation accuracy of a seed.
        highest_pct: The highest one.
        train_acc_pct: Accuracy on the training images, as augmented.
        train_loss: In nats.
        val_loss: In nats.
    """

    epochs: list[float]
    seconds: list[float]
    val_acc_pct: list[float]
    lowest_pct: list[float]
    highest_pct: list[float]
    train_acc_pct: list[float]
    train_loss: list[float]
    val_loss: list[float]


@dataclass(frozen=True)
class Network:
    """One network of a comparison: a backbone in one variant, over all its seeds.

    Args:
        name: Of backbone and variant.
        backbone: Its registered name.
        variant: None where the comparison has none.
        seeds: Of each finished run, in ascending order.
        folds: How many there are in a repeat of cross-validation; None without.
        planned: How many runs there were to be.
        failed: How many of them failed or diverged.
        test_acc_pct: Of each run.
        accuracy_pct: Mean test accuracy; the interval covers other seeds and other test images, and with folds other
            training images.
        sd_points: Standard deviation over runs; None with one.
        metrics: By name, each combined by `cnn_compare.results.over_seeds`; without those that a seed lacks.
        contended: Whether other processes used the machine during a run.
        architecture: As in `RunResult`.
        calibration: None without predictions.
        class_acc_pct: Recall: accuracy on the test images of each class; empty without predictions.
        balanced_pct: Mean recall over the classes that the test set has; the interval covers other test images, and
            with folds other training images and seeds; None without predictions.
        confusion: Answers over all seeds: a row a true class, a column an answer; empty without predictions, and with
            more than `MOST_CLASSES` classes.
        mistakes: The commonest ones, counted in images, where ``confusion`` is too large to be shown.
        ensemble_acc_pct: Test accuracy of the mean probability of all seeds; None with one seed, or where a seed's
            probabilities are not stored.
        curves: None without curves.
        seconds_to_pct: Validation accuracy -> median training seconds until it is reached; None unless every seed did.
        epochs_s: Seconds of a usual training epoch of each seed; with one seed those of each epoch but the first.
        rounds_s: Seconds an epoch in each round in which the networks took turns; empty where they have not.
        times_fastest: How many times the seconds of the fastest network it takes; None where they have not. The
            intervals of all pairs together hold the truth in 95 % of comparisons.
        predict_ms: Milliseconds a prediction of one decoded picture takes; None where they were not measured.
        runs_at_chance: How many runs (with folds: repeats) are no better than guessing, over the classes.
        at_chance: Whether all are: the network learned nothing, and takes no part in the order.
        on_front: Whether it is on the Pareto front of accuracy and time; None where times cannot be ranked.
        dominated_by: As in `Standing`.
        unordered: As in `Standing`.
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
    contended: bool
    architecture: dict[str, Any]
    calibration: Calibration | None
    class_acc_pct: list[Estimate]
    balanced_pct: Estimate | None
    confusion: list[list[int]]
    mistakes: list[Mistake]
    ensemble_acc_pct: float | None
    curves: Curves | None
    seconds_to_pct: dict[int, float | None]
    epochs_s: list[float] = field(default_factory=list)
    rounds_s: list[float] = field(default_factory=list)
    times_fastest: Estimate | None = None
    predict_ms: Estimate | None = None
    runs_at_chance: int = 0
    at_chance: bool = False
    on_front: bool | None = None
    dominated_by: str | None = None
    unordered: list[str] = field(default_factory=list)

    @property
    def epoch_s(self) -> float | None:
        """Seconds of a usual training epoch, measured apart where that was done."""
        return self.metrics.get("train_epoch_s")

    @property
    def runs_in_words(self) -> str:
        """How many seeds, or folds and repeats, it was trained with."""
        count = len(self.seeds)
        if self.folds is None:
            return "one seed" if count == 1 else f"{count} seeds"
        if count < self.planned:
            return f"{count} of {self.planned} folds"
        return folds_in_words(self.folds, self.planned // self.folds)


@dataclass(frozen=True)
class Pair:
    """Two networks compared, the one with the higher mean accuracy first.

    Args:
        first: Name of the network with the higher mean.
        second: Name of the other one.
        points: By how many percentage points the first is more accurate. The intervals of all pairs together hold the
            truth in 95 % of comparisons.
        p: Of the test that there is no difference, of this pair alone.
        p_corrected: Corrected for the number of pairs.
        differs: Whether the difference is established after the correction.
        same: Whether it is established that they differ by less than the margin; None without a margin.
        of_trained: Whether all this is about the trained networks of one seed, and not about other seeds.
        seeds: How many seeds each has; with folds, how many both have.
        image_error_points: Standard error of the difference from the test images alone.
        detects_points: Number of seeds of each network, or of repeats with folds -> the smallest difference that so
            many establish in four comparisons of five, by the variances found here: first with as many as there are.
            Empty where one seed cannot tell.
    """

    first: str
    second: str
    points: Estimate
    p: float
    p_corrected: float
    differs: bool
    same: bool | None
    of_trained: bool
    seeds: tuple[int, int]
    image_error_points: float
    detects_points: dict[int, float] = field(hash=False)

    def detects_in_words(self, unit: str = "seed") -> str:
        """What more seeds, or repeats, would establish; not whether they would establish the difference found here.

        Source:
            Hoenig and Heisey 2001, doi:10.1198/000313001300339897: power at the found difference says nothing new.
        """
        if not self.detects_points:
            return "one seed cannot tell what more of them would show"
        shown = [
            f"{f'{points:.1f} points' if points < 100 else 'none'} with {count} {unit}{'s' if count > 1 else ''}"
            for count, points in self.detects_points.items()
        ]
        return f"found in four cases of five: {', '.join(shown)}"


@dataclass(frozen=True)
class Growth:
    """How a network's accuracy grows with the number of training images.

    Args:
        network: Its name.
        test_acc_pct: Number of training images, in ascending order -> of each seed.
        law: How its error falls; None where no law is to be believed.
        without_law: Why there is none.
    """

    network: str
    test_acc_pct: dict[int, list[float]]
    law: LearningCurve | None
    without_law: str | None


@dataclass(frozen=True)
class Searched:
    """The trials of one backbone, of which validation has chosen the settings of a variant.

    Args:
        backbone: Its name.
        trials: How many came to their end.
        failed: How many failed or diverged.
        seconds: Of training and validation, of all trials.
        settings: Dotted names and values that validation chose.
        expected_pct: Expected best validation accuracy after 1, 2, ... trials; the last is what validation promised.
        retest_pct: Mean validation accuracy of the chosen settings with other seeds; None with one seed.
        common_pct: Validation accuracy of the comparison's own settings with the trials' seed; None without that run.
        common_retest_pct: Their mean with other seeds.
    """

    backbone: str
    trials: int
    failed: int
    seconds: float
    settings: dict[str, Any]
    expected_pct: list[float]
    retest_pct: float | None = None
    common_pct: float | None = None
    common_retest_pct: float | None = None


@dataclass(frozen=True)
class Published:
    """Figures that others published, to stand beside a comparison.

    Args:
        source: Who published them, and where.
        figures: Backbone -> metric -> value.
        conditions: Each with the keys ``what``, ``here`` and ``published``.
    """

    source: str
    figures: dict[str, dict[str, float]]
    conditions: list[dict[str, str]]


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
        name: Of the user's file; None where that is not known.
        label: Its class.
        answer: The wrong answer most often given; where there was none, the right one.
        wrong_pct: In how many of all runs.
        answers: By network.
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
        name: Of the user's file; None where that is not known.
        label: The class that it has in the data.
        instead: The one that most runs name instead.
        contradicted_pct: In how many runs, every network counting the same.
        margin: Mean over the networks of the label's probability less that of the most probable other class.
    """

    image: int
    name: str | None
    label: str
    instead: str
    contradicted_pct: float
    margin: float


@dataclass(frozen=True)
class Leaks:
    """Test images that training has seen.

    Args:
        exact: How many have an exact copy among the training images.
        near: How many have near copies alone.
        images: Test images in all.
        complete: Whether all pairs were compared; if not, there may be more.
        without_pct: Network -> accuracy on the other test images; empty where single answers are not at hand.
        leaked_pct: Network -> accuracy on the leaked ones.
    """

    exact: int
    near: int
    images: int
    complete: bool
    without_pct: dict[str, Estimate]
    leaked_pct: dict[str, float]


@dataclass(frozen=True)
class Summary:
    """A comparison's outcome.

    Args:
        name: Of the comparison.
        other_pictures: A sentence where runs with different pictures are taken together; None where nothing says so.
        unfinished: How many runs of how many are finished, and which networks are missing; None if all runs are.
        recipe: Its name; None where it is not recorded.
        devices: Names of the devices.
        precisions: Lightning's names of them.
        monitors: What told the best epoch.
        recomputed_from: From how many training images batch norm's statistics were recomputed before each validation.
        fingerprints: Of the data, one a seed or fold where the comparison is controlled.
        warnings: Why it is not controlled, or why its times cannot be compared.
        declared_changes: What, by the comparison's own configuration, was not the same for all networks.
        varied: Dotted name of each setting that was not the same in all runs -> its values.
        timings_ranked: Whether times can be compared.
        times: How they were measured apart from the trainings; None where they were not.
        variants: Names, in the order of the configuration.
        class_names: In the order of the labels.
        class_images: Test images of each class; empty without predictions.
        test_images: How many there are, in all folds of a repeat; None where it is not recorded.
        test_groups: To how many groups they belong; None where no groups are known.
        folds: Of cross-validation, in words; None without.
        networks: The most accurate first.
        question: What the reader asked.
        pairs: Every pair of networks, or each network with the baseline.
        growth: Of each network that was trained with several numbers of images, in the order of ``networks``.
        verdict: The outcome in sentences.
        hardest: The test images that most runs got wrong.
        asked: Test images that the user named to `cnn-compare explain`.
        wrong_labels: Test images whose labels are possibly wrong, the most suspicious first, as far as that is likely.
        wrong_labels_pct: In how many of these the label is likely to be wrong; 0 where none is listed, None
            without predictions.
        leaks: None where they have not been looked for.
        pictures: Of single images; None where the data were not at hand.
        without_result: Runs that failed or are not finished, and files that are missing or unreadable: ``run``,
            ``reason``, ``status`` (``failed``, ``diverged``, ``unfinished``, ``file``) and the end of its ``log``.
        published: None where the comparison names none.
        searched: What trials chose for each backbone; empty without a search.
    """

    name: str
    other_pictures: str | None
    unfinished: str | None
    recipe: str | None
    devices: list[str]
    precisions: list[str]
    monitors: list[str]
    recomputed_from: list[str]
    fingerprints: list[str]
    warnings: list[str]
    declared_changes: list[str]
    varied: dict[str, list[str]]
    timings_ranked: bool
    times: Times | None
    variants: list[str]
    class_names: list[str]
    class_images: list[int]
    test_images: int | None
    test_groups: int | None
    folds: str | None
    networks: list[Network]
    question: Question
    pairs: list[Pair]
    growth: list[Growth]
    verdict: list[str]
    hardest: list[ShownImage]
    asked: list[ShownImage]
    wrong_labels: list[WrongLabel]
    wrong_labels_pct: float | None
    leaks: Leaks | None
    pictures: Pictures | None
    without_result: list[dict[str, str]]
    published: Published | None
    searched: list[Searched]

    @property
    def first(self) -> list[str]:
        """What must be known before anything else is read, in sentences."""
        return [sentence for sentence in (self.other_pictures, self.unfinished) if sentence]

    @property
    def unequal_classes(self) -> bool:
        """Whether some class has more test images than another."""
        return len(set(self.class_images)) > 1

    def shown_classes(self) -> list[int]:
        """Classes to show: all with test images or, of many, those with the lowest mean recall, the lowest first."""
        tested = [label for label, images in enumerate(self.class_images) if images]
        recalls = [network.class_acc_pct for network in self.networks if network.class_acc_pct]
        if not recalls or len(self.class_images) <= MOST_CLASSES:
            return tested
        return sorted(tested, key=lambda label: sum(recall[label].value for recall in recalls))[:LOWEST_CLASSES]


def folds_in_words(folds: int, repeats: int) -> str:
    """Such as ``5 folds × 2 repeats``."""
    return f"{folds} folds" + (f" × {repeats} repeats" if repeats > 1 else "")


def class_name(names: Sequence[str], label: int) -> str:
    """What a class is called; its number where that is not recorded."""
    return names[label] if label < len(names) else f"class {label}"


def which_classes(summary: Summary) -> str:
    """A sentence, after a space, where not all classes are shown."""
    shown, count = len(summary.shown_classes()), len(summary.class_images)
    return f" Of {count} classes, the {shown} with the lowest mean over the networks." if count > MOST_CLASSES else ""
