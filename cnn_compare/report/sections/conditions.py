"""Conditions of a comparison: what was controlled, and what varied."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from cnn_compare.formatting import format_number
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import distinct
from cnn_compare.report.network import folds_in_words
from cnn_compare.report.section import Section, Table
from cnn_compare.report.sections.images import NO_WRONG_LABELS
from cnn_compare.report.sections.leaks import in_words, leaks_of


def of(found: Findings) -> Section | None:
    """The conditions under which all networks were trained and tested."""
    stored, times, varied = found.stored, found.stored.times, found.control.varied
    runs, results = stored.finished, [run.result for run in stored.finished]
    json: dict[str, Any] = {
        "recipe": stored.manifest.get("recipe"),
        "devices": distinct(result.device for result in results),
        "precisions": distinct(result.precision for result in results),
        "monitors": distinct(run.config.get("monitor", "val/acc") for run in runs if run.config),
        "recomputed_from": distinct(
            f"{callback['init_args']['images']:,}"
            for run in runs
            if run.config
            for callback in run.config.get("trainer", {}).get("callbacks") or []
            if callback["class_path"].endswith(".PreciseBatchNorm")
        ),
        "fingerprints": distinct(result.data_fingerprint for result in results),
        "varied": varied,
        "timings_ranked": found.control.timings_ranked,
        "times": times,
        "test_images": test_images(found),
        "test_groups": None if found.answers.groups is None else len(np.unique(found.answers.groups)),
        "folds": cross_validation(found),
    }
    doubted, wrong_pct = found.answers.wrong_labels()
    lines = {
        "varied": f"{', '.join(varied) or 'nothing'}; every other setting is the same in all runs",
        "recipe": json["recipe"],
        "device": ", ".join(json["devices"]),
        "precision": ", ".join(json["precisions"]),
        "times": times and f"{times.rounds} turns of each network on {times.device}, {times.measured_at[:10]}",
        "best epoch by": ", ".join(json["monitors"]),
        "batch norm": json["recomputed_from"]
        and "before each validation, where a network has it, its statistics are recomputed from at least "
        f"{' or '.join(json['recomputed_from'])} training images, or all there are",
        "data fingerprint": ", ".join(json["fingerprints"]),
        "test images": json["test_images"] and format_number(json["test_images"], ","),
        "leaks": in_words(leaks_of(found)),
        "possible wrong labels": wrong_pct is not None and not doubted and NO_WRONG_LABELS,
        "test groups": json["test_groups"]
        and f"{json['test_groups']:,}; intervals and tests take groups for independent, and not images",
        "cross-validation": json["folds"]
        and f"{json['folds']}, the same for all networks, of all images there are, also those of a test set that the "
        "data has; each is tested once a repeat",
    }
    table = Table(["condition", "value"], [[name, text] for name, text in lines.items() if text], of_numbers=False)
    return Section("conditions", "What was controlled, what varied", table=table, json=json)


def test_images(found: Findings) -> int | None:
    """The number of test images of a network; with folds, in a repeat. None where it is not recorded."""
    tested: Counter[tuple[str, int]] = Counter()
    for run in found.stored.finished:
        tested[run.network, run.result.seed] += run.result.test_images or 0
    return max(tested.values(), default=0) or None


def cross_validation(found: Findings) -> str | None:
    """The numbers of folds and repeats, in words; None without folds."""
    if not found.folds:
        return None
    planned = set().union(*found.stored.planned.values())
    folds = {fold for _, fold in planned if fold is not None}
    return folds_in_words(len(folds), len({seed for seed, fold in planned if fold is not None}))
