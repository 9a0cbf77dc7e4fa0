"""The verdict: at most five sentences, derived from the figures. All else is in the tables.

The answer; the order of the networks; what the best one costs; what would settle the rest; what is not covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from cnn_compare.formatting import format_list, format_signed, format_significant
from cnn_compare.report.intervals import MOST_WRONG, Estimate, deviations_differ
from cnn_compare.report.network import Network
from cnn_compare.report.order import Ratios, more_accurate
from cnn_compare.report.pairs import Pair, Question
from cnn_compare.results import METRICS

MOST_NAMES = 6
"""A sentence names no more networks than this beside the order, and counts the others."""
LIMITS = "The intervals"
"""The sentence about what is not covered begins so."""
FEW_PAIRS = 3
"""A sentence names no more differences than this."""
SAYS_NOTHING = 20.0
"""An interval wider than so many points says nothing."""


def verdict(
    networks: Sequence[Network],
    pairs: Sequence[Pair],
    question: Question,
    ratios: Ratios | None,
    more_images: str = "",
    complete: bool = True,
) -> list[str]:
    """Sentences: what is established, what is not, and what it would take.

    Args:
        networks: Networks in the order of their accuracy.
        pairs: Pairs of all networks, or of each with the baseline.
        question: The reader's question.
        ratios: Ratios of the networks' seconds; None where times cannot be compared.
        more_images: Words about what more training images bring the best network; empty where that is not known.
        complete: Whether all runs are finished; if not, the verdict is of those that are.
    """
    if not networks:
        return ["No run was finished: there is nothing to compare."]
    lost = [network.name for network in networks if network.at_chance]
    kept = [network for network in networks if not network.at_chance or network.name == question.baseline]
    nothing = f"{format_list(lost or [''], MOST_NAMES)} learned nothing (no better than guessing)"
    if not kept:
        return [f"{nothing}: there is nothing to compare. A lower learning rate or more epochs may help."]
    names = {network.name for network in kept}
    pairs = [pair for pair in pairs if {pair.first, pair.second} <= names]
    if len(kept) == 1:
        answer = f"{kept[0].name}: {_figures(kept[0])}; there is no other network to compare it with"
        sentences = ["", _capital(more_images)]
    else:
        order = "" if len(kept) == 2 or question.baseline or question.limits else _order(kept, pairs)
        answer = _answer(kept, pairs, question, order, complete)
        sentences = [
            _within_limits(kept, pairs, question) or order,
            _cost(kept, pairs, question, ratios),
            _what_would_settle(kept, pairs, more_images),
            _not_covered(kept, pairs),
        ]
    first = f"{nothing}; without {'it' if len(lost) == 1 else 'them'}, {answer}" if lost else answer
    if question.baseline is not None and not lost:  # Other answers begin with a name, which keeps its own case.
        first = _capital(first)
    return [f"{sentence}." for sentence in [first, *sentences] if sentence]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def outcome(pair: Pair, margin: float | None) -> str:
    """A pair's outcome in a few words."""
    words = "differs" if pair.differs else "says nothing" if _says_nothing(pair) else "not established"
    if pair.same:
        words = (
            f"{'differs, by less' if pair.differs else 'the same within'} {'than ' if pair.differs else ''}{margin:g}"
        )
    return f"{words} (trained networks)" if pair.of_trained else words


def tiers(networks: Sequence[Network], pairs: Sequence[Pair]) -> list[list[str]]:
    """The names in tiers, in the order of accuracy: no difference within a tier is established.

    A tier begins at the network that is established below one of the tier before. "Not established" passes on to no
    third network: a and b, b and c may be open, and a above c established. So differences across tiers may be open.

    Args:
        networks: Networks in the order of their accuracy.
        pairs: Pairs of all of them.
    """
    above = more_accurate(pairs)
    groups: list[list[str]] = []
    for network in networks:
        if not groups or any((name, network.name) in above for name in groups[-1]):
            groups.append([])
        groups[-1].append(network.name)
    return groups


def _says_nothing(pair: Pair) -> bool:
    return not pair.differs and pair.points.high - pair.points.low > SAYS_NOTHING


def _runs(networks: Sequence[Network], pairs: Sequence[Pair]) -> str:
    """Words for what decides how much a comparison says: its seeds or folds or, with one seed, its test images."""
    if all(pair.of_trained for pair in pairs):
        return "so few test images"
    counts = {network.runs_in_words for network in networks}
    return counts.pop() if len(counts) == 1 else "so few runs"


def _answer(networks: Sequence[Network], pairs: Sequence[Pair], question: Question, order: str, complete: bool) -> str:
    if question.baseline is not None:
        return _baseline(networks, pairs, question)
    best, others = networks[0], len(networks) - 1
    of_best = {_other(pair, best.name): pair for pair in pairs if best.name in (pair.first, pair.second)}
    same = [name for name, pair in of_best.items() if pair.same and not pair.differs]
    close = [name for name, pair in of_best.items() if not pair.differs and name not in same]
    one_seed = all(pair.of_trained for pair in of_best.values())
    trained = [name for name, pair in of_best.items() if pair.differs and pair.of_trained and not one_seed]
    lead = []
    if same:
        lead.append(f"{format_list(same, MOST_NAMES)} the same within {_points(question.margin or 0)}")
    if len(close) == 1 and others == 1:
        (pair,) = pairs
        lead.append(f"{close[0]} {_told_apart(networks, pair)}")
    elif close and not (order and len(close) == others):
        lead.append(f"{format_list(close, MOST_NAMES)} cannot be told apart from it")
    if trained:
        lead.append(f"its lead over {format_list(trained, MOST_NAMES)} holds for the trained seed alone")
    if not lead and not close:
        whole = "every other network" + ("" if complete else " with finished runs")
        lead.append(f"its lead over {whole} is established" + (", for this seed" if one_seed else ""))
    title = "has the highest mean accuracy" if close or same or trained else "is the most accurate"
    title = "has the highest accuracy" if one_seed and (close or same) else title
    so_far = "" if complete else " so far"
    return f"{best.name} {title}{so_far}: {'; '.join([_figures(best), *lead])}"


def _told_apart(networks: Sequence[Network], pair: Pair) -> str:
    points = f"{format_signed(pair.points.value, 2)} points, 95 % {_range(pair.points)}"
    if _says_nothing(pair):
        return f"may be far better or worse ({points}): {_runs(networks, [pair])} say nothing here"
    return f"cannot be told apart from it ({points})"


def _range(points: Estimate) -> str:
    return f"{format_signed(points.low)} … {format_signed(points.high)}"


def _points(margin: float) -> str:
    return f"{margin:g} point{'' if margin == 1 else 's'}"


def _order(networks: Sequence[Network], pairs: Sequence[Pair]) -> str:
    """The tiers; what is established across them; and which differences are too uncertain to say anything."""
    empty = [pair for pair in pairs if _says_nothing(pair)]
    runs, wide = _runs(networks, pairs), f"wider than {SAYS_NOTHING:g} points"
    if len(empty) == len(pairs):
        return f"{_capital(runs)} say nothing here: the interval of every difference is {wide}"
    groups = tiers(networks, pairs)
    order = f"In order of accuracy: {'; then '.join(map(', '.join, groups))}"
    at = {name: tier for tier, group in enumerate(groups) for name in group}
    across = [pair for pair in pairs if at[pair.first] != at[pair.second]]
    left = [pair for pair in across if not pair.differs]
    if len(groups) == 1:
        text = "No difference between the networks is established"
    elif not left:
        text = f"{order}; every difference between these tiers is established"
    elif len(across) - len(left) <= FEW_PAIRS:
        known = _named([pair for pair in across if pair.differs])
        verb = "is" if len(across) - len(left) == 1 else "are"
        text = f"{order}; between these tiers, only {known} {verb} established"
    else:
        which = _named(left) if len(left) <= FEW_PAIRS else f"{len(left)} of {len(across)} differences"
        open_ = f"{which} {'is' if len(left) == 1 else 'are'} not established"
        text = f"{order}; between these tiers, {open_}"
    if empty:
        which = _named(empty) if len(empty) <= FEW_PAIRS else f"{len(empty)} of {len(pairs)} differences"
        text += f"; {runs} say nothing about {which}, with intervals {wide}"
    return text


def _named(pairs: Sequence[Pair]) -> str:
    return format_list([f"{pair.first} − {pair.second}" for pair in pairs])


def _baseline(networks: Sequence[Network], pairs: Sequence[Pair], question: Question) -> str:
    base = next(network for network in networks if network.name == question.baseline)
    open_pairs = [pair for pair in pairs if not pair.differs and not pair.same]
    groups = {
        "more accurate": [pair.first for pair in pairs if pair.differs and pair.second == base.name],
        "less accurate": [pair.second for pair in pairs if pair.differs and pair.first == base.name],
        f"the same within {_points(question.margin or 0)}": [
            _other(pair, base.name) for pair in pairs if pair.same and not pair.differs
        ],
        "not established": [_other(pair, base.name) for pair in open_pairs if not _says_nothing(pair)],
        f"{_runs(networks, pairs)} say nothing about": [
            _other(pair, base.name) for pair in open_pairs if _says_nothing(pair)
        ],
    }
    found = "; ".join(f"{what}: {', '.join(names)}" for what, names in groups.items() if names)
    return f"compared with the baseline {base.name} ({_figures(base)}): {found}"


def _other(pair: Pair, name: str) -> str:
    return pair.second if pair.first == name else pair.first


def _figures(network: Network) -> str:
    estimate = network.accuracy_pct
    return f"{estimate.value:.2f} % (95 % {estimate.low:.2f} … {estimate.high:.2f}) on {network.runs_in_words}"


def _within_limits(networks: Sequence[Network], pairs: Sequence[Pair], question: Question) -> str:
    """The best network within the limits, and how sure that is."""
    if not question.limits:
        return ""

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
        return f"No network has {limits}"
    best, rest = inside[0], {network.name for network in inside[1:]}
    if not rest:
        return f"With {limits}, {best.name} is the only choice: {_figures(best)}"
    known = {_other(pair, best.name): pair for pair in pairs if best.name in (pair.first, pair.second)}
    close = sorted(name for name in rest if name not in known or not known[name].differs)
    sure = f"not established over {format_list(close, MOST_NAMES)}" if close else "established over every other network"
    return f"With {limits}, {best.name} is the best of {len(inside)}: {_figures(best)}; its lead is {sure}"


def _cost(networks: Sequence[Network], pairs: Sequence[Pair], question: Question, ratios: Ratios | None) -> str:
    """Words about how much longer the best network takes than a faster one, which are dominated, and what is open."""
    if ratios is None:
        return "Times are shown and not ranked: the warnings say why they cannot be compared"
    best = networks[0] if question.baseline is None else next(n for n in networks if n.name == question.baseline)
    faster = [
        each.name for each in networks if (best.name, each.name) in ratios and ratios[best.name, each.name].low > 1
    ]
    known = {_other(pair, best.name): pair for pair in pairs if best.name in (pair.first, pair.second)}
    equal = [name for name in faster if name in known and not known[name].differs and not _says_nothing(known[name])]
    parts = [f"No network is established as faster than {best.name}"]
    if faster:
        other = max(equal or faster, key=lambda name: ratios[best.name, name].value)
        ratio = ratios[best.name, other]
        seconds = f"{ratio.value:.2f} times (95 % {ratio.low:.2f} … {ratio.high:.2f}) as long as {other}"
        parts = [f"{best.name} takes {seconds}, the fastest"]
        if equal:
            alike = (
                f"are the same within {_points(question.margin or 0)}" if known[other].same else "cannot be told apart"
            )
            parts = [f"{best.name} takes {seconds}, and their accuracies {alike}: where time counts, take {other}"]
    dominated = [each.name for each in networks if each.dominated_by]
    unordered = [each.name for each in networks if each.unordered]
    if dominated:
        names = format_list(dominated, MOST_NAMES)
        parts.append(f"dominated (another network is at least as accurate and as fast): {names}")
    if unordered:
        parts.append(f"undecided in accuracy and time: {format_list(unordered, MOST_NAMES)}")
    return "; ".join(parts)


def _what_would_settle(networks: Sequence[Network], pairs: Sequence[Pair], more_images: str) -> str:
    """Words about what more runs would show, and what more training images would bring the best network."""
    left = [pair for pair in pairs if not pair.differs and not pair.same]
    known = [pair.detects_points for pair in left if pair.detects_points]
    parts = []
    if known:
        unit = "repeats" if networks[0].folds else "seeds"
        now, then, *_ = sorted(set.intersection(*map(set, known)) or known[0])
        points = {count: median(each[count] for each in known if count in each) for count in (now, then)}
        if points[then] > SAYS_NOTHING:
            found = f"only true differences of more than {SAYS_NOTHING:g} points"
        else:
            found = f"a true difference of about {points[then]:.1f} points"
        before = f"{points[now]:.1f}" if points[now] <= SAYS_NOTHING else f"more than {SAYS_NOTHING:g}"
        also = f" (with {now}, one of {before})" if now > 1 and points[then] <= SAYS_NOTHING else ""
        parts.append(f"with {then} {unit}, {found} would be established in four cases of five{also}")
    elif left:
        parts.append("more test images would narrow the intervals, and more seeds would show how much the seed matters")
    parts.append(more_images)
    return _capital("; ".join(filter(None, parts)))


def _not_covered(networks: Sequence[Network], pairs: Sequence[Pair]) -> str:
    if any(network.folds for network in networks):
        return f"{LIMITS} cover other training images, test images and seeds, but not other machines"
    seeds = "other seeds, " if any(pair.of_trained for pair in pairs) else ""
    text = f"{LIMITS} do not cover {seeds}other training images (the split is fixed) and other machines"
    return "; ".join(filter(None, [text, _unlike(networks)]))


def _unlike(networks: Sequence[Network]) -> str:
    """A warning where deviations differ so much that more than 5 % of comparisons claim what is not so."""
    several = [each for each in networks if each.sd_points and not each.folds]
    several.sort(key=lambda each: each.sd_points or 0)
    if not deviations_differ([each.sd_points or 0 for each in several], [len(each.seeds) for each in several]):
        return ""
    least, most = several[0], several[-1]
    return (
        f"seeds of {most.name} deviate by {most.sd_points:.2f} points, those of {least.name} by {least.sd_points:.2f}: "
        f"up to {100 * MOST_WRONG:.0f} % of such comparisons establish a difference that does not exist, instead of 5 %"
    )
