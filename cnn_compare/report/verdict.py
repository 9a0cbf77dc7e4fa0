"""The verdict: sentences derived from the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnn_compare.formatting import format_list, format_signed
from cnn_compare.report.summary import Network, Pair

PAIRS_IN_WORDS = 6


def verdict(networks: Sequence[Network], pairs: Sequence[Pair], ranked: bool, complete: bool = True) -> list[str]:
    """The most accurate network, those that are dominated, and the differences that are not established.

    Args:
        networks: In the order of their accuracy.
        pairs: Of all networks.
        ranked: Whether times can be compared.
        complete: Whether all runs are finished; if not, the verdict is of those that are.
    """
    if not networks:
        return ["No run was finished: there is nothing to compare."]
    best = networks[0]
    estimate = best.accuracy_pct
    interval = "" if math.isnan(estimate.low) else f" (95 % {estimate.low:.2f} … {estimate.high:.2f})"
    figures = f"{estimate.value:.2f} %{interval} on {_seeds(len(best.seeds))}"
    so_far, with_runs = ("", "") if complete else (" so far", "with finished runs ")
    if len(networks) == 1:
        return [f"{best.name}: {figures}. There is no other network {with_runs}to compare it with."]
    close = [pair.second for pair in pairs if pair.first == best.name and not pair.differs]
    lead = (
        f"{format_list(close)} cannot be told apart from it"
        if close
        else f"its lead over every other {'one' if complete else 'network with finished runs'} is established"
    )
    sentences = [f"{best.name} is the most accurate{so_far}: {figures}; {lead}."]
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
        sentences.append(f"All {len(pairs)} differences between the networks {with_runs}are established.")
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
    sentences = [f"Nothing here is both more accurate and faster than {format_list(front)}: the Pareto front."]
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
        f"{format_signed(points.value, 2)} points, 95 % {format_signed(points.low)} … {format_signed(points.high)}"
    )
    if pair.seeds_needed is None:
        without = "one seed cannot tell" if pair.seeds == 1 else "accuracies alone cannot tell"
        return f"{sentence}; how many seeds it would take, {without}."
    if pair.seeds_needed <= pair.seeds:
        return (
            f"{sentence}; alone it would be (p = {pair.p:.2g}), as one of so many pairs it is not ({pair.p_holm:.2g})."
        )
    if math.isinf(pair.seeds_needed):
        return f"{sentence}; more seeds would not settle a difference of that size on these test images."
    return f"{sentence}; to settle a difference of that size takes about {pair.seeds_needed:.0f} seeds."


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"
