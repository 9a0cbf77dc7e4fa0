"""What a report is made of: sections, each with sentences, a table, a chart, and what `results.json` holds of it."""

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
        note: What a reader must know of it.
        of_numbers: Whether the columns after the first hold numbers.
        pictures: Of each row, a picture for each column, or None; the page then shows the rows as cards.
        values: Of each row, what the page sorts each column by; empty where it cannot be sorted.
        choice: What the reader chooses of the first column, where the page shows the rows of one of its texts alone.
        intervals: Of each row, ``low, value, high`` that the page draws beside the second column, from 0 to 100.
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
        figures: By what the choice calls them; a single one may have any name.
        caption: What is seen.
        choice: What is chosen.
    """

    figures: Mapping[str, Figure]
    caption: str
    choice: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report; the page shows all of it, Markdown the sentences and the table.

    Args:
        key: Its name in the page, in one word.
        heading: Above it.
        sentences: Text.
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
