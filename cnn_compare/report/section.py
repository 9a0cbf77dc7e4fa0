"""Sections of a report, each with sentences, a table, a chart, and what `results.json` holds of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Figure = dict[str, Any]
"""``data`` and ``layout`` as plotly.js takes them."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture as a ``data:`` URL, and what the page says below it."""

    url: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """A table, as texts.

    Args:
        columns: Headings of its columns.
        rows: Texts; the first one of a row names it.
        note: Sentences that a reader must know.
        of_numbers: Whether the columns after the first hold numbers.
        pictures: A picture, or None, for each column of each row; the page then shows the rows as cards.
        values: Values of each row by which the page sorts each column; empty where it cannot be sorted.
        choice: The word for the first column, where the page shows the rows of one of its texts alone.
        intervals: ``low, value, high`` of each row, from 0 to 100, drawn beside the second column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    of_numbers: bool = True
    pictures: Sequence[Sequence[Thumbnail | None]] = ()
    values: Sequence[Sequence[Any]] = ()
    choice: str = ""
    intervals: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """One figure, or several of which the reader chooses one.

    Args:
        figures: Figures by the names that the reader chooses from; a single one may have any name.
        caption: Description of the figure.
        choice: The word for what is chosen.
    """

    figures: Mapping[str, Figure]
    caption: str
    choice: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report; the page shows all of it, Markdown the sentences and the table.

    Args:
        key: Its name in the page, in one word.
        heading: Its heading.
        sentences: Its text.
        table: None without one.
        chart: None without one.
        json: Keys and values of ``results.json``; dataclasses stand for their fields.
        folded: Whether the page shows its heading alone until it is asked for.
        logs: Texts that the page shows folded, by heading.
    """

    key: str
    heading: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    chart: Chart | None = None
    json: Mapping[str, Any] = field(default_factory=dict)
    folded: bool = False
    logs: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> bool:
        """Whether there is more to it than what `results.json` holds."""
        return bool(self.sentences or self.table or self.chart)
