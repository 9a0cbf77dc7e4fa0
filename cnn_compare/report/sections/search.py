"""Trials of a search: what they chose and cost, and would have found with fewer of them."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cnn_compare.configs import flatten
from cnn_compare.formatting import MISSING, format_number, format_significant
from cnn_compare.report.charts import COLORS, SYMBOLS, axes, line
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import StoredRuns
from cnn_compare.report.section import Chart, Section, Table
from cnn_compare.results import COMMON

VALIDATED = "best_val_acc_pct"


@dataclass(frozen=True)
class Searched:
    """The trials of one backbone, of which validation has chosen the settings of a variant.

    Args:
        backbone: Its name.
        trials: How many came to their end.
        failed: How many failed or diverged.
        seconds: Seconds of training and validation of all trials.
        settings: Dotted names and values that validation chose.
        expected_pct: Expected best validation accuracy after 1, 2, ... trials; the last is what validation promised.
        retest_pct: Mean validation accuracy of the chosen settings with other seeds; None with one seed.
        common_pct: Validation accuracy of the comparison's own settings with the trials' seed; None without that run.
        common_retest_pct: Their mean with other seeds.
    """

    backbone: str
    trials: int
    failed: int
    seconds: float
    settings: dict[str, Any]
    expected_pct: list[float]
    retest_pct: float | None
    common_pct: float | None
    common_retest_pct: float | None


def of(found: Findings) -> Section | None:
    """The settings chosen for each backbone, and what more trials find."""
    searched = searched_of(found.stored)
    if not searched:
        return None
    json = {"searched": searched}
    return Section("search", "Search", table=_table(searched), chart=_chart(searched), json=json)


def searched_of(stored: StoredRuns) -> list[Searched]:
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


def _table(found: Sequence[Searched]) -> Table:
    most = max(searched.trials for searched in found)
    after = sorted({1, 2, 4, 8, 16, 32, 64} & set(range(most)))

    def of_common(searched: Searched) -> list[str]:
        figures = (searched.common_pct, searched.common_retest_pct)
        empty = [MISSING] * (2 + len(after))
        return [searched.backbone, *empty, *(format_number(each, ".2f") for each in figures), "the common settings"]

    def of_best(searched: Searched) -> list[str]:
        expected = searched.expected_pct
        promised = expected[-1] if expected else None
        return [
            searched.backbone,
            f"{searched.trials}" + (f" and {searched.failed} failed" if searched.failed else ""),
            format_number(searched.seconds, ",.0f"),
            *(f"{expected[trials - 1]:.2f}" if trials <= len(expected) else MISSING for trials in after),
            *(format_number(each, ".2f") for each in (promised, searched.retest_pct)),
            ", ".join(
                f"{name.rpartition('.')[2]} = {format_significant(value) if isinstance(value, float) else value}"
                for name, value in searched.settings.items()
            ),
        ]

    return Table(
        [
            *("backbone", "trials", "seconds", *(f"after {trials}" for trials in after)),
            *("best, trials' seed", "again, other seeds", "settings"),
        ],
        [row(searched) for searched in found for row in (of_common, of_best)],
        "Validation accuracy %. Every backbone had the same trials, on the first seed, and validation chose its "
        "settings. After so many trials: the expected largest of as many of them (unbiased: Tang et al. 2020); one "
        "trial is a random draw, and not the common settings. The best of several is partly luck: with other seeds "
        "the same settings show what remains. Seconds are those of all trials, with validation.",
    )


def _chart(found: Sequence[Searched]) -> Chart | None:
    """Expected best accuracy over the number of trials: whom tuning helps, and how soon."""
    several = [searched for searched in found if searched.trials > 1]
    if not several:
        return None
    endless = zip(itertools.cycle(COLORS), itertools.cycle(SYMBOLS), strict=False)
    lines = [
        line(searched.backbone, range(1, searched.trials + 1), searched.expected_pct, style)
        for searched, style in zip(several, endless, strict=False)
    ]
    caption = "Expected best validation accuracy over the number of trials."
    return Chart({"": axes(lines, "trials", "best validation accuracy, %")}, caption)
