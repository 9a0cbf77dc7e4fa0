"""Files that are written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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


def is_address(text: str) -> bool:
    """Whether a text is an address, such as ``https://…`` or ``s3://…``, also one that `Path` has shortened."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None and not os.path.lexists(text)


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
    """Write rows as CSV; columns in the order in which the rows first name them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def without_nan(value: Any) -> Any:
    """The same value with None for NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
