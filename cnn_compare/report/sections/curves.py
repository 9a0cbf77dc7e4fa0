"""Learning curves: validation accuracy and losses during training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnn_compare.formatting import format_list, format_significant
from cnn_compare.report.charts import axes, band, escaped, line, network_label, styles
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import StoredRun
from cnn_compare.report.section import Chart, Figure, Section, Table
from cnn_compare.results import VALIDATION_LAGS, WHY_IT_LAGS, first_reached, training_s, validation_lags

LEVELS = (*range(10, 90, 10), 90, 92, 94, 95, 96, 97, 98, 99)


@dataclass(frozen=True)
class Curves:
    """Learning curves of one network: means over its seeds, one value an epoch or a validation.

    Args:
        epochs: Counted from 0; within an epoch a fraction.
        seconds: Seconds of training until then.
        val_acc_pct: Validation accuracy.
        lowest_pct: The lowest validation accuracy of a seed.
        highest_pct: The highest one.
        train_acc_pct: Accuracy on the training images, as augmented.
        train_loss: Training loss in nats.
        val_loss: Validation loss in nats.
    """

    epochs: list[float]
    seconds: list[float]
    val_acc_pct: list[float]
    lowest_pct: list[float]
    highest_pct: list[float]
    train_acc_pct: list[float]
    train_loss: list[float]
    val_loss: list[float]


def of(found: Findings) -> Section | None:
    """Validation accuracy by epoch and by seconds, and the seconds until it is reached."""
    drawn = curves_of(found)
    if not drawn:
        return None
    style = styles(found.networks)
    several = any(len(network.seeds) > 1 for network in found.networks)

    def figure(seconds: bool) -> Figure:
        data: list[Figure] = []
        for name, curves in drawn.items():
            data += _curve(name, curves, style[name], seconds)
        return axes(data, "training seconds" if seconds else "epoch", "validation accuracy %")

    caption = f"Validation accuracy after each epoch{'; the band spans the runs' if several else ''}."
    if any(curves.seconds[-1] for curves in drawn.values()):
        caption += " Seconds are those of training, validation not counted."
    levels = _levels(found)
    timed = {
        name: [
            ((100 * run.curves["val/acc"]).tolist(), _training_s(run))
            for run in runs
            if {"val/acc", "time/train_epoch_s"} <= set(run.curves)
        ]
        for name, runs in found.groups.items()
    }
    reached = {name: {level: _seconds_to(runs, level) for level in levels} for name, runs in timed.items()}
    rows = [
        [network.name, *(format_significant(reached[network.name][level]) for level in levels)]
        for network in found.networks
    ]
    table = Table(
        ["network", *(f"{level} %" for level in levels)],
        rows,
        "Training seconds to a validation accuracy: median over runs; a dash where one did not reach it.",
    )
    return Section(
        "curves",
        "Learning curves",
        table=table if levels else None,
        chart=Chart({"epochs": figure(False), "seconds": figure(True)}, caption, "Against"),
        json={"curves": drawn, "seconds_to_pct": reached},
    )


def loss(found: Findings) -> Section | None:
    """Training and validation loss by epoch."""
    style = styles(found.networks)
    losses = [
        {
            **line(name, [epoch + 1 for epoch in curves.epochs], values, style[name]),
            "line": {"color": style[name][0], "dash": dash},
        }
        | {"name": f"{network_label(name)}, {what}"}
        for name, curves in curves_of(found).items()
        for what, values, dash in (
            ("training", curves.train_loss, "dot"),
            ("validation", curves.val_loss, "solid"),
        )
        if any(math.isfinite(value) for value in values)
    ]
    if not losses:
        return None
    figure = axes(losses, "epoch", "loss")
    positive = [value for each in losses for value in each["y"] if math.isfinite(value) and value > 0]
    if positive and max(positive) > LOGARITHMIC * min(positive):
        figure["layout"]["yaxis"] |= {"type": "log"}
    return Section("loss", "Loss", chart=Chart({"": figure}, "Mean cross-entropy; over the runs."), folded=True)


LOGARITHMIC = 20
"""A loss that spans more than this factor is drawn on a logarithmic axis."""


def lagging(found: Findings) -> list[str]:
    """A warning of networks whose validation is far below training at first, with the reason."""
    lags = {name: validation_lags(each.train_acc_pct, each.val_acc_pct) for name, each in curves_of(found).items()}
    texts = [f"{name} ({lag})" for name, lag in lags.items() if lag]
    return [f"{VALIDATION_LAGS} {format_list(texts)}. {WHY_IT_LAGS}"] if texts else []


def curves_of(found: Findings) -> dict[str, Curves]:
    """The curves of each network that has some, the most accurate first."""
    made = {network.name: _curves(found.groups[network.name]) for network in found.networks}
    return {name: curves for name, curves in made.items() if curves}


def _curves(runs: Sequence[StoredRun]) -> Curves | None:
    with_curves = [run for run in runs if "val/acc" in run.curves]
    if not with_curves:
        return None
    rows = min(len(run.curves) for run in with_curves)  # Early stopping ends seeds at different epochs.

    def over_seeds(name: str) -> np.ndarray:
        missing = np.full(rows, np.nan)
        return np.stack(
            [run.curves[name].to_numpy(float)[:rows] if name in run.curves else missing for run in with_curves]
        )

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
    """The epoch at which each row of a run's curves was measured; the end of the first is 0."""
    epochs = run.curves["epoch"]
    if epochs.is_unique or "step" not in run.curves:
        return [int(epoch) for epoch in epochs]
    # Validations within epochs have rows too.
    steps = run.curves["step"]
    return [float(step) for step in steps / steps[epochs == epochs.iloc[0]].max() - 1]


def _training_s(run: StoredRun) -> list[float]:
    rows: list[Any] = run.curves.filter(["epoch", "time/train_epoch_s"]).to_dict("records")
    return training_s(rows)


def _levels(found: Findings) -> list[int]:
    """Round validation accuracies, four at most, in percent, that at least one run reached."""
    runs = found.stored.finished
    best = max((100 * run.curves["val/acc"].max() for run in runs if "val/acc" in run.curves), default=0.0)
    return [level for level in LEVELS if level <= best][-4:]


def _seconds_to(runs: Sequence[tuple[list[float], list[float]]], level_pct: int) -> float | None:
    """Median over runs of the seconds until a validation accuracy is first reached; None unless all do.

    Args:
        runs: Validation accuracies of each in percent, and the seconds of training until each.
        level_pct: The accuracy.
    """
    reached = [value for run in runs if (value := first_reached(*run, level_pct)) is not None]
    return float(np.median(reached)) if reached and len(reached) == len(runs) else None


def _curve(name: str, curves: Curves, style: tuple[str, str], seconds: bool) -> list[Figure]:
    along: Sequence[float] = curves.seconds if seconds else [epoch + 1 for epoch in curves.epochs]
    mean = line(name, along, curves.val_acc_pct, style)
    if curves.highest_pct == curves.lowest_pct:
        return [mean]
    spread = band(along, curves.lowest_pct, curves.highest_pct, style[0])
    return [{**spread, "legendgroup": escaped(name), "showlegend": False, "hoverinfo": "skip"}, mean]
