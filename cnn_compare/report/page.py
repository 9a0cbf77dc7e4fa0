"""The report as one HTML file that needs no server and no network."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from cnn_compare.files import without_nan
from cnn_compare.report.findings import Findings
from cnn_compare.report.section import Section
from cnn_compare.report.tables import copies_of


def page(found: Findings, sections: Mapping[str, Section]) -> str:
    """The whole page.

    Args:
        found: The findings, for name and first sentences.
        sections: The sections. All texts in them are escaped.
    """
    answer, *others = (section for section in sections.values() if section.shown)
    figures = {key: list(section.chart.figures.values()) for key, section in sections.items() if section.chart}
    copies = {key: copies_of(section.table) for key, section in sections.items() if section.table}
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            found=found,
            sections=sections,
            answer=answer,
            others={section.key: section for section in others},
            figures=without_nan(figures),
            copies=copies,
            plotly=_packed_plotly(),
        )
    )


def environment() -> Environment:
    """The environment of the templates; all texts that they show are escaped."""
    return Environment(
        loader=PackageLoader("cnn_compare.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


@lru_cache
def _packed_plotly() -> str:
    """plotly.js, five megabytes of it, as two of base64; browsers since 2023 unpack it themselves."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
