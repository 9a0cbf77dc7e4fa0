"""Order of networks by accuracy and time: by what is established, and by nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from cnn_compare import times
from cnn_compare.report.intervals import LEVEL, Estimate
from cnn_compare.report.pairs import Pair


@dataclass(frozen=True)
class Standing:
    """The standing of a network in accuracy and time.

    Args:
        dominated_by: The most accurate network that is at least as accurate and as fast, one of the two established.
        unordered: Networks, not dominated, beside which it is established neither as more accurate nor as faster.
    """

    dominated_by: str | None
    unordered: list[str]

    @property
    def on_front(self) -> bool:
        """Whether, beside each one that is not dominated, it is established as more accurate or as faster."""
        return self.dominated_by is None and not self.unordered


Ratios = Mapping[tuple[str, str], Estimate]
"""Two networks -> how many times the seconds of the second the first takes; without those that nothing tells."""


def time_ratios(seconds: Mapping[str, Sequence[float]], in_turns: bool) -> Ratios:
    """The ratios of all pairs; all their intervals together hold the truth in 95 % of comparisons (Bonferroni).

    Args:
        seconds: Several values of each network; fewer than two tell no ratio.
        in_turns: Whether the values of one position were measured side by side, so that their ratios are compared.
    """
    pairs = list(itertools.permutations((name for name, values in seconds.items() if len(values) > 1), 2))
    level = 2 * LEVEL / max(len(pairs), 1)  # Each pair is there in both directions.
    ratio = times.ratio if in_turns else times.ratio_apart
    return {(a, b): Estimate(*ratio(seconds[a], seconds[b], level)) for a, b in pairs}


def more_accurate(pairs: Sequence[Pair]) -> set[tuple[str, str]]:
    """First and second of each established difference."""
    return {(pair.first, pair.second) for pair in pairs if pair.differs}


def standings(
    accuracies: Mapping[str, float], seconds: Mapping[str, float], ahead: Set[tuple[str, str]], ratios: Ratios
) -> dict[str, Standing]:
    """The standing of each network.

    Args:
        accuracies: Mean accuracy of each network.
        seconds: Seconds of each, in any unit.
        ahead: See `more_accurate`.
        ratios: See `time_ratios`.
    """
    ahead = ahead | {(a, b) for (a, b), ratio in ratios.items() if ratio.high < 1}

    def dominating(name: str) -> str | None:
        found = [
            other
            for other in accuracies
            if (other, name) in ahead and accuracies[other] >= accuracies[name] and seconds[other] <= seconds[name]
        ]
        return max(found, key=lambda other: (accuracies[other], -seconds[other]), default=None)

    dominated = {name: dominating(name) for name in accuracies}
    rest = [name for name in accuracies if dominated[name] is None]
    return {
        name: Standing(
            dominated[name],
            [other for other in rest if other != name and dominated[name] is None and (name, other) not in ahead],
        )
        for name in accuracies
    }
