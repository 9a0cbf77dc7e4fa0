"""What a data set holds, as one HTML file with its pictures in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnn_compare.report.page import environment


@dataclass(frozen=True)
class Picture:
    """Pictures side by side, as ``data:`` URLs, and what stands below them."""

    caption: str
    urls: Sequence[str]


@dataclass
class Section:
    """A part of the page: sentences, a table whose rows are keyed by its headings, and pictures.

    A column without a heading holds bars. ``warns`` sets the part off from the others.
    """

    heading: str
    sentences: Sequence[str]
    rows: Sequence[Mapping[str, str]] = ()
    pictures: Sequence[Picture] = ()
    warns: bool = False


def data_page(name: str, sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        name: Of the data.
        sections: What it shows, the most important first. All texts in it are escaped.
    """
    return environment().get_template("data.html.j2").render(name=name, sections=sections)
