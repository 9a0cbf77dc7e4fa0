"""Figures as text, the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

import codecs
import io
import logging
import math
import shutil
import sys
import textwrap
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

MISSING = "–"


def format_number(value: float | None, spec: str) -> str:
    """A figure in one of Python's formats; a dash for None and NaN."""
    return MISSING if value is None or math.isnan(value) else format(value, spec)


def format_signed(value: float | None, digits: int = 1) -> str:
    """``+0.3`` or ``−0.3``."""
    return format_number(value, f"+.{digits}f").replace("-", "−")


def format_significant(value: float | None) -> str:
    """Three significant digits without an exponent: ``1,284``, ``29.8``, ``0.062``."""
    return format_number(value, ".3g" if value is None or abs(value) < 999.5 else ",.0f")


def format_count(value: float | None) -> str:
    """``11_173_962`` -> ``11.2 M``."""
    if value is None or math.isnan(value):
        return MISSING
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"


def format_bytes(value: float | None) -> str:
    """``1_279_262_720`` -> ``1,220 MiB``."""
    return MISSING if value is None else f"{format_number(value / 2**20, ',.0f')} MiB"


def format_p(value: float | None) -> str:
    """A p-value with two significant digits, or ``< 0.0001``."""
    return "< 0.0001" if value is not None and value < 1e-4 else format_number(value, ".2g")


def format_duration(seconds: float | None) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds is None or seconds < 90:
        return MISSING if seconds is None else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shorten(text: str, length: int) -> str:
    """A text of at most so many characters: its beginning and its end, because names often differ only there."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def format_list(names: Sequence[str], most: int | None = None) -> str:
    """``a, b and c``; of more names than ``most``, the others are counted: ``a, b and 7 more``."""
    if most is not None and len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# What this package prints beyond ASCII, and what stands for it.
_ASCII = str.maketrans({"–": "-", "−": "-", "±": "+/-", "…": "...", "×": "x", "→": "->", "━": "-", "╸": "-", "╺": "-"})


def to_ascii(text: str) -> str:
    """Text for a terminal that knows nothing else: accents are dropped, what is unknown becomes ``?``."""
    replaced = text.translate(_ASCII)
    return "".join(
        unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?" for character in replaced
    )


def print_on_any_terminal() -> None:
    """Make standard output and error print `to_ascii` of what their encoding lacks, instead of raising an error."""

    def replace(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return to_ascii(error.object[error.start : error.end]), error.end

    codecs.register_error("cnn_compare_ascii", replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Not so in a notebook, which shows everything.
            stream.reconfigure(errors="cnn_compare_ascii")


@contextmanager
def quiet() -> Iterator[None]:
    """Do without warnings, and without log messages that are no errors: what libraries say of themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def print_text(text: str) -> None:
    """Print a sentence in lines as wide as the terminal, without a break inside of a word."""
    width = shutil.get_terminal_size().columns
    print(textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False))


def print_table(
    rows: Sequence[Mapping[str, object]], text_columns: int, title: str | None = None, caption: str | None = None
) -> None:
    """Print rows, headings by their keys; the first columns hold text, the others numbers."""
    # Imported late: the list of commands does without.
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for index, heading in enumerate(rows[0]):
        is_text = index < text_columns or not heading  # Without a heading stand bars.
        # A narrow terminal shortens every column before the first, the name.
        least = max(len(str(row[heading])) for row in rows) if index == 0 else None
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=index == 0, min_width=least)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(highlight=False, markup=False, emoji=False).print(table)
