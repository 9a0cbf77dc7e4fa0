"""The sections of a report, one file each (or one for some that belong together).

A section is a function of the findings that returns its `Section`, or None where there is nothing to show. To add one,
write a file here and name its function in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable

from cnn_compare.report.findings import Findings
from cnn_compare.report.section import Section
from cnn_compare.report.sections import (
    answer,
    calibration,
    classes,
    conditions,
    curves,
    differences,
    failures,
    growth,
    images,
    leaks,
    method,
    published,
    results,
    search,
)

SECTIONS: tuple[Callable[[Findings], Section | None], ...] = (
    answer.of,
    results.of,
    results.variants,
    differences.of,
    growth.of,
    search.of,
    curves.of,
    curves.loss,
    classes.recall,
    classes.confusion,
    calibration.of,
    leaks.of,
    images.hardest,
    images.asked,
    images.wrong_labels,
    results.costs,
    results.networks,
    published.of,
    published.conditions,
    method.of,
    conditions.of,
    failures.of,
)
"""In the order of the page."""


def sections_of(found: Findings) -> dict[str, Section]:
    """Every section that there is something to show of, by its key."""
    return {section.key: section for make in SECTIONS if (section := make(found))}
