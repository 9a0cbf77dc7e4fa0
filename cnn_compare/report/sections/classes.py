"""Answers of each network to each class: recall, confusion, the commonest mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_compare.formatting import format_number
from cnn_compare.report.answers import answers_of, class_name
from cnn_compare.report.charts import heatmap, network_label, short_label
from cnn_compare.report.findings import Findings
from cnn_compare.report.intervals import Estimate
from cnn_compare.report.section import Chart, Figure, Section, Table

MOST_CLASSES = 50
"""Up to so many classes a report shows every one; of more, the least accurate ones and the commonest mistakes."""
LOWEST_CLASSES = 25
"""How many of the least accurate classes are shown then."""
MISTAKES = 10
Counts = NDArray[np.integer[Any]]


def recall(found: Findings) -> Section | None:
    """The share of each class that is recognised."""
    networks = [network for network in found.networks if network.class_acc_pct]
    if not networks:
        return None
    shown, which = _shown(found)
    names = [class_name(found.class_names, label) for label in shown]
    values = [[network.class_acc_pct[label].value for label in shown] for network in networks]
    texts = [[f"{value:.0f}" for value in row] for row in values]
    labels = (network_label, short_label)
    figure = heatmap([network.name for network in networks], names, values, texts, labels)

    def cell(recall: Estimate) -> str:
        return f"{recall.value:.1f} ({recall.low:.1f} … {recall.high:.1f})"

    table = Table(
        ["class", "test images", *(network.name for network in networks)],
        [
            [
                name,
                format_number(found.class_images[label], ","),
                *(cell(each.class_acc_pct[label]) for each in networks),
            ]
            for name, label in zip(names, shown, strict=True)
        ],
        "Percent of the class's test images answered right, mean over runs; in brackets Wilson's 95 % interval, for "
        f"other test images.{which}",
    )
    return Section(
        "classes",
        "Recall by class",
        table=table if found.unequal_classes else None,
        chart=Chart({"": figure}, f"Recall: percent of each class's test images answered right.{which}"),
        json={"class_names": found.class_names, "class_images": found.class_images},
    )


def _shown(found: Findings) -> tuple[list[int], str]:
    """Classes with test images or, of many, those with the lowest mean recall; and a sentence about that."""
    tested = [label for label, images in enumerate(found.class_images) if images]
    if len(found.class_images) <= MOST_CLASSES:
        return tested, ""
    recalls = [network.class_acc_pct for network in found.networks if network.class_acc_pct]
    lowest = sorted(tested, key=lambda label: sum(recall[label].value for recall in recalls))[:LOWEST_CLASSES]
    count = len(found.class_images)
    return lowest, f" Of {count} classes, the {len(lowest)} with the lowest mean over the networks."


def confusion(found: Findings) -> Section | None:
    """Confusion of classes: a matrix a network or, with many classes, the commonest mistakes."""
    answered = {network.name: _counts(found, network.name) for network in found.networks if network.class_acc_pct}
    if not answered:
        return None
    if max(len(counts) for counts in answered.values()) <= MOST_CLASSES:
        figures = {name: _matrix(found, counts) for name, counts in answered.items()}
        caption = "Rows are true classes, columns are answers; percent of the row, over all runs."
        json = {"confusion": {name: counts.tolist() for name, counts in answered.items()}}
        return Section("confusion", "Confusion", chart=Chart(figures, caption, "Network"), json=json)
    mistakes = {name: _mistakes(counts) for name, counts in answered.items()}
    rows = [
        [
            name,
            *(class_name(found.class_names, label) for label in (mistake["label"], mistake["answer"])),
            format_number(mistake["share_pct"], ".0f"),
        ]
        for name, of_network in mistakes.items()
        for mistake in of_network
    ]
    note = "Over all runs, by number of images; there are too many classes for a matrix."
    table = Table(["network", "class", "answer", "% of the class"], rows, note, choice="Network")
    return Section("confusion", "The commonest mistakes", table=table if rows else None, json={"mistakes": mistakes})


def _counts(found: Findings, network: str) -> Counts:
    """``(classes, classes)``: answers over all runs; a row a true class, a column an answer."""
    runs = answers_of(found.groups[network])
    labels, answers = (
        np.concatenate([getattr(run, name) for run in runs]).astype(int) for name in ("labels", "predictions")
    )
    classes = 1 + int(max(labels.max(), answers.max()))
    return np.bincount(labels * classes + answers, minlength=classes * classes).reshape(classes, classes)


def _matrix(found: Findings, counts: Counts) -> Figure:
    names = [class_name(found.class_names, label) for label in range(len(counts))]
    shares = (100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)).tolist()
    texts = [[f"{share:.0f}" if share >= 0.5 else "" for share in row] for row in shares]
    return heatmap(names, names, shares, texts, zmin=0, zmax=100)


def _mistakes(counts: Counts) -> list[dict[str, Any]]:
    """The commonest mistakes: number of the class and of the ``answer``, and the share of the class."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong.ravel(), kind="stable")[:MISTAKES]
    pairs: Sequence[tuple[int, int]] = [divmod(int(index), len(counts)) for index in order]
    return [
        {"label": label, "answer": answer, "share_pct": 100 * float(wrong[label, answer] / counts[label].sum())}
        for label, answer in pairs
        if wrong[label, answer]
    ]
