"""Files that are written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_compare.errors import UsageError

FORMULA = re.compile(r"'*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
"""How text begins that a spreadsheet computes, maybe after apostrophes that keep it from that."""


def require_absent(path: Path) -> None:
    """Check that a file that is to be written overwrites nothing.

    Raises:
        UsageError: If there is something of that name.
    """
    if path.exists() or path.is_symlink():
        message = f"{path} exists already, and is not overwritten. Give another output, or delete it."
        raise UsageError(message, ["output"])


def write_bytes(path: Path, content: bytes | memoryview, keep: Path | None = None) -> None:
    """Write a file atomically: a reader, or a restart after power loss, finds the old file or the new one.

    Args:
        path: The file; its folder is made when missing.
        content: All of it.
        keep: Gets the file that was at ``path`` before; None: it is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode())


ADDRESS = "it is an address, and only files of this machine are read: download it"


def is_address(place: str | Path) -> bool:
    """Whether a place is an address, such as ``https://…`` or ``s3://…``, also one that `Path` has shortened."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(place)) is not None and not os.path.lexists(place)


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no JSON, or JSON that is nested too deep.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(without_nan(value), indent=2) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as `csv_text`; columns in the order in which the rows first name them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_text(path, csv_text([columns, *([row.get(name) for name in columns] for row in rows)]))


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV, of which a spreadsheet computes nothing: see `csv_cell`. None becomes an empty cell."""
    cells = [[csv_cell(value) for value in row] for row in rows]
    # Python puts only its own ends of lines in quotes, and readers take a carriage return for one too.
    returns = any(isinstance(cell, str) and "\r" in cell for row in cells for cell in row)
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerows(cells)
    return buffer.getvalue()


def csv_cell(value: Any) -> Any:
    """A value for a CSV file: text that a spreadsheet would take for a formula gets an apostrophe before it.

    So does text that begins with apostrophes and then like a formula, so that `plain_text` undoes all of it.

    Source:
        OWASP, "CSV Injection": =, +, -, @, their full-width forms, tab, carriage return and line feed.
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def plain_text(cell: str) -> str:
    """Undo `csv_cell`, for text."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity in a value by None."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
