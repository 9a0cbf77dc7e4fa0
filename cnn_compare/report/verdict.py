"""The verdict: sentences derived from the figures."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from cnn_compare import times
from cnn_compare.formatting import format_list, format_signed, format_significant
from cnn_compare.report.statistics import MOST_WRONG, unlike
from cnn_compare.report.summary import Growth, Network, Pair, Question
from cnn_compare.results import METRICS

PAIRS_IN_WORDS = 6


def verdict(
    networks: Sequence[Network],
    pairs: Sequence[Pair],
    question: Question,
    ranked: bool,
    growth: Sequence[Growth] = (),
    complete: bool = True,
) -> list[str]:
    """What is established, what is not, and what it would take.

    Args:
        networks: In the order of their accuracy.
        pairs: Of all networks, or of each with the baseline.
        question: What the reader asked.
        ranked: Whether times can be compared.
        growth: Of networks that were trained with several numbers of images.
        complete: Whether all runs are finished; if not, the verdict is of those that are.
    """
    if not networks:
        return ["No run was finished: there is nothing to compare."]
    if len(networks) == 1:
        only = "There is no other network to compare it with."
        return [f"{networks[0].name}: {_figures(networks[0])}. {only}", *_failures(networks), *_more_images(growth)]
    sentences = [
        _best(networks, pairs, complete) if question.baseline is None else _baseline(networks, pairs, question)
    ]
    sentences += _failures(networks)
    sentences += _missing_folds(networks)
    sentences += _within_limits(networks, pairs, question)
    if ranked:
        sentences += _pareto_sentences(networks, pairs)
    else:
        sentences.append("Times are shown, and not ranked: see above why they cannot be compared.")
    sentences += [_same_pair(pair, networks, question, ranked) for pair in pairs if pair.same and not pair.differs]
    open_pairs = [pair for pair in pairs if not pair.differs and not pair.same]
    unit = "repeat" if networks[0].folds else "seed"
    sentences += [_open_pair(pair, unit) for pair in open_pairs[:PAIRS_IN_WORDS]]
    if len(open_pairs) > PAIRS_IN_WORDS:
        more = len(open_pairs) - PAIRS_IN_WORDS
        sentences.append(f"{more} more differences are not established; the matrix has all.")
    if len(pairs) > 1 and all(pair.differs for pair in pairs):
        sentences.append(
            f"All {len(pairs)} differences {'between' if complete else 'so far between'} them are established."
        )
    sentences += _unlike(networks)
    sentences += _more_images(growth)
    sentences.append(_not_covered(networks, pairs))
    return sentences


def outcome(pair: Pair, margin: float | None) -> str:
    """What a pair shows, in a few words."""
    words = "differs" if pair.differs else "not established"
    if pair.same:
        words = (
            f"{'differs, by less' if pair.differs else 'the same within'} {'than ' if pair.differs else ''}{margin:g}"
        )
    return f"{words} (trained networks)" if pair.of_trained else words


def _best(networks: Sequence[Network], pairs: Sequence[Pair], complete: bool) -> str:
    best = networks[0]
    leads = [pair for pair in pairs if best.name in (pair.first, pair.second)]
    behind = {pair: pair.second if pair.first == best.name else pair.first for pair in leads}
    close = [behind[pair] for pair in leads if not pair.differs]
    one_seed = all(pair.of_trained for pair in leads)
    trained = [behind[pair] for pair in leads if pair.differs and pair.of_trained and not one_seed]
    others = "every other one" if complete else "every other network with finished runs"
    lead = [f"{format_list(close)} cannot be told apart from it"] if close else []
    if trained:
        lead.append(f"its lead over {format_list(trained)} is that of networks trained with one seed")
    if not lead:
        lead = [f"its lead over {others} is established"]
    title = "has the highest mean accuracy" if close or trained else "is the most accurate"
    if one_seed:
        title = "has the highest accuracy" if close else title
    so_far = "" if complete else " so far"
    which = "Of these trained networks, " if one_seed else ""
    return f"{which}{best.name} {title}{so_far}: {_figures(best)}; {'; '.join(lead)}."


def _baseline(networks: Sequence[Network], pairs: Sequence[Pair], question: Question) -> str:
    base = next(network for network in networks if network.name == question.baseline)
    of_trained = " trained" if all(pair.of_trained for pair in pairs) else ""
    groups = {
        "more accurate": [pair.first for pair in pairs if pair.differs and pair.second == base.name],
        "less accurate": [pair.second for pair in pairs if pair.differs and pair.first == base.name],
        "not established": [_other(pair, base.name) for pair in pairs if not pair.differs],
    }
    found = "; ".join(f"{what}: {format_list(names)}" for what, names in groups.items() if names)
    return f"Beside the{of_trained} baseline {base.name} ({_figures(base)}): {found}."


def _other(pair: Pair, name: str) -> str:
    return pair.second if pair.first == name else pair.first


def _figures(network: Network) -> str:
    estimate = network.accuracy_pct
    return f"{estimate.value:.2f} % (95 % {estimate.low:.2f} … {estimate.high:.2f}) on {network.runs_in_words}"


def _failures(networks: Sequence[Network]) -> list[str]:
    return [
        f"{network.name}: {network.failed} of {network.planned} {'folds' if network.folds else 'seeds'} failed. Its "
        "accuracy is that of the others, and may be too high for that reason."
        for network in networks
        if network.failed
    ]


def _missing_folds(networks: Sequence[Network]) -> list[str]:
    missing = [network.name for network in networks if network.folds and len(network.seeds) < network.planned]
    if not missing:
        return []
    return [f"Without a result on some folds: {format_list(missing)}. Two networks are compared on those both have."]


def _within_limits(networks: Sequence[Network], pairs: Sequence[Pair], question: Question) -> list[str]:
    """The best network within the limits, and how sure that is."""
    if not question.limits:
        return []

    def within(network: Network) -> bool:
        values = {metric: network.metrics.get(metric) for metric in question.limits}
        return all(
            value is not None and (value >= limit if METRICS[metric][1] else value <= limit)
            for (metric, value), limit in zip(values.items(), question.limits.values(), strict=True)
        )

    limits = " and ".join(
        f"{metric} {'at least' if METRICS[metric][1] else 'at most'} {format_significant(limit)}"
        for metric, limit in question.limits.items()
    )
    inside = [network for network in networks if within(network)]
    if not inside:
        return [f"No network has {limits}."]
    best, rest = inside[0], {network.name for network in inside[1:]}
    if not rest:
        return [f"With {limits}, {best.name} is the only choice: {_figures(best)}."]
    known = {_other(pair, best.name): pair for pair in pairs if best.name in (pair.first, pair.second)}
    close = [name for name in rest if name not in known or not known[name].differs]
    sure = "established over every other one" if not close else f"not established over {format_list(sorted(close))}"
    return [f"With {limits}, {best.name} is the best of {len(inside)}: {_figures(best)}; its lead is {sure}."]


def _pareto_sentences(networks: Sequence[Network], pairs: Sequence[Pair]) -> list[str]:
    front = [network for network in networks if network.on_front]
    names = format_list([network.name for network in front])
    sentences = [f"Nothing here is both more accurate and faster than {names}: the Pareto front."]
    by_name = {network.name: network for network in networks}
    established = {frozenset((pair.first, pair.second)) for pair in pairs if pair.differs}
    for slower, faster in itertools.pairwise(front):
        if frozenset((slower.name, faster.name)) not in established:
            points = slower.accuracy_pct.value - faster.accuracy_pct.value
            sentences.append(
                f"The lead of {slower.name} over {faster.name}, {points:.2f} points, is not established, and takes "
                f"{_ratio(slower, faster)} times the seconds."
            )
    for network in networks:
        if network.dominated_by is not None:
            other = by_name[network.dominated_by]
            points = other.accuracy_pct.value - network.accuracy_pct.value
            surely = "" if frozenset((other.name, network.name)) in established else " (not established)"
            sentences.append(
                f"{network.name} is dominated by {other.name}: {points:.2f} points more accurate{surely}, "
                f"{_ratio(network, other)} times as fast."
            )
    return sentences


def _ratio(slower: Network, faster: Network) -> str:
    """How many times the seconds of an epoch: with the 95 % interval of turns, or the range of seeds or epochs."""
    if slower.rounds_s and faster.rounds_s:
        value, least, most = times.ratio(slower.rounds_s, faster.rounds_s)
        return f"{value:.2f} (95 % {least:.2f} … {most:.2f})"
    ratio = f"{(slower.epoch_s or math.nan) / (faster.epoch_s or math.nan):.2f}"
    if not slower.epoch_s_range or not faster.epoch_s_range:
        return ratio
    least, most = slower.epoch_s_range[0] / faster.epoch_s_range[1], slower.epoch_s_range[1] / faster.epoch_s_range[0]
    return f"{ratio} ({least:.2f} … {most:.2f})"


def _same_pair(pair: Pair, networks: Sequence[Network], question: Question, ranked: bool) -> str:
    first, second = (
        next(network for network in networks if network.name == name) for name in (pair.first, pair.second)
    )
    sentence = f"{pair.first} and {pair.second} are the same within {question.margin:g} points ({_interval(pair)})"
    if not ranked or first.epoch_s is None or second.epoch_s is None:
        return f"{sentence}."
    slower, faster = (first, second) if first.epoch_s > second.epoch_s else (second, first)
    return f"{sentence}; take {faster.name}: {slower.name} needs {_ratio(slower, faster)} times the seconds."


def _interval(pair: Pair) -> str:
    return f"95 % {format_signed(pair.points.low)} … {format_signed(pair.points.high)}"


def _open_pair(pair: Pair, unit: str) -> str:
    sentence = (
        f"{pair.first} and {pair.second} cannot be told apart{' as trained' if pair.of_trained else ''}: "
        f"{format_signed(pair.points.value, 2)} points, {_interval(pair)}"
    )
    return f"{sentence}; {pair.detects_in_words(unit)}."


def _unlike(networks: Sequence[Network]) -> list[str]:
    """A warning where deviations differ so much that more than 5 % of comparisons claim what is not so."""
    several = [each for each in networks if each.sd_points and not each.folds]
    several.sort(key=lambda each: each.sd_points or 0)
    if not unlike([each.sd_points or 0 for each in several], [len(each.seeds) for each in several]):
        return []
    least, most = several[0], several[-1]
    return [
        f"Seeds of {most.name} deviate by {most.sd_points:.2f} points, those of {least.name} by {least.sd_points:.2f}: "
        f"with so few of them, up to {MOST_WRONG:.0%} of such comparisons establish what is not so, instead of 5 %."
    ]


def _more_images(growth: Sequence[Growth]) -> list[str]:
    """What each network is likely to reach with twice as many training images, or why nothing can be said."""
    sentences = []
    without_law: dict[str, list[str]] = {}
    for each in growth:
        largest = max(each.test_acc_pct)
        if each.law is None:
            without_law.setdefault(f"{largest:,} training images: {each.without_law}", []).append(each.network)
            continue
        expected, now = each.law.accuracy(2 * largest), statistics.fmean(each.test_acc_pct[largest])
        sentences.append(
            f"{each.network}, twice as many training images ({largest:,} → {2 * largest:,}): {now:.1f} % → "
            f"{100 * expected.value:.1f} % (95 % {100 * expected.low:.1f} … {100 * expected.high:.1f})."
        )
    return sentences + [
        f"{format_list(names)}: no extrapolation beyond {reason}." for reason, names in without_law.items()
    ]


def _not_covered(networks: Sequence[Network], pairs: Sequence[Pair]) -> str:
    if any(network.folds for network in networks):
        return "The intervals include other training images, test images and seeds. Not covered: other machines."
    seeds = "other seeds, " if any(pair.of_trained for pair in pairs) else ""
    return f"Not covered by the intervals: {seeds}other training images (the split is fixed) and other machines."
