"""What the trials of a search chose, cost, and would have found with fewer of them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from cnn_compare.configs import flatten
from cnn_compare.report.load import StoredRuns
from cnn_compare.report.summary import Searched


def searched(stored: StoredRuns) -> list[Searched]:
    """One entry for each backbone with trials, in the order of the comparison."""
    of_backbone = {
        backbone: [trial for trial in stored.trials if trial.backbone == backbone] for backbone in _chosen(stored)
    }
    result = []
    for backbone, settings in _chosen(stored).items():
        finished = [trial for trial in of_backbone[backbone] if trial.status == "finished"]
        accuracies = [
            trial.metrics["best_val_acc_pct"].value for trial in finished if "best_val_acc_pct" in trial.metrics
        ]
        seconds = sum(trial.value("fit_s") or 0.0 for trial in of_backbone[backbone])
        failed = len(of_backbone[backbone]) - len(finished)
        expected = expected_best(accuracies)
        result.append(Searched(backbone, len(finished), failed, seconds, settings, expected))
    return result


def expected_best(values: Sequence[float]) -> list[float]:
    """The expected largest of 1, 2, ... and as many as there are draws, with replacement, from the values.

    Args:
        values: Validation accuracies of trials, in any order.

    Source:
        Dodge et al. 2019, "Show Your Work: Improved Reporting of Experimental Results", equation 7.
    """
    ordered = np.sort(np.asarray(values, float))
    below = np.arange(len(ordered) + 1) / max(len(ordered), 1)
    return [float(ordered @ np.diff(below**draws)) for draws in range(1, len(ordered) + 1)]


def _chosen(stored: StoredRuns) -> dict[str, dict[str, object]]:
    """Backbone -> the settings that the manifest has for its best trial; empty without a search."""
    with contextlib.suppress(KeyError, TypeError, AttributeError):  # A damaged manifest, or no search.
        variant = stored.manifest["variants"][stored.manifest["search"]["variant"]]
        return {backbone: flatten(settings) for backbone, settings in variant["backbones"].items()}
    return {}
