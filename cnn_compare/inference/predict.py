"""The classes of pictures in files and folders, as a table."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn_compare.data.cache import decoded_in_parts, progress
from cnn_compare.data.layouts import pictures_in, printable
from cnn_compare.errors import InvalidValueError, UsageError
from cnn_compare.files import ADDRESS, csv_text, is_address, require_absent, write_text
from cnn_compare.inference.classifier import Classifier


def find_pictures(paths: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The pictures that paths stand for, each once, in their order.

    Args:
        paths: Files, whatever their names; folders, whose pictures are found by the endings of their names, also in
            folders below; and patterns such as ``photos/**/*.png``.

    Returns:
        Paths of files, which need not be there; and why a path stands for none: path -> reason.
    """
    found: dict[str, None] = {}
    reasons: dict[str, str] = {}
    for path in paths:
        if is_address(path):
            reasons[path] = ADDRESS
            continue
        here, matching = Path(path).expanduser(), [path]
        # A file may be called like a pattern.
        if not here.exists() and glob.has_magic(path):
            matching = sorted(glob.glob(str(here), recursive=True))  # noqa: PTH207, Path.glob takes no absolute pattern
        if not matching:
            reasons[path] = "no file matches this pattern"
        for match in matching:
            if (folder := Path(match).expanduser()).is_dir():
                pictures, of_folders = pictures_in(folder)
                found |= dict.fromkeys(pictures)
                reasons |= of_folders
            else:
                found[str(folder)] = None
    return list(found), reasons


def classify_files(
    classifier: Classifier, paths: Sequence[str], top_k: int = 3, batch_size: int = 64
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Classify the pictures that paths stand for, in bounded memory; they are decoded on all processors.

    Args:
        classifier: The trained network.
        paths: See `find_pictures`.
        top_k: How many of the most probable classes the table has.
        batch_size: Pictures that the network gets at a time.

    Returns:
        The table of `Classifier.__call__`, and why a path is not in it: path -> reason.

    Raises:
        UsageError: If the paths stand for nothing.
    """
    for name, value in (("top_k", top_k), ("batch_size", batch_size)):
        if value < 1:
            raise InvalidValueError(name, value, "at least 1")
    pictures, reasons = find_pictures(paths)
    if not pictures:
        listed = "; ".join(f"{path}: {reason}" for path, reason in reasons.items())
        raise UsageError(f"there are no pictures to classify. {listed or 'Give files, folders or patterns'}.")
    tables: list[pd.DataFrame] = []
    with progress("classified", len(pictures)) as show:
        for names, pixels in _batches(classifier, pictures, batch_size, reasons):
            tables.append(classifier.table(names, classifier.probabilities(pixels), top_k))
            show(sum(map(len, tables)) + len(reasons))
    empty = classifier.table([], None, top_k)
    return pd.concat(tables, ignore_index=True) if tables else empty, reasons


def _batches(
    classifier: Classifier, pictures: Sequence[str], batch_size: int, reasons: dict[str, str]
) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """Names and pixels of the pictures that can be decoded; why the others cannot is put into ``reasons``."""
    names: list[str] = []
    waiting: list[NDArray[np.uint8]] = []
    first = 0
    for pixels, rows in decoded_in_parts(pictures, classifier.decoding):
        for path, one, row in zip(pictures[first : first + len(rows)], pixels, rows, strict=True):
            if row.bad:
                reasons[printable(path)] = row.bad
            else:
                names.append(printable(path))
                waiting.append(one)
            if len(waiting) == batch_size:
                yield names, np.stack(waiting)
                names, waiting = [], []
        first += len(rows)
    if waiting:
        yield names, np.stack(waiting)


def require_output(path: Path) -> None:
    """Check that a table can be written to a file, before there is one.

    Raises:
        UsageError: If it exists.
        InvalidValueError: If its name ends neither in ``.csv`` nor in ``.json``.
    """
    if path.suffix not in (".csv", ".json"):
        raise InvalidValueError("output", str(path), "a file whose name ends in .csv or .json")
    require_absent(path)
    path.parent.mkdir(parents=True, exist_ok=True)


def as_csv(table: pd.DataFrame) -> str:
    """A table of classes as CSV."""
    return csv_text([table.columns, *_rounded(table).itertuples(index=False)])


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of classes as CSV or JSON, by the ending of the file's name."""
    if path.suffix == ".csv":
        write_text(path, as_csv(table))
    else:
        write_text(path, json.dumps(_rounded(table).to_dict("records"), indent=2, ensure_ascii=False) + "\n")


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Round the probabilities of a table to six digits, which is what float32 holds."""
    columns = [name for name in table.columns if name.startswith("probability")]
    return table.assign(**{name: [float(f"{value:.6g}") for value in table[name]] for name in columns})
