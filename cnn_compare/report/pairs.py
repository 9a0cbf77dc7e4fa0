"""Pairs of networks, whether their differences are established, and the reader's question."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cnn_compare.errors import InvalidValueError
from cnn_compare.report import cross_validation, intervals
from cnn_compare.report.answers import by_network
from cnn_compare.report.cross_validation import Folds
from cnn_compare.report.intervals import LEVEL, Difference, Estimate, Sample
from cnn_compare.report.load import StoredRuns
from cnn_compare.report.network import Network
from cnn_compare.results import METRICS


@dataclass(frozen=True)
class Question:
    """A reader's question beyond which networks differ.

    Args:
        baseline: A network: each other one is compared with it, and no other pairs are.
        margin: Points below which two networks count as the same.
        limits: Metric -> its largest value, or smallest one where more is better, that is acceptable.
    """

    baseline: str | None = None
    margin: float | None = None
    limits: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Two networks compared, the one with the higher mean accuracy first.

    Args:
        first: Name of the network with the higher mean.
        second: Name of the other one.
        points: Percentage points by which the first is more accurate. The intervals of all pairs together hold the
            truth in 95 % of comparisons.
        p: The p-value of the test that there is no difference, of this pair alone.
        p_corrected: The same, corrected for the number of pairs.
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


def find_question(
    stored: StoredRuns,
    baseline: str | None = None,
    margin: float | None = None,
    limits: Mapping[str, float] | None = None,
) -> tuple[Question, list[str]]:
    """The question of a report, and sentences about what of the manifest's question is ignored.

    The arguments are those of `Findings`.

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


def pairs_of(
    networks: Sequence[Network],
    question: Question,
    samples: Mapping[str, Sample],
    folds: Mapping[str, Folds],
    looks: Sequence[Sequence[int]],
) -> list[Pair]:
    """Every pair that the question is about.

    Args:
        networks: The most accurate first.
        question: For its baseline and margin.
        samples: Sample of each network; empty in cross-validation.
        folds: Folds of each network; empty without cross-validation.
        looks: The seeds that were there at each look at the results, as `looks_of` gives them.
    """
    pairs = [
        (first, second)
        for first, second in itertools.combinations(networks, 2)
        if question.baseline is None or question.baseline in (first.name, second.name)
    ]
    if not pairs:
        return []
    return _fold_pairs(pairs, folds, question) if folds else _seed_pairs(networks, pairs, samples, question, looks)


def _fold_pairs(pairs: Sequence[tuple[Network, Network]], folds: Mapping[str, Folds], question: Question) -> list[Pair]:
    """Pairs by cross-validation."""
    names = list(folds)
    numbers = [(names.index(first.name), names.index(second.name)) for first, second in pairs]
    found = cross_validation.fold_differences([folds[name] for name in names], numbers)
    shared = [len(cross_validation.shared_folds(folds[first.name], folds[second.name])) for first, second in pairs]

    def detects(first: Network, difference: Difference, count: int) -> dict[int, float]:
        if count < 2 or first.folds is None:
            return {}
        ((error, _),) = difference.error.seeds
        repeats = max(1, count // first.folds)
        return {
            each: 100 * cross_validation.smallest_difference(error, count, first.folds, each, len(pairs))
            for each in (repeats * factor for factor in (1, 2, 4))
        }

    return [
        _pair(*pair, [difference], question, (count, count), detects(pair[0], difference, count))
        for pair, difference, count in zip(pairs, found, shared, strict=True)
    ]


def _seed_pairs(
    networks: Sequence[Network],
    pairs: Sequence[tuple[Network, Network]],
    samples: Mapping[str, Sample],
    question: Question,
    looks: Sequence[Sequence[int]],
) -> list[Pair]:
    """Pairs by seeds and test images: of architectures where both have several seeds, else of one seed's."""
    families: dict[bool, list[tuple[Network, Network]]] = {True: [], False: []}
    for pair in pairs:
        families[min(len(network.seeds) for network in pair) > 1].append(pair)

    def of_seeds(network: Network, seeds: Sequence[int]) -> Sample:
        sample, chosen = samples[network.name], [index for index, seed in enumerate(network.seeds) if seed in seeds]
        correct = None if sample.correct is None else sample.correct[chosen]
        return replace(sample, accuracies=[sample.accuracies[index] for index in chosen], correct=correct)

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


def _detects(difference: Difference, seeds: tuple[int, int], pair_count: int) -> dict[int, float]:
    """Points that as many seeds as there are, twice and four times as many establish; see `Pair.detects_points`."""
    squares = [error**2 * count for (error, _), count in zip(difference.error.seeds, seeds, strict=True)]
    deviation = math.sqrt(sum(squares) / 2)
    return {
        count: 100 * intervals.smallest_difference(count, deviation, difference.error.image_error, pair_count)
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
        samples: Samples by network, in any order.
        question: For its margin.
        level: The family's share of `LEVEL`, at each look.
        earlier: The samples at earlier looks: what one has decided remains so, its level was spent on that.
    """
    names = list(samples)
    numbers = [(names.index(first.name), names.index(second.name)) for first, second in pairs]
    found, *before = (
        intervals.sample_differences([look[name] for name in names], numbers, level) for look in (samples, *earlier)
    )
    result = {}
    for index, ((first, second), difference) in enumerate(zip(pairs, found, strict=True)):
        looked = [difference, *(look[index] for look in before)]
        a, b = (samples[network.name] for network in (first, second))
        detects = _detects(difference, (a.seeds, b.seeds), len(pairs)) if a.seeds > 1 else {}
        seeds = (len(first.seeds), len(second.seeds))
        result[first.name, second.name] = _pair(first, second, looked, question, seeds, detects, a.seeds == 1)
    return result


def _pair(
    first: Network,
    second: Network,
    looked: Sequence[Difference],
    question: Question,
    runs: tuple[int, int],
    detects_points: dict[int, float],
    of_trained: bool = False,
) -> Pair:
    """A pair by the last of the looks at its difference, with what any of them has decided."""
    difference, shares, margin = looked[0], [each.share for each in looked], question.margin
    return Pair(
        first=first.name,
        second=second.name,
        points=intervals.percent(difference.share),
        p=difference.p,
        p_corrected=difference.p_corrected,
        differs=any(share.low > 0 or share.high < 0 for share in shares),
        same=None if margin is None else any(100 * max(-share.low, share.high) < margin for share in shares),
        of_trained=of_trained,
        seeds=runs,
        image_error_points=100 * difference.error.image_error,
        detects_points=detects_points,
    )


def looks_of(stored: StoredRuns) -> list[list[int]]:
    """The seeds that were there at each look at the results, in the order of the looks; empty if there was only one."""
    seeds, looks = (stored.manifest.get(name) for name in ("seeds", "looks"))
    if not isinstance(seeds, list) or not isinstance(looks, list):  # A manifest may be damaged, or an older one.
        return []
    return [seeds[:look] for look in looks if isinstance(look, int)]
