"""Figures that others published, which a comparison's manifest may carry to stand beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cnn_compare.configs import flatten
from cnn_compare.errors import ResultError
from cnn_compare.formatting import MISSING
from cnn_compare.report.load import StoredRuns, distinct
from cnn_compare.report.summary import Published
from cnn_compare.results import MANIFEST


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


def _here(stored: StoredRuns, condition: Mapping[str, Any]) -> str:
    """What a condition was in these runs; a dash where it is not recorded."""
    if "setting" in condition:
        values = [flatten(stored.manifest["config"]).get(condition["setting"])]
    elif "field" in condition:
        values = [flatten(asdict(run.result)).get(condition["field"]) for run in stored.finished]
    else:
        values = [condition["here"]]
    return ", ".join(distinct(values)) or MISSING
