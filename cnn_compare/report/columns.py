"""Every figure of a network that a report shows, declared once: name, heading, value, format, and where it is shown.

To show another metric, add a line to `COLUMNS`. ``results.csv`` and ``results.json`` hold all metrics of a run anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from cnn_compare.formatting import (
    MISSING,
    format_bytes,
    format_count,
    format_list,
    format_number,
    format_signed,
    format_significant,
)
from cnn_compare.report.findings import Findings
from cnn_compare.report.intervals import Estimate
from cnn_compare.report.network import Network
from cnn_compare.times import interval

# The terminal's table; the page's first one; the table of results; what is known of the networks; a bar chart.
View = Literal["terminal", "first", "table", "card", "chart"]


@dataclass(frozen=True)
class Column:
    """One figure of a network.

    Args:
        key: Its name; that of the metric where it is one.
        heading: Heading of its column.
        value: The value that the page sorts by and charts draw; None where it is missing.
        format: The value as text.
        views: Where it is shown.
        note: Sentences that a reader must know.
        applies: Whether a comparison has it.
        text: The text in a table, in place of the formatted value.
    """

    key: str
    heading: str
    value: Callable[[Network], Any]
    format: Callable[[Any], str]
    views: tuple[View, ...]
    note: str = ""
    applies: Callable[[Findings], bool] = lambda found: True
    text: Callable[[Network], str] | None = None

    def cell(self, network: Network) -> str:
        """A network's cell of a table."""
        return self.text(network) if self.text else self.format(self.value(network))


def metric(name: str, heading: str, format: Callable[[Any], str], *views: View, **options: Any) -> Column:
    """A column of `Network.metrics`."""
    return Column(name, heading, lambda network: network.metrics.get(name), format, views, **options)


def fact(name: str, format: Callable[[Any], str] = str) -> Column:
    """A column of a fact of the architecture, for its card."""
    return Column(name, name.replace("_", " "), lambda network: network.architecture.get(name), format, ("card",))


def _percent(value: float | None) -> str:
    return format_number(value, ".2f")


def _accuracy(network: Network) -> str:
    estimate = network.accuracy_pct
    spread = (estimate.high - estimate.low) / 2 if network.sd_points is None else network.sd_points
    return _percent(estimate.value) + ("" if math.isnan(spread) else f" ± {_percent(spread)}")


def _range(estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.low):
        return MISSING
    return f"{_percent(estimate.low)} … {_percent(estimate.high)}"


def _seconds(network: Network) -> str:
    text = format_significant(network.epoch_s)
    if not network.rounds_s:
        return text
    _, low, high = map(format_significant, interval(network.rounds_s))
    return f"{text} ({low} … {high})"


def _milliseconds(network: Network) -> str:
    estimate = network.predict_ms
    if estimate is None:
        return MISSING
    value, low, high = map(format_significant, (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} … {high})"


def _times_fastest(network: Network) -> str:
    estimate = network.times_fastest
    if estimate is None or estimate.low == estimate.high:  # The fastest one itself.
        return "1"
    return f"{estimate.value:.2f} ({estimate.low:.2f} … {estimate.high:.2f})"


def order_in_words(network: Network) -> str:
    """Words for where a network stands in accuracy and time."""
    if network.at_chance:
        return "learned nothing"
    if network.on_front is None:
        return MISSING
    if network.dominated_by:
        return f"dominated by {network.dominated_by}"
    return f"undecided against {format_list(network.unordered, 3)}" if network.unordered else "on the front"


def _seeds(network: Network) -> str:
    seeds = len(network.seeds)
    return str(seeds) if seeds == network.planned else f"{seeds} of {network.planned}"


def _overfit(network: Network) -> float | None:
    train, validation = (network.metrics.get(name) for name in ("train_acc_pct", "last_val_acc_pct"))
    return None if train is None or validation is None else train - validation


def _calibration_text(network: Network) -> str:
    found = network.calibration
    return "" if found is None else f"{100 * found.ece:.1f} % (by chance up to {100 * found.ece_by_chance:.1f} %)"


COLUMNS = (
    Column("network", "network", lambda network: network.name, str, ("terminal", "first", "table")),
    Column("backbone", "backbone", lambda network: network.backbone if network.variant else None, str, ("card",)),
    fact("key_idea"),
    fact("year"),
    fact("venue"),
    fact("paper"),
    fact("depth", "{} layers with weights".format),
    Column(
        "n",
        "n",
        lambda network: len(network.seeds),
        str,
        ("terminal", "table"),
        text=_seeds,
        note="n: runs, one a seed or fold; 2 of 3: one has no result, and the figures are those of the others.",
    ),
    Column(
        "test_acc_pct",
        "test acc. %",
        lambda network: network.accuracy_pct.value,
        _percent,
        ("terminal", "first", "table"),
        text=_accuracy,
        note="Test accuracy: with the weights of the epoch that was best in validation; ± is the standard deviation "
        "over seeds or folds or, with one seed, the 95 % sampling error of the test images.",
    ),
    Column(
        "interval",
        "95 %",
        lambda network: network.accuracy_pct.low,
        _percent,
        ("table",),
        text=lambda network: _range(network.accuracy_pct),
        note="The 95 % interval covers other test images and, with several seeds, other seeds; with folds, other "
        "training images too.",
    ),
    Column(
        "ensemble_acc_pct",
        "ensemble %",
        lambda network: network.ensemble_acc_pct,
        _percent,
        ("table",),
        note="Ensemble: test accuracy of the mean probability of all seeds; a prediction takes as many times as long.",
    ),
    metric(
        "test_balanced_acc_pct",
        "balanced %",
        _percent,
        "terminal",
        "first",
        "table",
        applies=lambda found: found.unequal_classes,
        note="Balanced: mean recall over the classes; its interval covers other test images, not other seeds; with "
        "folds, other training images and seeds too.",
    ),
    Column(
        "balanced_interval",
        "95 % of balanced",
        lambda network: network.balanced_pct and network.balanced_pct.low,
        _percent,
        ("table",),
        applies=lambda found: found.unequal_classes,
        text=lambda network: _range(network.balanced_pct),
    ),
    metric("best_val_acc_pct", "best val. %", _percent, "table"),
    metric(
        "last_val_acc_pct",
        "last val. %",
        _percent,
        "table",
        note="Best and last val.: validation accuracy of the best epoch, whose weights are tested, and of the last.",
    ),
    metric(
        "train_epoch_s",
        "s / epoch",
        format_significant,
        "terminal",
        "first",
        "table",
        "chart",
        text=_seconds,
        note="Seconds per epoch: of training alone; with their 95 % interval where the networks took turns alone on "
        "the machine to measure them, else the median without the first epoch (with one epoch, that one).",
    ),
    Column(
        "times_fastest",
        "× fastest",
        lambda network: network.times_fastest and network.times_fastest.value,
        format_significant,
        ("table",),
        text=_times_fastest,
        note="× fastest: how many times the seconds of the fastest network, by pairs of turns; the intervals of "
        "all pairs together hold the truth in 95 % of comparisons.",
    ),
    Column(
        "order",
        "accuracy and time",
        lambda network: None if network.on_front is None else order_in_words(network),
        str,
        ("table",),
        text=order_in_words,
        note="Accuracy and time: dominated, where another network is at least as accurate and as fast, and one of the "
        "two is established; on the front, where beside each one that is not dominated it is established as more "
        "accurate or as faster; the others are undecided.",
    ),
    metric(
        "own_clock_epoch_s",
        "s / epoch in training",
        format_significant,
        "table",
        note="In training: by the clock of the runs themselves, disturbed or not; the median without the first epoch.",
    ),
    metric(
        "predict_ms",
        "ms / prediction",
        format_significant,
        "first",
        "table",
        "chart",
        text=_milliseconds,
        note="Prediction: of one decoded picture, with the 95 % interval of turns; in a batch, each takes less.",
    ),
    metric("first_epoch_s", "first epoch s", format_significant, "table"),
    metric("images_per_s", "images / s", lambda value: format_number(value, ",.0f"), "table"),
    metric("params", "params", format_count, "terminal", "first", "table", "chart"),
    metric("macs", "MACs", format_count, "table", "chart", note="MACs: multiply-accumulates of one image."),
    metric(
        "training_memory_bytes",
        "memory",
        format_bytes,
        "table",
        "chart",
        note="Memory: the peak of data, network and training; on a GPU torch's, on a CPU the growth of the process.",
    ),
    metric("energy_j_per_epoch", "J / epoch", format_significant, "chart"),
    metric("fit_s", "s of a run", format_significant, "card"),
    metric("precise_bn_s", "s of it for batch norm's statistics", format_significant, "card"),
    metric("test_top5_pct", "top-5 %", _percent, "card", applies=lambda found: len(found.class_names) > 5),
    metric("test_macro_f1_pct", "macro F1 %", _percent, "card"),
    Column(
        "overfit", "train − val., last epoch", _overfit, lambda points: f"{format_signed(points)} points", ("card",)
    ),
    Column(
        "ece",
        "ECE",
        lambda network: network.calibration and 100 * network.calibration.ece,
        "{:.1f} %".format,
        ("card",),
        text=_calibration_text,
    ),
)


def columns(found: Findings, view: View) -> list[Column]:
    """The columns of a view of a comparison: those that any of its networks has a value for."""
    return [
        column
        for column in COLUMNS
        if view in column.views
        and column.applies(found)
        and any(column.value(network) is not None for network in found.networks)
    ]
