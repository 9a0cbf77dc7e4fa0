"""What a comparison shows: stored runs in, figures, tests and a verdict in words out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnn_compare.configs import differences
from cnn_compare.report import statistics
from cnn_compare.report.load import StoredRun, StoredRuns
from cnn_compare.report.statistics import Calibration, Difference, Estimate

# What differs between the runs of a comparison by its very idea, and what cannot change a result.
EXPECTED_DIFFERENCES = {"seed_everything", "model.backbone", "own_recipe"}
IRRELEVANT = {"data.init_args.data_dir", "trainer.default_root_dir", "trainer.logger"}
PAIRS_IN_WORDS = 6
HARDEST = 10

# The student report of 2023 that this project grew out of: ImageNet-pretrained torchvision networks, ten epochs of
# Adam, normalised with 0.5/0.5, PyTorch 2.0.1 on an RTX 3060. (seconds an epoch, accuracy %)
REPORT_2023 = {"alexnet": (17, 70.40), "vgg16": (129, 70.66), "googlenet": (26, 82.46), "resnet18": (17, 79.14)}


@dataclass(frozen=True)
class Curves:
    """Learning curves of one network, one value an epoch; accuracies in percent, over its seeds."""

    epochs: list[int]
    seconds: list[float]
    val_acc_pct: list[float]
    lowest_pct: list[float]
    highest_pct: list[float]
    train_acc_pct: list[float]
    train_loss: list[float]
    val_loss: list[float]


@dataclass(frozen=True)
class Network:
    """Everything known of one network of a comparison; units as in `RunResult`, means or medians over its seeds.

    ``accuracy_pct`` carries the interval for other seeds and other test images, ``seeds_pct`` the t interval for other
    seeds alone (None with one seed). ``dominated_by`` names a network that is at least as accurate and as fast;
    ``on_front`` is None where times cannot be ranked. ``rank_shares`` tell how often it takes each rank when seeds and
    test images are drawn anew.
    """

    name: str
    backbone: str
    variant: str | None
    seeds: list[int]
    test_acc_pct: list[float]
    accuracy_pct: Estimate
    sd_points: float | None
    seeds_pct: Estimate | None
    best_val_acc_pct: float | None
    top5_pct: float | None
    macro_f1_pct: float | None
    generalisation_gap_points: float | None
    epoch_s: float | None
    first_epoch_s: float | None
    images_per_s: float | None
    fit_s: float | None
    energy_j_per_epoch: float | None
    params: int | None
    macs: int | None
    peak_memory_bytes: int | None
    contended: bool
    architecture: dict[str, Any]
    calibration: Calibration | None
    class_acc_pct: list[float]
    confusion: list[list[int]]
    curves: Curves | None
    seconds_to_pct: dict[int, float | None]
    rank_shares: list[float] = field(default_factory=list)
    on_front: bool | None = None
    dominated_by: str | None = None


@dataclass(frozen=True)
class Pair:
    """Two networks, the more accurate one first; ``points`` is how much more, in percentage points of accuracy."""

    first: str
    second: str
    points: Estimate
    p: float
    p_holm: float
    differs: bool
    seeds: int
    method: str
    seeds_needed: float | None
    p_paired_t: float | None


@dataclass(frozen=True)
class Findings:
    """A comparison's outcome; the networks stand in the order of their accuracy.

    ``warnings`` say why it is not controlled or its times are not to be compared; ``declared`` say what, by the
    comparison's own configuration, was not the same for all networks, and ``variants`` are its names for that;
    ``varied`` maps each setting that is not the same everywhere to its values; ``hardest`` are the test images that
    most runs got wrong.
    """

    name: str
    recipe: str | None
    devices: list[str]
    precisions: list[str]
    fingerprints: list[str]
    warnings: list[str]
    declared: list[str]
    varied: dict[str, list[str]]
    timings_ranked: bool
    variants: list[str]
    class_names: list[str]
    test_images: int | None
    networks: list[Network]
    pairs: list[Pair]
    verdict: list[str]
    hardest: list[dict[str, Any]]
    without_result: list[dict[str, str]]
    beside_2023: dict[str, Any] | None


def find(stored: StoredRuns) -> Findings:
    """Work out everything a report says."""
    runs = stored.finished
    results = [run.result for run in runs]
    groups = _groups(runs)
    levels = _levels(runs)
    warnings, varied, ranked = _conditions(stored)
    correct = _correct(groups)
    networks = [_network(name, members, correct[name], levels) for name, members in groups.items()]
    networks.sort(key=lambda network: -network.accuracy_pct.value)
    networks = _ranked(networks, correct, ranked)
    pairs = _pairs(networks, groups, correct)
    names = next((result.class_names for result in results if result.class_names), [])
    return Findings(
        name=str(stored.manifest.get("name", stored.folder.resolve().name)),
        recipe=stored.manifest.get("recipe"),
        devices=_distinct(result.device for result in results),
        precisions=_distinct(result.precision for result in results),
        fingerprints=_distinct(result.data_fingerprint for result in results),
        warnings=warnings,
        declared=_declared(groups),
        varied=varied,
        timings_ranked=ranked,
        variants=_variants(stored),
        class_names=names,
        test_images=max((result.test_images for result in results if result.test_images), default=None),
        networks=networks,
        pairs=pairs,
        verdict=_verdict(networks, pairs, ranked),
        hardest=_hardest(runs, names),
        without_result=_without_result(stored),
        beside_2023=_beside_2023(stored, networks),
    )


def _distinct(values: Any) -> list[str]:
    return sorted({str(value) for value in values if value is not None})


def _groups(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    groups: dict[str, list[StoredRun]] = {}
    for run in sorted(runs, key=lambda run: run.result.seed):
        groups.setdefault(run.network, []).append(run)
    return groups


def _correct(groups: dict[str, list[StoredRun]]) -> dict[str, statistics.Correct | None]:
    """``(seeds, images)`` of each network; None unless all its runs answered the images that the others did."""
    all_runs = [run for members in groups.values() for run in members]
    labels = next((run.predictions.labels for run in all_runs if run.predictions), np.empty(0))

    def comparable(run: StoredRun) -> bool:
        return run.predictions is not None and np.array_equal(run.predictions.labels, labels)

    return {
        name: np.stack([run.predictions.predictions == labels for run in members if run.predictions])
        if all(comparable(run) for run in members)
        else None
        for name, members in groups.items()
    }


def _conditions(stored: StoredRuns) -> tuple[list[str], dict[str, list[str]], bool]:
    """Warnings, the settings that varied, and whether times can be compared; all read from what the runs recorded."""
    runs = stored.finished
    results = [run.result for run in runs]
    configured = [run.config for run in runs if run.config]
    found = differences(configured) if configured else {}
    varied = {
        name: sorted(set(map(str, values)))
        for name, values in found.items()
        if name not in IRRELEVANT and not name.startswith("trainer.callbacks")
    }
    mixed = {
        "devices": _distinct(result.device for result in results),
        "precisions": _distinct(result.precision for result in results),
        "recipes": _distinct(result.recipe for result in results),
        "versions": _distinct(_versions(result.versions) for result in results if result.versions),
    }
    warnings = [f"mixed {what}: {'; '.join(values)}" for what, values in mixed.items() if len(values) > 1]
    declared = {name for result in results for name in result.declared}
    if recipes := {name: values for name, values in varied.items() if name not in EXPECTED_DIFFERENCES | declared}:
        settings = "; ".join(f"{name} is {' or '.join(values)}" for name, values in recipes.items())
        warnings.append(f"mixed recipes: {settings}")
    shown: dict[tuple[int, str], set[str | None]] = {}
    for result in results:
        data = {name: value for name, value in sorted(result.declared.items()) if name.startswith("data.")}
        shown.setdefault((result.seed, str(data)), set()).add(result.data_fingerprint)
    if any(len(fingerprints) > 1 for fingerprints in shown.values()):
        warnings.append("mixed data: networks with the same seed were shown different images, orders or augmentation")
    if contended := list(dict.fromkeys(run.network for run in runs if run.result.contended)):
        warnings.append(f"contended: others used the machine while {', '.join(contended)} trained")
    if untimed := list(dict.fromkeys(run.network for run in runs if run.result.steady_epoch_s is None)):
        warnings.append(f"no time per epoch: {', '.join(untimed)} did not reach the end of one")
    return warnings, varied, not warnings


def _variants(stored: StoredRuns) -> list[str]:
    """In the order of the manifest, where it has them."""
    found = [run.result.variant for run in stored.finished if run.result.variant is not None]
    manifest = stored.manifest.get("variants")
    order = list(manifest) if isinstance(manifest, dict) else []
    return [name for name in dict.fromkeys([*order, *found]) if name in found]


def _declared(groups: dict[str, list[StoredRun]]) -> list[str]:
    """In what networks were trained otherwise on purpose, and which."""
    names: dict[str, list[str]] = {}
    for name, members in groups.items():
        changed = members[0].result.declared.items()
        settings = ", ".join(f"{setting} = {value}" for setting, value in changed if value is not None)
        names.setdefault(settings, []).append(name)
    return [f"declared, not controlled: {settings} for {_list(names[settings])}" for settings in names if settings]


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))


def _mean(values: Any) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def _median(values: Any) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.median(present)) if present else None


def _percent(estimate: Estimate) -> Estimate:
    return Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high)


def _network(
    name: str, runs: Sequence[StoredRun], correct: statistics.Correct | None, levels: Sequence[int]
) -> Network:
    results = [run.result for run in runs]
    accuracies = [float(result.test_acc_pct or 0.0) for result in results]
    several = len(accuracies) > 1
    predictions = [run.predictions for run in runs if run.predictions]
    confusion = _confusion(runs) if correct is not None else np.empty((0, 0), int)
    return Network(
        name=name,
        backbone=results[0].backbone,
        variant=results[0].variant,
        seeds=[result.seed for result in results],
        test_acc_pct=accuracies,
        accuracy_pct=_percent(_accuracy(accuracies, results[0].test_images, correct)),
        sd_points=float(np.std(accuracies, ddof=1)) if several else None,
        seeds_pct=statistics.seed_interval(accuracies) if several else None,
        best_val_acc_pct=_mean(result.best_val_acc_pct for result in results),
        top5_pct=_mean(result.test_top5_pct for result in results),
        macro_f1_pct=_mean(result.test_macro_f1_pct for result in results),
        generalisation_gap_points=_mean(
            result.train_acc_pct - result.test_acc_pct
            for result in results
            if result.train_acc_pct is not None and result.test_acc_pct is not None
        ),
        epoch_s=_median(result.steady_epoch_s for result in results),
        first_epoch_s=_median(result.first_epoch_s for result in results),
        images_per_s=_median(result.images_per_s for result in results),
        fit_s=_median(result.fit_s for result in results),
        energy_j_per_epoch=_median(result.energy_j_per_epoch for result in results),
        params=results[0].params,
        macs=results[0].macs,
        peak_memory_bytes=max((result.peak_memory_bytes or 0 for result in results), default=0) or None,
        contended=any(result.contended for result in results),
        architecture=next((result.architecture for result in results if result.architecture), {}),
        calibration=statistics.calibration(
            np.concatenate([each.confidence for each in predictions]).astype(np.float32),
            np.concatenate([each.predictions == each.labels for each in predictions]),
        )
        if predictions
        else None,
        class_acc_pct=[100 * float(share) for share in confusion.diagonal() / np.maximum(confusion.sum(1), 1)],
        confusion=confusion.tolist(),
        curves=_curves(runs),
        seconds_to_pct={level: _seconds_to(runs, level) for level in levels},
    )


def _accuracy(accuracies_pct: Sequence[float], images: int | None, correct: statistics.Correct | None) -> Estimate:
    if correct is not None:
        estimate = statistics.accuracy_estimate(correct)
    else:
        estimate = statistics.accuracy_from_shares([each / 100 for each in accuracies_pct], images)
    # Two seeds' wide interval may reach beyond what an accuracy can be. NaN stays NaN.
    return Estimate(estimate.value, *np.clip([estimate.low, estimate.high], 0, 1).tolist())


def _confusion(runs: Sequence[StoredRun]) -> np.ndarray:
    """Counts over all seeds: rows are labels, columns answers."""
    answers = [run.predictions for run in runs if run.predictions]
    classes = 1 + max(int(max(each.labels.max(), each.predictions.max())) for each in answers)
    counts = np.zeros(classes * classes, int)
    for each in answers:
        counts += np.bincount(each.labels.astype(int) * classes + each.predictions, minlength=classes * classes)
    return counts.reshape(classes, classes)


def _column(run: StoredRun, name: str, rows: int) -> np.ndarray:
    """A curve's first rows; NaN where it has none."""
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
        epochs=[int(epoch) for epoch in with_curves[0].curves["epoch"][:rows]],
        seconds=np.cumsum(over_seeds("time/train_epoch_s").mean(0)).tolist(),
        val_acc_pct=validation.mean(0).tolist(),
        lowest_pct=validation.min(0).tolist(),
        highest_pct=validation.max(0).tolist(),
        train_acc_pct=(100 * over_seeds("train/acc").mean(0)).tolist(),
        train_loss=over_seeds("train/loss").mean(0).tolist(),
        val_loss=over_seeds("val/loss").mean(0).tolist(),
    )


def _levels(runs: Sequence[StoredRun]) -> list[int]:
    """Up to four round validation accuracies, in percent, that at least one run reached."""
    best = max((100 * run.curves["val/acc"].max() for run in runs if "val/acc" in run.curves), default=0.0)
    rounded = [*range(10, 90, 10), 90, 92, 94, 95, 96, 97, 98, 99]
    return [level for level in rounded if level <= best][-4:]


def _seconds_to(runs: Sequence[StoredRun], level_pct: int) -> float | None:
    """Median over seeds of the training seconds until a validation accuracy is first reached; None unless all do."""
    seconds = [
        statistics.first_reached(
            (100 * run.curves["val/acc"]).tolist(), run.curves["time/train_epoch_s"].tolist(), level_pct
        )
        for run in runs
        if {"val/acc", "time/train_epoch_s"} <= set(run.curves)
    ]
    return None if not seconds or None in seconds else _median(seconds)


def _ranked(networks: list[Network], correct: dict[str, Any], timings_ranked: bool) -> list[Network]:
    """With Pareto front and rank stability."""
    added: list[dict[str, Any]] = [{} for _ in networks]
    timed = [network for network in networks if network.epoch_s is not None]
    if timings_ranked and len(timed) == len(networks):
        accuracies = [network.accuracy_pct.value for network in networks]
        dominating = statistics.dominated_by(accuracies, [network.epoch_s or 0.0 for network in networks])
        for more, index in zip(added, dominating, strict=True):
            more |= {"on_front": index is None, "dominated_by": None if index is None else networks[index].name}
    answers = [correct[network.name] for network in networks]
    if len(networks) > 1 and all(each is not None for each in answers):
        for more, shares in zip(added, statistics.rank_probabilities(answers), strict=True):
            more["rank_shares"] = shares.tolist()
    return [Network(**{**vars(network), **more}) for network, more in zip(networks, added, strict=True)]


def _pairs(
    networks: Sequence[Network],
    groups: dict[str, list[StoredRun]],
    correct: dict[str, statistics.Correct | None],
) -> list[Pair]:
    compared = []
    for first, second in itertools.combinations(networks, 2):
        seeds = [seed for seed in first.seeds if seed in second.seeds]
        difference = _difference(first, second, seeds, correct, groups[first.name][0].result.test_images)
        p_paired_t = None
        if len(seeds) > 1:
            p_paired_t = statistics.paired_t_p(
                *(_at(network.seeds, network.test_acc_pct, seeds) for network in (first, second))
            )
        compared.append((first.name, second.name, difference, p_paired_t))
    corrected = statistics.holm([difference.p for _, _, difference, _ in compared])
    return [
        Pair(
            first=first,
            second=second,
            points=_percent(difference.share),
            p=difference.p,
            p_holm=p_holm,
            differs=p_holm <= statistics.LEVEL,
            seeds=difference.seeds,
            method=difference.method,
            seeds_needed=difference.seeds_needed,
            p_paired_t=p_paired_t,
        )
        for (first, second, difference, p_paired_t), p_holm in zip(compared, corrected, strict=True)
    ]


def _at(seeds: Sequence[int], values: Any, chosen: Sequence[int]) -> list[Any]:
    return [values[seeds.index(seed)] for seed in chosen]


def _difference(
    first: Network, second: Network, seeds: Sequence[int], correct: dict[str, Any], images: int | None
) -> Difference:
    answers = [correct[network.name] for network in (first, second)]
    if seeds and all(each is not None for each in answers):
        paired = [
            each[_at(network.seeds, range(len(each)), seeds)]
            for each, network in zip(answers, (first, second), strict=True)
        ]
        return statistics.paired_difference(*paired)
    first_shares, second_shares = ([each / 100 for each in network.test_acc_pct] for network in (first, second))
    return statistics.unpaired_difference(first_shares, second_shares, images or 1)


def _verdict(networks: Sequence[Network], pairs: Sequence[Pair], ranked: bool) -> list[str]:
    """Sentences, each of them worked out from the figures."""
    if not networks:
        return ["No run was finished: there is nothing to compare."]
    best = networks[0]
    estimate = best.accuracy_pct
    interval = "" if math.isnan(estimate.low) else f" (95 % {estimate.low:.2f} … {estimate.high:.2f})"
    sentences = [f"{best.name} is the most accurate: {estimate.value:.2f} %{interval} on {_seeds(len(best.seeds))}."]
    if len(networks) == 1:
        return sentences
    close = [pair.second for pair in pairs if pair.first == best.name and not pair.differs]
    sentences[0] = sentences[0].removesuffix(".") + (
        f"; {_list(close)} cannot be told apart from it."
        if close
        else "; its lead over every other one is established."
    )
    if ranked:
        sentences += _pareto_sentences(networks, {(pair.first, pair.second) for pair in pairs if pair.differs})
    else:
        sentences.append("Times are shown, and not ranked: see above why they cannot be compared.")
    open_pairs = [pair for pair in pairs if not pair.differs]
    sentences += [_open_pair(pair) for pair in open_pairs[:PAIRS_IN_WORDS]]
    if len(open_pairs) > PAIRS_IN_WORDS:
        sentences.append(
            f"{len(open_pairs) - PAIRS_IN_WORDS} more differences are not established; the matrix has all."
        )
    if len(pairs) > 1 and not open_pairs:
        sentences.append(f"All {len(pairs)} differences between the networks are established.")
    if best.rank_shares:
        sentences.append(
            f"With seeds and test images drawn anew, {best.name} comes first "
            f"{100 * best.rank_shares[0]:.0f} times in 100."
        )
    if min(len(network.seeds) for network in networks) == 1:
        sentences.append(
            "With one seed, what is established holds for these trained networks; another seed may order close ones "
            "otherwise."
        )
    return sentences


def _pareto_sentences(networks: Sequence[Network], established: set[tuple[str, str]]) -> list[str]:
    front = [network.name for network in networks if network.on_front]
    sentences = [f"Nothing here is both more accurate and faster than {_list(front)}: the Pareto front."]
    by_name = {network.name: network for network in networks}
    for network in networks:
        if network.dominated_by is not None:
            other = by_name[network.dominated_by]
            points = other.accuracy_pct.value - network.accuracy_pct.value
            speed = (network.epoch_s or math.nan) / (other.epoch_s or math.nan)
            surely = "" if (other.name, network.name) in established else " (not established)"
            sentences.append(
                f"{network.name} is dominated by {other.name}: {points:.2f} points more accurate{surely}, "
                f"{speed:.2f} times as fast."
            )
    return sentences


def _open_pair(pair: Pair) -> str:
    points = pair.points
    sentence = (
        f"{pair.first} and {pair.second} cannot be told apart on {_seeds(pair.seeds)}: "
        f"{signed(points.value, 2)} points, 95 % {signed(points.low)} … {signed(points.high)}"
    )
    if pair.seeds_needed is None:
        return f"{sentence}; how many seeds it would take, one seed cannot tell."
    if pair.seeds_needed <= pair.seeds:
        return (
            f"{sentence}; alone it would be (p = {pair.p:.2g}), as one of so many pairs it is not ({pair.p_holm:.2g})."
        )
    if math.isinf(pair.seeds_needed):
        return f"{sentence}; more seeds would not settle a difference of that size on these test images."
    return f"{sentence}; to settle a difference of that size takes about {pair.seeds_needed:.0f} seeds."


def signed(number: float, digits: int = 1) -> str:
    """``+0.3`` or ``−0.3``."""
    return f"{number:+.{digits}f}".replace("-", "−")


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _hardest(runs: Sequence[StoredRun], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The test images that most runs got wrong, with the answer most often given."""
    answered = [run.predictions for run in runs if run.predictions]
    answered = [each for each in answered if np.array_equal(each.labels, answered[0].labels)]
    if len(answered) < 2:
        return []
    labels = answered[0].labels
    answers = np.stack([each.predictions for each in answered])
    wrong = (answers != labels).mean(0)

    def called(label: int) -> str:
        return class_names[label] if label < len(class_names) else str(label)

    return [
        {
            "image": int(image),
            "label": called(int(labels[image])),
            "answer": called(int(np.bincount(answers[:, image][answers[:, image] != labels[image]]).argmax())),
            "wrong_pct": 100 * float(wrong[image]),
        }
        for image in np.argsort(-wrong, kind="stable")[:HARDEST]
        if wrong[image] > 0
    ]


def _without_result(stored: StoredRuns) -> list[dict[str, str]]:
    """Failed runs, and every file that could not be read, with the reason."""
    failed = [
        {
            "run": run.folder.relative_to(stored.folder).as_posix(),
            "reason": ("diverged: " if run.result.status == "diverged" else "") + (run.result.reason or "unknown"),
            "log": "\n".join(run.result.log_tail),
        }
        for run in stored.runs
        if run.result.status != "finished"
    ]
    unreadable = [
        {"run": error.path.relative_to(stored.folder).as_posix(), "reason": error.reason, "log": ""}
        for error in stored.problems
    ]
    return failed + unreadable


def follows_report(config: dict[str, Any]) -> bool:
    """Whether a resolved configuration trains as the 2023 report did, image size and pretraining aside."""
    model, data, trainer = (config.get(section) or {} for section in ("model", "data", "trainer"))
    optimizer = model.get("optimizer") or {}
    data_args = data.get("init_args") or {}
    return (
        optimizer.get("class_path", "").endswith(".Adam")
        and optimizer.get("init_args", {}).get("lr") == 1e-3
        and model.get("lr_scheduler") is None
        and data.get("class_path", "").endswith("CIFAR10DataModule")
        and data_args.get("normalization") == "half"
        and data_args.get("augmentation") == "none"
        and data_args.get("train_subset") is None
        and trainer.get("max_epochs") == 10
    )


def _beside_2023(stored: StoredRuns, networks: Sequence[Network]) -> dict[str, Any] | None:
    """The report's figures beside ours, with what differs in the conditions; None where the recipe is another one."""
    config = stored.manifest.get("config") or {}
    rows = [
        {
            "backbone": network.backbone,
            "acc_pct": network.accuracy_pct.value,
            "report_acc_pct": REPORT_2023[network.backbone][1],
            "epoch_s": network.epoch_s,
            "report_epoch_s": REPORT_2023[network.backbone][0],
        }
        for network in networks
        if network.backbone in REPORT_2023
    ]
    if not rows or not follows_report(config):
        return None
    start = "ImageNet weights" if config["model"]["pretrained"] else "random weights"
    conditions = [
        ("start", "ImageNet weights", start),
        ("image size", "not stated", f"{config['data']['init_args']['image_size']} px"),
        ("accuracy", "of which images is not stated", "of an untouched test set, once"),
        ("device", "RTX 3060", ", ".join(_distinct(run.result.device for run in stored.finished))),
        ("PyTorch", "2.0.1", ", ".join(_distinct(run.result.versions.get("torch") for run in stored.finished))),
    ]
    return {
        "rows": rows,
        "conditions": [dict(zip(("what", "report", "here"), each, strict=True)) for each in conditions],
    }
