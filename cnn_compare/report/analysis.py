"""From stored runs to a `Summary`: figures, tests, warnings."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from cnn_compare.configs import differences
from cnn_compare.errors import InvalidValueError, ResultError
from cnn_compare.formatting import format_list
from cnn_compare.report import cross_validation, statistics
from cnn_compare.report.cross_validation import Fold, Folds
from cnn_compare.report.images import Answers, answers_of, by_network, leaks_warning, without_leaks
from cnn_compare.report.learning_curve import fit_learning_curve
from cnn_compare.report.load import Predictions, StoredRun, StoredRuns, distinct, read_probabilities
from cnn_compare.report.order import Ratios, more_accurate, standings, time_ratios
from cnn_compare.report.published import find_published
from cnn_compare.report.search import searched
from cnn_compare.report.statistics import LEVEL, Difference, Estimate, Sample
from cnn_compare.report.summary import (
    MOST_CLASSES,
    Curves,
    Growth,
    Mistake,
    Network,
    Pair,
    Question,
    Summary,
    folds_in_words,
)
from cnn_compare.report.verdict import verdict
from cnn_compare.results import (
    METRICS,
    VALIDATION_LAGS,
    WHY_IT_LAGS,
    RunFolder,
    RunResult,
    different_pictures,
    first_reached,
    over_seeds,
    training_s,
    validation_lags,
)
from cnn_compare.times import Times, interval, ratio

# Settings that differ between the runs of every comparison, and settings that cannot change a result.
EXPECTED_DIFFERENCES = {"seed_everything", "model.backbone", "own_recipe"}
TRAIN_SUBSET = "data.init_args.train_subset"
OF_FOLDS = {"data.init_args.fold", "data.init_args.split_seed"}
IRRELEVANT = {"data.init_args.data_dir", "trainer.default_root_dir", "trainer.logger"}
MISTAKES = 10
BALANCED = "test_balanced_acc_pct"
TRAINED_ON_TEST_SET = (
    "the folds are of training and test images together: accuracies do not compare with those on the data's own test "
    "set"
)
FEWEST_FOLDS = 5
UNFINISHED = "not finished; the same command again goes on with it"


def analyze(
    stored: StoredRuns,
    baseline: str | None = None,
    margin: float | None = None,
    limits: Mapping[str, float] | None = None,
) -> Summary:
    """Compute everything that a report shows.

    Args:
        stored: The runs.
        baseline: As in `Question`; None: what the comparison itself was asked.
        margin: As ``baseline``.
        limits: As in `Question`.

    Raises:
        InvalidValueError: As `find_question`.
    """
    question, ignored = find_question(stored, baseline, margin, limits)
    runs = stored.finished
    results = [run.result for run in runs]
    groups = by_network(runs)
    levels = _levels(runs)
    warnings, varied, ranked = _conditions(stored)
    cross_validated = any(result.fold is not None for result in results)
    samples, folds = ({}, _folds(groups, stored, "test_acc_pct")) if cross_validated else (_samples(groups), {})
    estimates = {name: cross_validation.accuracy_estimate(each) for name, each in folds.items()}
    estimates |= zip(samples, statistics.accuracy_estimates(list(samples.values())), strict=True)
    failed = Counter(run.network for run in stored.runs if run.result.status != "finished")
    networks = [
        _network(name, members, estimates[name], levels, planned=stored.planned[name], failed=failed[name])
        for name, members in groups.items()
    ]
    if all(network.balanced_pct and BALANCED in network.metrics for network in networks):
        for number, results_of in enumerate(_folds(groups, stored, BALANCED).values() if folds else ()):
            balanced = statistics.percent(cross_validation.accuracy_estimate(results_of))
            networks[number] = replace(networks[number], balanced_pct=balanced)
    if stored.times is not None:
        networks = _with_times(networks, stored.times)
    networks.sort(key=lambda network: -network.accuracy_pct.value)
    pairs = _asked(networks, question)
    compared = (
        _fold_pairs(pairs, folds, question) if folds else _pairs(networks, pairs, samples, question, _looks(stored))
    )
    seconds = {network.name: network.rounds_s or network.epochs_s for network in networks if not network.at_chance}
    ratios = time_ratios(seconds, in_turns=stored.times is not None) if ranked else {}
    networks = _in_order(networks, compared, ratios) if ranked else networks
    names = next((result.class_names for result in results if result.class_names), [])
    pictures = stored.pictures
    answers = Answers.of(runs, names, pictures.names if pictures else {})
    problems = list(stored.problems)
    try:
        published = find_published(stored)
    except ResultError as error:
        published = None
        problems.append(error)
    unfinished = _unfinished(stored)
    other_pictures = _other_pictures(stored)
    growth = [] if other_pictures else _growth(stored, networks)
    order = [network.name for network in networks]
    wrong_labels, wrong_labels_pct = answers.wrong_labels()
    leaked = without_leaks(pictures.leaked, answers, groups, folds) if pictures else None
    return Summary(
        name=str(stored.manifest.get("name", stored.folder.resolve().name)),
        other_pictures=other_pictures,
        unfinished=unfinished,
        recipe=stored.manifest.get("recipe"),
        devices=distinct(result.device for result in results),
        precisions=distinct(result.precision for result in results),
        monitors=distinct(run.config.get("monitor", "val/acc") for run in runs if run.config),
        recomputed_from=distinct(
            f"{callback['init_args']['images']:,}"
            for run in runs
            if run.config
            for callback in run.config.get("trainer", {}).get("callbacks") or []
            if callback["class_path"].endswith(".PreciseBatchNorm")
        ),
        fingerprints=distinct(result.data_fingerprint for result in results),
        # What was skipped of the user's files makes no times unequal, and is shown all the same.
        warnings=[
            *warnings,
            *ignored,
            *(leaks_warning(leaked, {each.name: each.accuracy_pct for each in networks}) if leaked else []),
            *_few_folds(networks),
            *([TRAINED_ON_TEST_SET] if folds and not any(result.data for result in results) else []),
            *_incomplete(networks),
            *_lagging(networks),
            *distinct(text for result in results for text in result.data.get("warnings", [])),
        ],
        declared_changes=_declared_changes(groups),
        varied=varied,
        timings_ranked=ranked,
        times=stored.times,
        variants=_variants(stored),
        class_names=names,
        class_images=np.bincount(answers.labels).tolist(),
        test_images=_test_images(groups),
        test_groups=None if answers.groups is None else len(np.unique(answers.groups)),
        folds=_folds_in_words(stored) if folds else None,
        networks=networks,
        question=question,
        pairs=compared,
        growth=growth,
        verdict=verdict(networks, compared, question, ratios if ranked else None, growth, complete=unfinished is None),
        hardest=answers.shown(answers.hardest(), order),
        asked=answers.shown(pictures.asked if pictures else [], order),
        wrong_labels=wrong_labels,
        wrong_labels_pct=wrong_labels_pct,
        leaks=leaked,
        pictures=pictures,
        without_result=_without_result(stored, problems),
        published=published,
        searched=searched(stored),
    )


def _unfinished(stored: StoredRuns) -> str | None:
    """A sentence about what is still missing; None if every planned run is finished."""
    finished = stored.all_finished
    counts = {
        "failed": len(stored.all_runs) - len(finished),
        "not finished": len(stored.unfinished),
        "with an unreadable result": sum(error.path.name == RunFolder.RESULT for error in stored.problems),
    }
    begun = len(finished) + sum(counts.values())
    total = max(begun, len(stored.planned_runs))
    if len(finished) == total:
        return None
    rest = ", ".join(f"{count} {what}" for what, count in {**counts, "not begun": total - begun}.items() if count)
    missing = [name for name in stored.planned if name not in by_network(stored.finished)]
    which = f"; networks without a finished run: {format_list(missing)}" if missing else ""
    return f"{len(finished)} of {total} runs are finished ({rest}){which}."


def _other_pictures(stored: StoredRuns) -> str | None:
    """A sentence if runs that are taken together had different pictures; None if nothing says so."""
    runs = {id(run.result): run.folder.relative_to(stored.folder).as_posix() for run in stored.all_finished}
    parts = []
    for results in different_pictures([run.result for run in stored.all_finished]):
        images = sum(split["images"] for split in results[0].data.get("splits", {}).values())
        others = f" and {len(results) - 1} more" if len(results) > 1 else ""
        parts.append(f"{runs[id(results[0])]}{others}" + (f" ({images:,} images)" if images else ""))
    return (
        f"Runs of different pictures are taken together in all that follows: {'; '.join(parts)}. "
        "`cnn-compare compare` trains those that --rerun names with the present pictures."
        if parts
        else None
    )


def _looks(stored: StoredRuns) -> list[list[int]]:
    """The seeds that were there at each look at the results, in the order of the looks; empty if there was only one."""
    seeds, looks = (stored.manifest.get(name) for name in ("seeds", "looks"))
    if not isinstance(seeds, list) or not isinstance(looks, list):  # A manifest may be damaged, or an older one.
        return []
    return [seeds[:look] for look in looks if isinstance(look, int)]


def _folds(groups: dict[str, list[StoredRun]], stored: StoredRuns, metric: str) -> dict[str, Folds]:
    """What is tested in cross-validation. Networks without folds share none with others, and nothing is claimed."""
    return {
        name: {
            (run.result.seed, run.result.fold): Fold(
                run.result.metrics[metric].value / 100,
                run.result.test_images or 1,
                max(2, len({fold for _, fold in stored.planned[name]})),
            )
            for run in members
        }
        for name, members in groups.items()
    }


def _folds_in_words(stored: StoredRuns) -> str:
    planned = set().union(*stored.planned.values())
    folds = {fold for _, fold in planned if fold is not None}
    return folds_in_words(len(folds), len({seed for seed, fold in planned if fold is not None}))


def _test_images(groups: dict[str, list[StoredRun]]) -> int | None:
    """How many a network is tested with; with folds, in a repeat."""
    tested: Counter[tuple[str, int]] = Counter()
    for name, members in groups.items():
        for run in members:
            tested[name, run.result.seed] += run.result.test_images or 0
    return max(tested.values(), default=0) or None


def _samples(groups: dict[str, list[StoredRun]]) -> dict[str, Sample]:
    """What is tested; with single answers where all runs of all networks were tested on the same images."""
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


def _conditions(stored: StoredRuns) -> tuple[list[str], dict[str, list[str]], bool]:
    """Warnings, the settings that varied, and whether times can be compared; all from the runs' own records."""
    runs = stored.all_finished
    results = [run.result for run in runs]
    configured = [run.config for run in runs if run.config]
    different = differences(configured) if configured else {}
    different = {name: values for name, values in different.items() if _is_known(name, configured)}
    varied = {
        name: sorted(set(map(str, values)))
        for name, values in different.items()
        if name not in IRRELEVANT and not name.startswith("trainer.callbacks")
    }
    mixed = {
        "devices": distinct(result.device for result in results),
        "precisions": distinct(result.precision for result in results),
        "recipes": distinct(result.recipe for result in results),
        "versions": distinct(_versions(result.versions) for result in results if result.versions),
    }
    warnings = [f"mixed {what}: {'; '.join(values)}" for what, values in mixed.items() if len(values) > 1]
    declared = {name for result in results for name in result.declared_changes}
    expected = EXPECTED_DIFFERENCES | declared
    if all(result.fold is not None for result in results):
        expected |= OF_FOLDS
    if any(result.train_subset is not None for result in results):
        expected |= {TRAIN_SUBSET}
    if recipes := {name: values for name, values in varied.items() if name not in expected}:
        settings = "; ".join(f"{name} is {' or '.join(values)}" for name, values in recipes.items())
        warnings.append(f"mixed recipes: {settings}")
    shown: dict[tuple[int, int | None, int | None, str], set[str | None]] = {}
    for result in results:
        data = {name: value for name, value in sorted(result.declared_changes.items()) if name.startswith("data.")}
        which = (result.seed, result.fold, result.train_subset, str(data))
        shown.setdefault(which, set()).add(result.data_fingerprint)
    if any(len(fingerprints) > 1 for fingerprints in shown.values()):
        warnings.append("mixed data: networks with the same seed had different images, orders or augmentation")
    if stored.times is not None:
        if stored.times.contended:
            warnings.append(
                "contended: other processes used the machine while the networks took turns to measure their times; "
                "the seconds are those of a busy machine, and the ratios have wider intervals"
            )
        return warnings, varied, True
    runs = stored.finished
    if contended := list(dict.fromkeys(run.network for run in runs if run.result.contended)):
        warnings.append(f"contended: other processes used the machine while {', '.join(contended)} trained")
    if untimed := list(dict.fromkeys(run.network for run in runs if run.result.value("train_epoch_s") is None)):
        warnings.append(f"no time per epoch: {', '.join(untimed)} did not reach the end of one")
    return warnings, varied, not warnings


def _is_known(setting: str, configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the version behind each run knew a setting; a later one has added it, and kept what was before."""
    *sections, name = setting.split(".")
    for config in configs:
        section: Any = config
        for key in sections:
            section = section.get(key) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping) and name not in section:
            return False
    return True


def _variants(stored: StoredRuns) -> list[str]:
    """In the order of the manifest, where it has them."""
    trained = [run.result.variant for run in stored.finished if run.result.variant is not None]
    manifest = stored.manifest.get("variants")
    order = list(manifest) if isinstance(manifest, dict) else []
    return [name for name in dict.fromkeys([*order, *trained]) if name in trained]


def _declared_changes(groups: dict[str, list[StoredRun]]) -> list[str]:
    """Sentences about settings that differ between networks on purpose."""
    names: dict[str, list[str]] = {}
    for name, members in groups.items():
        changed = members[0].result.declared_changes.items()
        settings = ", ".join(f"{setting} = {value}" for setting, value in changed if value is not None)
        names.setdefault(settings, []).append(name)
    return [
        f"declared, not controlled: {settings} for {format_list(names[settings])}" for settings in names if settings
    ]


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))


def _network(
    name: str,
    runs: Sequence[StoredRun],
    estimate: Estimate,
    levels: Sequence[int],
    planned: Set[tuple[int, int | None]],
    failed: int,
) -> Network:
    results = [run.result for run in runs]
    accuracies = [result.metrics["test_acc_pct"].value for result in results]
    names = set.intersection(*(set(result.metrics) for result in results))
    several = len(accuracies) > 1
    predictions = answers_of(runs)
    folds = {fold for _, fold in planned if fold is not None}
    by_class: dict[str, Any] = {"class_acc_pct": [], "balanced_pct": None, "confusion": [], "mistakes": []}
    seconds = results[0].train_epochs_s[1:]
    if several:
        seconds = [value for result in results if (value := result.value("train_epoch_s")) is not None]
    answered = bool(predictions) and all(run.predictions for run in runs)
    at_chance = sum(map(_guesses, predictions)) if answered else sum(map(_seems_to_guess, results))
    return Network(
        name=name,
        backbone=results[0].backbone,
        variant=results[0].variant,
        seeds=[result.seed for result in results],
        folds=len(folds) or None,
        planned=len(planned),
        failed=failed,
        test_acc_pct=accuracies,
        accuracy_pct=statistics.percent(estimate),
        sd_points=float(np.std(accuracies, ddof=1)) if several else None,
        metrics={name: over_seeds([result.metrics[name] for result in results]) for name in sorted(names)},
        contended=any(result.contended for result in results),
        architecture=next((result.architecture for result in results if result.architecture), {}),
        calibration=statistics.calibration(
            np.stack([run.confidence for run in predictions]).astype(np.float32),
            np.stack([run.predictions == run.labels for run in predictions]),
            predictions[0].groups,
        )
        if predictions and len({len(run.labels) for run in predictions}) == 1
        else None,
        **(_by_class(predictions) if answered else by_class),
        ensemble_acc_pct=_ensemble(runs),
        curves=_curves(runs),
        seconds_to_pct={level: _seconds_to(runs, level) for level in levels},
        epochs_s=seconds,
        runs_at_chance=at_chance,
        at_chance=at_chance == (len(predictions) if answered else len(runs)),
    )


def _guesses(answers: Predictions) -> bool:
    """Whether a run's mean recall is within what guesses, or one answer to all images, reach by chance."""
    images = np.bincount(answers.labels)
    recalls = np.bincount(answers.labels[answers.labels == answers.predictions], minlength=len(images))
    tested = images > 0
    return _by_chance(float((recalls[tested] / images[tested]).mean()), images[tested])


def _seems_to_guess(result: RunResult) -> bool:
    """The same where answers are not at hand; False where the number of classes is not recorded."""
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


def _with_times(networks: Sequence[Network], times: Times) -> list[Network]:
    """With the seconds an epoch that were measured apart, in the place of those by the training's own clock."""
    fastest = min((times.epoch_s[network.name] for network in networks), key=interval, default=[])
    level = LEVEL / max(math.comb(len(networks), 2), 1)

    def timed(network: Network) -> Network:
        rounds_s = times.epoch_s[network.name]
        epoch_s, *_ = interval(rounds_s)
        own = {} if network.epoch_s is None else {"own_clock_epoch_s": network.epoch_s}
        predict_ms = times.predict_ms.get(network.name)
        prediction = None if predict_ms is None else Estimate(*interval(predict_ms))
        predicting = {} if prediction is None else {"predict_ms": prediction.value}
        return replace(
            network,
            metrics={**network.metrics, **own, **predicting, "train_epoch_s": epoch_s},
            predict_ms=prediction,
            rounds_s=rounds_s,
            times_fastest=Estimate(*ratio(rounds_s, fastest, level)),
        )

    return [timed(network) for network in networks]


def _by_class(predictions: Sequence[Predictions]) -> dict[str, Any]:
    """Accuracy of each class, and the confusion over all seeds or, with many classes, the commonest mistakes."""
    labels = np.concatenate([run.labels for run in predictions]).astype(int)
    answers = np.concatenate([run.predictions for run in predictions]).astype(int)
    classes = 1 + int(max(labels.max(), answers.max()))
    images = np.bincount(labels, minlength=classes)
    shares = np.bincount(labels[labels == answers], minlength=classes) / np.maximum(images, 1)
    recalls = [
        statistics.share_estimate(share, *_independent(predictions, label, count))
        for label, (share, count) in enumerate(zip(shares.tolist(), (images // len(predictions)).tolist(), strict=True))
    ]
    found: dict[str, Any] = {"class_acc_pct": [*map(statistics.percent, recalls)], "confusion": [], "mistakes": []}
    tested = [recall for recall in recalls if not math.isnan(recall.low)]
    together = [
        statistics.variance_together(each.predictions == each.labels, each.labels, each.groups)
        for each in predictions
        if each.groups is not None
    ]
    balanced = statistics.balanced_estimate(tested, float(np.mean(together)) if together else 1.0)
    found["balanced_pct"] = statistics.percent(balanced)
    if classes <= MOST_CLASSES:
        counts = np.bincount(labels * classes + answers, minlength=classes * classes)
        return {**found, "confusion": counts.reshape(classes, classes).tolist()}
    wrong = labels != answers
    pairs, counts = np.unique(labels[wrong] * classes + answers[wrong], return_counts=True)
    for index in np.argsort(-counts, kind="stable")[:MISTAKES]:
        label, answer = divmod(int(pairs[index]), classes)
        found["mistakes"].append(Mistake(label, answer, 100 * float(counts[index] / images[label])))
    return found


def _independent(predictions: Sequence[Predictions], label: int, images: int) -> tuple[float, float]:
    """How many independent images a class has, of so many, and with how many degrees of freedom that is known."""
    samples = []
    for answers in predictions:
        of_class = answers.labels == label
        if answers.groups is not None and of_class.any():
            right = (answers.predictions == answers.labels)[None, of_class]
            samples.append(Sample.of(right, answers.groups[of_class]))
    if not samples:
        return images, math.inf
    return float(np.mean([each.effective_images for each in samples])), min(each.image_freedom for each in samples)


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


def _column(run: StoredRun, name: str, rows: int) -> np.ndarray:
    """A curve's first rows; NaN if there is no such curve."""
    if name not in run.curves:
        return np.full(rows, np.nan)
    return run.curves[name].to_numpy(float)[:rows]


def _curves(runs: Sequence[StoredRun]) -> Curves | None:
    lengths = [len(run.curves) for run in runs if "val/acc" in run.curves]
    if not lengths:
        return None
    rows = min(lengths)  # Early stopping ends seeds at different epochs; the curve goes as far as all of them.
    with_curves = [run for run in runs if "val/acc" in run.curves]

    def over_seeds(name: str) -> np.ndarray:
        return np.stack([_column(run, name, rows) for run in with_curves])

    validation = 100 * over_seeds("val/acc")
    return Curves(
        epochs=_epochs(with_curves[0])[:rows],
        seconds=np.mean([np.cumsum(_training_s(run)[:rows]) for run in with_curves], 0).tolist(),
        val_acc_pct=validation.mean(0).tolist(),
        lowest_pct=validation.min(0).tolist(),
        highest_pct=validation.max(0).tolist(),
        train_acc_pct=(100 * over_seeds("train/acc").mean(0)).tolist(),
        train_loss=over_seeds("train/loss").mean(0).tolist(),
        val_loss=over_seeds("val/loss").mean(0).tolist(),
    )


def _epochs(run: StoredRun) -> list[float]:
    """When each row of a run's curves was measured, in epochs; the end of the first is 0."""
    epochs = run.curves["epoch"]
    if epochs.is_unique or "step" not in run.curves:
        return [int(epoch) for epoch in epochs]
    # Validations within epochs have rows too.
    steps = run.curves["step"]
    return [float(step) for step in steps / steps[epochs == epochs.iloc[0]].max() - 1]


def _training_s(run: StoredRun) -> list[float]:
    rows: list[Any] = run.curves.to_dict("records")
    return training_s(rows)


def _incomplete(networks: Sequence[Network]) -> list[str]:
    """Networks without some of their runs, and those with runs that learned nothing."""

    def each(of: Sequence[tuple[Network, int]]) -> str:
        return format_list([f"{network.name} ({count} of {network.planned})" for network, count in of])

    failed = [(network, network.failed) for network in networks if network.failed]
    lost = [
        (network, network.runs_at_chance) for network in networks if network.runs_at_chance and not network.at_chance
    ]
    missing = [network.name for network in networks if network.folds and len(network.seeds) < network.planned]
    found = []
    if failed:
        others = "accuracies are those of the others, and may be too high for that reason"
        found.append(f"runs that failed: {each(failed)}; {others}")
    if lost:
        found.append(f"runs that learned nothing: {each(lost)}; the mean accuracy counts them")
    if missing:
        found.append(f"without a result on some folds: {format_list(missing)}; two are compared on those both have")
    return found


def _lagging(networks: Sequence[Network]) -> list[str]:
    """Which networks' validation is far below training at first, with the reason."""
    curves = {network.name: network.curves for network in networks if network.curves}
    found = {name: validation_lags(each.train_acc_pct, each.val_acc_pct) for name, each in curves.items()}
    lags = [f"{name} ({lag})" for name, lag in found.items() if lag]
    return [f"{VALIDATION_LAGS} {format_list(lags)}. {WHY_IT_LAGS}"] if lags else []


def _few_folds(networks: Sequence[Network]) -> list[str]:
    fewest = min((network.folds for network in networks if network.folds), default=FEWEST_FOLDS)
    if fewest >= FEWEST_FOLDS:
        return []
    left_out = f"every network was trained without 1/{fewest} of the images, and intervals are wide"
    return [f"{fewest} folds: {left_out}; --folds={FEWEST_FOLDS} and more, and --repeats, say more"]


def _levels(runs: Sequence[StoredRun]) -> list[int]:
    """Up to four round validation accuracies, in percent, that at least one run reached."""
    best = max((100 * run.curves["val/acc"].max() for run in runs if "val/acc" in run.curves), default=0.0)
    rounded = [*range(10, 90, 10), 90, 92, 94, 95, 96, 97, 98, 99]
    return [level for level in rounded if level <= best][-4:]


def _seconds_to(runs: Sequence[StoredRun], level_pct: int) -> float | None:
    """Median over seeds of the training seconds until a validation accuracy is first reached; None unless all do."""
    seconds = [
        first_reached((100 * run.curves["val/acc"]).tolist(), _training_s(run), level_pct)
        for run in runs
        if {"val/acc", "time/train_epoch_s"} <= set(run.curves)
    ]
    reached = [value for value in seconds if value is not None]
    return float(np.median(reached)) if reached and len(reached) == len(seconds) else None


def _in_order(networks: Sequence[Network], pairs: Sequence[Pair], ratios: Ratios) -> list[Network]:
    """With where each stands in accuracy and time; a network that learned nothing stands nowhere."""
    learned = {network.name: network for network in networks if not network.at_chance}
    seconds = {name: network.epoch_s or math.nan for name, network in learned.items()}
    accuracies = {name: network.accuracy_pct.value for name, network in learned.items()}
    found = standings(accuracies, seconds, more_accurate(pairs), ratios)
    return [
        replace(network, **vars(found[network.name]), on_front=found[network.name].on_front)
        if network.name in found
        else network
        for network in networks
    ]


def find_question(
    stored: StoredRuns,
    baseline: str | None = None,
    margin: float | None = None,
    limits: Mapping[str, float] | None = None,
) -> tuple[Question, list[str]]:
    """What a report is to answer, and sentences about what of the manifest's question is ignored.

    The arguments are as for `analyze`.

    Raises:
        InvalidValueError: If the baseline given is no network with finished runs, the margin given is out of range, or
            a limit has an unknown metric or no number.
    """
    names = list(by_network(stored.finished))
    asked = stored.manifest
    ignored = []
    if baseline is None and (baseline := asked.get("baseline")) is not None and baseline not in names:
        ignored.append(f"the comparison's baseline, {baseline}, has no finished run: every pair is compared")
        baseline = None
    if margin is None and (margin := asked.get("margin")) is not None and not _usable(margin):
        ignored.append(f"the comparison's margin, {margin}, is no number of points, and is not used")
        margin = None
    if baseline is not None and baseline not in names:
        raise InvalidValueError("baseline", baseline, f"a network with finished runs: {', '.join(names)}")
    if margin is not None and not _usable(margin):
        raise InvalidValueError("margin", margin, "more than 0 points, up to 100")
    for metric, limit in (limits or {}).items():
        if METRICS.get(metric, ("", None))[1] is None:
            known = ", ".join(name for name, (_, more_is_better) in METRICS.items() if more_is_better is not None)
            raise InvalidValueError("limit", metric, f"one of {known}")
        if not math.isfinite(limit):
            raise InvalidValueError("limit", f"{metric}={limit}", "METRIC=NUMBER, such as params=10e6")
    return Question(baseline, margin, dict(limits or {})), ignored


def _usable(margin: object) -> bool:
    return isinstance(margin, int | float) and 0 < margin <= 100


def _asked(networks: Sequence[Network], question: Question) -> list[tuple[Network, Network]]:
    """Every pair that the question is about."""
    return [
        (first, second)
        for first, second in itertools.combinations(networks, 2)
        if question.baseline is None or question.baseline in (first.name, second.name)
    ]


def _fold_pairs(pairs: Sequence[tuple[Network, Network]], folds: dict[str, Folds], question: Question) -> list[Pair]:
    """What cross-validation shows of each pair."""
    names = list(folds)
    numbers = [(names.index(first.name), names.index(second.name)) for first, second in pairs]
    found = cross_validation.differences([folds[name] for name in names], numbers)
    shared = [len(cross_validation.shared_folds(folds[first.name], folds[second.name])) for first, second in pairs]

    def detects(first: Network, error: float, count: int) -> dict[int, float]:
        if count < 2 or first.folds is None:
            return {}
        repeats = max(1, count // first.folds)
        return {
            each: 100 * cross_validation.smallest_difference(error, count, first.folds, each, len(pairs))
            for each in (repeats * factor for factor in (1, 2, 4))
        }

    return [
        replace(
            _pair(*pair, [difference], question, (count, count)),
            detects_points=detects(pair[0], sum(error for error, _ in difference.error.seeds), count),
        )
        for pair, difference, count in zip(pairs, found, shared, strict=True)
    ]


def _pairs(
    networks: Sequence[Network],
    pairs: Sequence[tuple[Network, Network]],
    samples: dict[str, Sample],
    question: Question,
    looks: Sequence[Sequence[int]],
) -> list[Pair]:
    """What each pair shows: of architectures where both have several seeds, else of one seed's."""
    if not pairs:
        return []
    families: dict[bool, list[tuple[Network, Network]]] = {True: [], False: []}
    for pair in pairs:
        families[min(len(network.seeds) for network in pair) > 1].append(pair)

    def of_seeds(network: Network, seeds: Sequence[int]) -> Sample:
        return _of_seeds(samples[network.name], [index for index, seed in enumerate(network.seeds) if seed in seeds])

    several = [network for network in networks if len(network.seeds) > 1]
    shared = set.intersection(*(set(network.seeds) for network in networks))
    single = {network.name: of_seeds(network, [min(shared or network.seeds)]) for network in networks}
    all_seeds = {network.name: samples[network.name] for network in several}
    earlier = [{network.name: of_seeds(network, look) for network in several} for look in looks]
    # The last look is at all seeds; an earlier one counts if it had what a test needs.
    earlier = [
        look
        for look in earlier
        if min((sample.seeds for sample in look.values()), default=0) > 1
        and any(look[name].seeds < all_seeds[name].seeds for name in look)
    ]
    shares = {of_architectures: LEVEL * len(family) / len(pairs) for of_architectures, family in families.items()}
    compared = {
        **_compared(families[True], all_seeds, question, shares[True] / max(len(looks), 1), earlier),
        **_compared(families[False], single, question, shares[False]),
    }
    return [compared[first.name, second.name] for first, second in pairs]


def _of_seeds(sample: Sample, chosen: Sequence[int]) -> Sample:
    """The sample with some of its seeds, by their position."""
    correct = None if sample.correct is None else sample.correct[list(chosen)]
    return replace(sample, accuracies=[sample.accuracies[seed] for seed in chosen], correct=correct)


def _excludes_0(share: Estimate) -> bool:
    return share.low > 0 or share.high < 0


def _within(share: Estimate, margin: float) -> bool:
    return max(-100 * share.low, 100 * share.high) < margin


def _detects(difference: Difference, seeds: tuple[int, int], pairs: int) -> dict[int, float]:
    """What as many seeds as there are, twice and four times as many establish; see `Pair.detects_points`."""
    squares = [error**2 * count for (error, _), count in zip(difference.error.seeds, seeds, strict=True)]
    deviation = math.sqrt(sum(squares) / 2)
    return {
        count: 100 * statistics.smallest_difference(count, deviation, difference.error.images, pairs)
        for count in (min(seeds) * factor for factor in (1, 2, 4))
    }


def _compared(
    pairs: Sequence[tuple[Network, Network]],
    samples: dict[str, Sample],
    question: Question,
    level: float,
    earlier: Sequence[dict[str, Sample]] = (),
) -> dict[tuple[str, str], Pair]:
    """One family of pairs, corrected together.

    Args:
        pairs: The family.
        samples: By network, in any order.
        question: For its margin.
        level: The family's share of `LEVEL`, at each look.
        earlier: The samples at earlier looks: what one has decided remains so, its level was spent on that.
    """
    names = list(samples)
    numbers = [(names.index(first.name), names.index(second.name)) for first, second in pairs]
    found, *before = (
        statistics.differences([look[name] for name in names], numbers, level) for look in (samples, *earlier)
    )
    result = {}
    for index, ((first, second), difference) in enumerate(zip(pairs, found, strict=True)):
        looked = [difference, *(look[index] for look in before)]
        a, b = (samples[network.name] for network in (first, second))
        pair = _pair(first, second, looked, question, (len(first.seeds), len(second.seeds)))
        detects = _detects(difference, (a.seeds, b.seeds), len(pairs)) if a.seeds > 1 else {}
        result[first.name, second.name] = replace(pair, of_trained=a.seeds == 1, detects_points=detects)
    return result


def _growth(stored: StoredRuns, networks: Sequence[Network]) -> list[Growth]:
    """Of each network that was trained with several numbers of images."""
    found = []
    groups = by_network(stored.all_finished)
    for network in networks:
        accuracies: dict[int, list[float]] = {}
        results = [run.result for run in groups[network.name] if run.result.train_images and run.result.fold is None]
        for result in sorted(results, key=lambda result: result.train_images or 0):
            accuracies.setdefault(result.train_images or 0, []).append(result.metrics["test_acc_pct"].value)
        if len(accuracies) < 2:
            continue
        errors = {size: [1 - each / 100 for each in of_size] for size, of_size in accuracies.items()}
        # Where the number of test images is not recorded, the accuracies say as little as possible.
        law = fit_learning_curve(errors, min(result.test_images or 1 for result in results))
        fitted, reason = (None, law) if isinstance(law, str) else (law, None)
        found.append(Growth(network.name, accuracies, fitted, reason))
    return found


def _pair(
    first: Network, second: Network, looked: Sequence[Difference], question: Question, runs: tuple[int, int]
) -> Pair:
    """What the last of the looks at a difference shows, and what any of them has decided."""
    difference = looked[0]
    return Pair(
        first=first.name,
        second=second.name,
        points=statistics.percent(difference.share),
        p=difference.p,
        p_corrected=difference.p_corrected,
        differs=any(_excludes_0(each.share) for each in looked),
        same=None if question.margin is None else any(_within(each.share, question.margin) for each in looked),
        of_trained=False,
        seeds=runs,
        image_error_points=100 * difference.error.images,
        detects_points={},
    )


def _without_result(stored: StoredRuns, problems: Sequence[ResultError]) -> list[dict[str, str]]:
    """Failed and unfinished runs, and unusable files, each with the reason."""

    def entry(path: Path, status: str, reason: str, log: str = "") -> dict[str, str]:
        return {"run": path.relative_to(stored.folder).as_posix(), "status": status, "reason": reason, "log": log}

    failed = [
        entry(
            run.folder,
            run.result.status,
            ("diverged: " if run.result.status == "diverged" else "") + (run.result.reason or "unknown"),
            "\n".join(run.result.log_tail),
        )
        for run in stored.all_runs
        if run.result.status != "finished"
    ]
    unfinished = [entry(path, "unfinished", UNFINISHED) for path in stored.unfinished]
    return failed + unfinished + [entry(error.path, "file", error.reason) for error in problems]
