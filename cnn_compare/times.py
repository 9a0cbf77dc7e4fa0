"""Times of epochs and predictions, measured while a comparison's networks took turns: the record, and its intervals."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cnn_compare.records import FolderRecord


@dataclass(frozen=True)
class Times(FolderRecord):
    """Times measured in turns, `times.json` in a comparison's folder.

    Args:
        epoch_s: Network -> seconds an epoch, one value a round. In each round every network had one turn, so that
            values of one round have the same state of the machine behind them.
        device: Its name.
        contended: Whether other processes used the machine meanwhile.
        measured_at: Date and time.
        predict_ms: Network -> milliseconds a prediction takes, of one decoded picture, one value a round, of other
            rounds. Empty where an earlier version measured.
    """

    FILE = "times.json"

    epoch_s: dict[str, list[float]]
    device: str
    contended: bool
    measured_at: str
    predict_ms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """The number of rounds."""
        return min(map(len, self.epoch_s.values()))

    def __post_init__(self) -> None:
        if len({len(rounds) for rounds in self.epoch_s.values()}) != 1 or self.rounds < 2:
            raise ValueError("its rounds are not complete")
        if min(map(min, (*self.epoch_s.values(), *self.predict_ms.values()))) <= 0:
            raise ValueError("a time is not positive")


def interval(values: Sequence[float], level: float = 0.05) -> tuple[float, float, float]:
    """The geometric mean of the rounds, and its 95 % interval: ``(mean, low, high)``.

    Args:
        values: At least two, positive: seconds of a network, or how many times those of another they are.
        level: The share of cases in which the interval may miss the truth.

    Source:
        Student's t on the logarithms, because what disturbs a clock multiplies its seconds.
    """
    mean, error = _of_logs(values)
    return _interval(mean, error, len(values) - 1, level)


def ratio(slower: Sequence[float], faster: Sequence[float], level: float = 0.05) -> tuple[float, float, float]:
    """The ratio of two networks' seconds and its interval, from pairs of one round; see `interval`."""
    return interval([first / second for first, second in zip(slower, faster, strict=True)], level)


def ratio_apart(slower: Sequence[float], faster: Sequence[float], level: float = 0.05) -> tuple[float, float, float]:
    """`ratio` of values that have nothing in common, such as the epochs of two trainings.

    Source:
        Welch 1947, doi:10.1093/biomet/34.1-2.28, on the logarithms.
    """
    (mean, error), (other, other_error) = _of_logs(slower), _of_logs(faster)
    squares = error**2 + other_error**2
    parts = error**4 / (len(slower) - 1) + other_error**4 / (len(faster) - 1)
    return _interval(mean - other, math.sqrt(squares), squares**2 / parts if parts else 1.0, level)


def _of_logs(values: Sequence[float]) -> tuple[float, float]:
    """Mean of the logarithms and its standard error."""
    logs = [math.log(value) for value in values]
    return statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))


def _interval(mean: float, error: float, freedom: float, level: float) -> tuple[float, float, float]:
    from scipy.special import stdtrit

    margin = float(stdtrit(freedom, 1 - level / 2)) * error
    return math.exp(mean), math.exp(mean - margin), math.exp(mean + margin)


def ratio_uncertainty(rounds: Iterable[Sequence[float]]) -> float:
    """The share to which the ratio between any two networks is known, with 95 %: 0.05 is 5 %."""
    ratios = itertools.starmap(ratio, itertools.combinations(rounds, 2))
    return max((high / value - 1 for value, _, high in ratios), default=0.0)
