"""What the trials of a search chose, cost, and would have found with fewer of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from statistics import fmean

from cnn_compare.configs import flatten
from cnn_compare.report.load import StoredRuns
from cnn_compare.report.summary import Searched

VALIDATED = "best_val_acc_pct"
COMMON = "common"
"""The variant with the comparison's own settings."""


def searched(stored: StoredRuns) -> list[Searched]:
    """One entry for each backbone with trials, in the order of the comparison."""
    chosen = _chosen(stored)
    if not chosen:
        return []
    variant = stored.manifest["search"]["variant"]
    first_seed = next((trial.seed for trial in stored.trials), None)

    def validated(backbone: str, of: str, retest: bool) -> float | None:
        """Mean best validation accuracy of a variant with the trials' seed, or with all others."""
        results = [run.result for run in stored.finished if (run.result.backbone, run.result.variant) == (backbone, of)]
        values = [each.value(VALIDATED) for each in results if (each.seed != first_seed) == retest]
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    result = []
    for backbone, settings in chosen.items():
        trials = [trial for trial in stored.trials if trial.backbone == backbone]
        finished = [trial for trial in trials if trial.status == "finished"]
        accuracies = [value for trial in finished if (value := trial.value(VALIDATED)) is not None]
        result.append(
            Searched(
                backbone,
                len(finished),
                len(trials) - len(finished),
                sum(trial.value("fit_s") or 0.0 for trial in trials),
                settings,
                expected_best(accuracies),
                retest_pct=validated(backbone, variant, retest=True),
                common_pct=validated(backbone, COMMON, retest=False),
                common_retest_pct=validated(backbone, COMMON, retest=True),
            )
        )
    return result


def expected_best(values: Sequence[float]) -> list[float]:
    """The expected largest of 1, 2, ... and as many as there are of the values, drawn without replacement.

    It is unbiased, and ends at the largest value; drawn with replacement it would be too low.

    Args:
        values: Validation accuracies of trials, in any order.

    Source:
        Tang et al. 2020, "Showing Your Work Doesn't Always Work", arXiv:2004.13705, equation 5.
    """
    ordered, count = sorted(values), len(values)
    # The k-th smallest, from 0, is the largest of as many draws as can be made of those below it and itself.
    return [
        sum(math.comb(k, draws - 1) * value for k, value in enumerate(ordered)) / math.comb(count, draws)
        for draws in range(1, count + 1)
    ]


def _chosen(stored: StoredRuns) -> dict[str, dict[str, object]]:
    """Backbone -> the settings that the manifest has for its best trial; empty without a search."""
    with contextlib.suppress(KeyError, TypeError, AttributeError):  # A damaged manifest, or no search.
        variant = stored.manifest["variants"][stored.manifest["search"]["variant"]]
        return {backbone: flatten(settings) for backbone, settings in variant["backbones"].items()}
    return {}
