"""Figures that others published, which a comparison's manifest may carry to stand beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cnn_compare.configs import flatten
from cnn_compare.errors import ResultError
from cnn_compare.formatting import MISSING
from cnn_compare.report.columns import COLUMNS
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import StoredRuns, distinct
from cnn_compare.report.section import Section, Table
from cnn_compare.results import MANIFEST


@dataclass(frozen=True)
class Published:
    """Figures that others published, to stand beside a comparison.

    Args:
        source: Who published them, and where.
        figures: Backbone -> metric -> value.
        conditions: Each with the keys ``what``, ``here`` and ``published``.
    """

    source: str
    figures: dict[str, dict[str, float]]
    conditions: list[dict[str, str]]


def of(found: Findings) -> Section | None:
    """The published figures of the compared networks."""
    published = _readable(found.stored)
    if published is None:
        return None
    names = dict.fromkeys(name for metrics in published.figures.values() for name in metrics)
    shown = [column for column in COLUMNS if column.key in names]
    table = Table(
        ["network", *(heading for column in shown for heading in (column.heading, "published"))],
        [
            [
                network.name,
                *(
                    column.format(value)
                    for column in shown
                    for value in (column.value(network), published.figures[network.backbone].get(column.key))
                ),
            ]
            for network in found.networks
            if network.backbone in published.figures
        ],
        f"Published: {published.source}.",
    )
    return Section("published", "Beside the published figures", table=table, json={"published": published})


def conditions(found: Findings) -> Section | None:
    """The conditions under which the published figures were measured."""
    published = _readable(found.stored)
    if published is None or not published.conditions:
        return None
    keys = ("what", "here", "published")
    rows = [[condition[key] for key in keys] for condition in published.conditions]
    table = Table(["condition", "here", "published"], rows, of_numbers=False)
    return Section("published-conditions", "Conditions of the published figures", table=table)


def find_published(stored: StoredRuns) -> Published | None:
    """The manifest's ``published``, with what the runs were under the same conditions; None where it has none.

    Its ``figures`` are values by backbone and metric. Each of its ``conditions`` has ``what`` it is and what was
    ``published``; what it is here comes from a ``setting`` of the configuration or a ``field`` of the results, both
    dotted names, or is said in words (``here``).

    Raises:
        ResultError: If it is of another form.
    """
    entry = stored.manifest.get("published")
    if entry is None:
        return None
    try:
        return Published(
            source=str(entry["source"]),
            figures={
                str(backbone): {str(metric): float(value) for metric, value in figures.items()}
                for backbone, figures in entry["figures"].items()
            },
            conditions=[
                {"what": str(each["what"]), "here": _here(stored, each), "published": str(each["published"])}
                for each in entry.get("conditions", [])
            ],
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        reason = f"its published figures cannot be read ({type(error).__name__}: {error})"
        raise ResultError(stored.folder / MANIFEST, reason) from error


def _readable(stored: StoredRuns) -> Published | None:
    """The published figures; None where they are damaged, which another section says."""
    try:
        return find_published(stored)
    except ResultError:
        return None


def _here(stored: StoredRuns, condition: Mapping[str, Any]) -> str:
    """A condition as it was in these runs; a dash where it is not recorded."""
    if "setting" in condition:
        values = [flatten(stored.manifest["config"]).get(condition["setting"])]
    elif "field" in condition:
        values = [flatten(asdict(run.result)).get(condition["field"]) for run in stored.finished]
    else:
        values = [condition["here"]]
    words = {True: "yes", False: "no"}
    return ", ".join(distinct(words[value] if isinstance(value, bool) else value for value in values)) or MISSING
