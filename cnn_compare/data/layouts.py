"""What a user's folder or table of pictures means: paths, classes, splits and groups. No picture is opened.

Names alone decide, and only in the ways that `read_folders` and `read_table` describe.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePath
from typing import Literal, get_args

from cnn_compare.errors import FolderError, InvalidValueError
from cnn_compare.files import plain_text

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_WORDS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# What operating systems leave in folders.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
# Pillow knows their names, and not how to read them.
_UNREADABLE = {"BUFR", "GRIB", "HDF5", "MPEG"}
_SHOWN = 5


@dataclass(frozen=True)
class Picture:
    """A picture and what is known of it.

    Args:
        path: Relative to the root, with ``/``.
        label: Name of its class.
        split: None where it is still to be cut.
        group: What must not be in two splits; empty where there are no groups.
    """

    path: str
    label: str
    split: Split | None = None
    group: str = ""


@dataclass(frozen=True)
class Pictures:
    """All pictures of a user's data set.

    Args:
        root: What the paths are relative to.
        layout: How the folder or table was understood, in words.
        pictures: Sorted by path.
        class_names: In the order of their labels: sorted, as torchvision does.
        skipped: What is no picture: a reason -> how many files or folders.
    """

    root: Path
    layout: str
    pictures: list[Picture]
    class_names: tuple[str, ...]
    skipped: dict[str, int] = field(default_factory=dict)


def read_folders(root: Path) -> Pictures:
    """The pictures of a folder that holds one folder a class, or a folder a split with one folder a class in each.

    It holds splits if one of its folders is ``train``, and the others are ``test`` and one of ``val``, ``valid`` and
    ``validation``, or some of these. Pictures may lie in further folders inside of a class's.

    Raises:
        FolderError: If there is no picture, an empty class, a single class, a class that training lacks, or folders
            that could be read in two ways.
    """
    if not root.is_dir():
        raise FolderError(root, "there is no such folder" if not root.exists() else "it is not a folder")
    skipped: Counter[str] = Counter()
    folders = _folders(root)
    if "train" not in folders or not folders <= SPLIT_WORDS.keys():
        if "train" in folders and _holds_folders_only(root / "train"):
            others = ", ".join(sorted(folders - SPLIT_WORDS.keys()))
            problem = f"train/ holds folders, as splits do, and beside it are folders that are no splits: {others}"
            raise FolderError(root, problem)
        pictures = _class_folders(root, "", None, skipped)
        return _checked(Pictures(root, "one folder a class", pictures, (), dict(skipped)), map(_text, folders))
    validation = sorted(folders - {"train", "test"})
    if len(validation) > 1:
        raise FolderError(root, f"{' and '.join(validation)} both hold validation images; keep one of them")
    pictures = []
    for name in sorted(folders):
        pictures += _class_folders(root / name, f"{name}/", SPLIT_WORDS[name], skipped)
    layout = f"{', '.join(f'{name}/' for name in sorted(folders))} with one folder a class in each"
    return _checked(Pictures(root, layout, pictures, (), dict(skipped)), map(_text, _folders(root / "train")))


def read_table(file: Path, group: str | None = None) -> Pictures:
    """The pictures of a CSV file with the columns ``path`` and ``label``, and maybe ``split`` and ``group``.

    Args:
        file: Paths in it are relative to its folder. ``split`` is one of ``train``, ``val``, ``valid``,
            ``validation`` and ``test`` in every row.
        group: Column of the groups; None: ``group``, where there is one; ``none``: there are no groups.

    Raises:
        FolderError: If the file cannot be read as such a table; with the line.
        InvalidValueError: If there is no column ``group``.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (
            (error.strerror or str(error)) if isinstance(error, OSError) else f"it is no CSV file in UTF-8 ({error})"
        )
        raise FolderError(file, reason) from error
    if not {"path", "label"} <= {*columns}:
        found = ", ".join(columns) or "none"
        raise FolderError(file, f"its first line names the columns {found}; it needs path and label, between commas")
    if group is None:
        group = "group" if "group" in columns else "none"
    elif group not in ("none", *columns):
        raise InvalidValueError("data.group", group, f"a column of {file} ({', '.join(columns)}), or none")
    used = ["path", "label", *(["split"] if "split" in columns else []), *([group] if group != "none" else [])]
    pictures = []
    for line, row in rows:
        if None in row:
            raise FolderError(file, f"line {line} has more values than there are columns")
        path, label, *others = values = [plain_text((row[name] or "").strip()) for name in used]
        if empty := [name for name, value in zip(used, values, strict=True) if not value]:
            raise FolderError(file, f"line {line} has no {' and no '.join(empty)}")
        split = others[0] if "split" in columns else None
        if split is not None and split not in SPLIT_WORDS:
            raise FolderError(file, f"line {line} has the split {split!r}, which is none of {', '.join(SPLIT_WORDS)}")
        picture = Picture(PurePath(path).as_posix(), _text(label), None if split is None else SPLIT_WORDS[split])
        pictures.append(replace(picture, group=_text(others[-1])) if group != "none" else picture)
    times = Counter(picture.path for picture in pictures)
    if twice := [path for path, count in times.items() if count > 1]:
        raise FolderError(file, f"it names {some(twice)} more than once")
    classes = {picture.label for picture in pictures if picture.split in (None, "train")}
    return _checked(Pictures(file.parent, f"{file.name}, columns {', '.join(used)}", pictures, ()), classes)


def group_by_pattern(pictures: Pictures, pattern: str) -> Pictures:
    """The same pictures, grouped by what a regular expression finds in their paths: its first group, else the match.

    Raises:
        InvalidValueError: If it is no regular expression.
        FolderError: If it is not found in some path.
    """
    try:
        expression = re.compile(unicodedata.normalize("NFC", pattern))
    except re.error as error:
        raise InvalidValueError("data.group_pattern", pattern, f"a regular expression ({error})") from error
    found = [expression.search(_text(picture.path)) for picture in pictures.pictures]
    names = [match and match[min(1, expression.groups)] for match in found]
    if lost := [picture.path for picture, name in zip(pictures.pictures, names, strict=True) if not name]:
        raise FolderError(pictures.root, f"data.group_pattern={pattern} finds nothing in {some(lost)}")
    grouped = [replace(picture, group=name or "") for picture, name in zip(pictures.pictures, names, strict=True)]
    return replace(pictures, pictures=grouped)


def _checked(found: Pictures, classes: Iterable[str]) -> Pictures:
    """With sorted pictures and the class names, which must be those of the training pictures."""
    skipped = f" (skipped: {counts_in_words(found.skipped)})" if found.skipped else ""
    if not found.pictures:
        problem = "there is no picture in it, and it should hold a folder with pictures for each class"
        raise FolderError(found.root, problem + skipped)
    names = tuple(sorted({*classes}))
    trained = {picture.label for picture in found.pictures if picture.split in (None, "train")}
    if empty := [name for name in names if name not in trained]:
        raise FolderError(found.root, f"no picture to train with in {some(empty)}: fill or remove it{skipped}")
    for split in ("val", "test"):
        labels = {picture.label for picture in found.pictures if picture.split == split}
        if unknown := sorted(labels - trained):
            raise FolderError(found.root, f"the {split} images have {some(unknown)}, which training lacks")
    if len(names) < 2:
        raise FolderError(found.root, f"it holds a single class, {names[0]!r}, and there must be at least two")
    pictures = sorted(found.pictures, key=lambda picture: picture.path)
    return replace(found, pictures=pictures, class_names=names)


def _class_folders(root: Path, prefix: str, split: Split | None, skipped: Counter[str]) -> list[Picture]:
    """The pictures of a folder with one folder a class."""
    pictures: list[Picture] = []
    loose = 0
    for entry in _entries(root, skipped):
        if _is_folder(entry):
            label = _text(entry.name)
            paths = _pictures_below(Path(entry.path), f"{prefix}{entry.name}", skipped, set())
            pictures += [Picture(path, label, split) for path in paths]
        elif _is_picture(entry.name, skipped):
            loose += 1
    if loose:
        if not pictures:
            problem = (
                f"it holds {loose:,} pictures outside of class folders; give each class a folder, or use data.labels"
            )
            raise FolderError(root, problem)
        skipped["pictures outside of class folders"] += loose
    return pictures


def pictures_in(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The pictures of a folder and of those in it, which say nothing about classes.

    Returns:
        Their paths, with that of the folder; and why a folder has none or cannot be read: path -> reason.
    """
    skipped: Counter[str] = Counter()
    unreadable: list[FolderError] = []
    paths = list(_pictures_below(folder, str(folder).rstrip("/"), skipped, set(), unreadable))
    reasons = {str(error.path): error.problem for error in unreadable}
    if not paths and not reasons:
        reasons[str(folder)] = "there is no picture in the folder" + (
            f" (skipped: {counts_in_words(skipped)})" if skipped else ""
        )
    return paths, reasons


def _pictures_below(
    folder: Path,
    prefix: str,
    skipped: Counter[str],
    above: set[tuple[int, int]],
    unreadable: list[FolderError] | None = None,
) -> Iterator[str]:
    """The pictures of a folder; a folder that cannot be read is noted, if there is a list for that."""
    status = folder.stat()
    if (here := (status.st_dev, status.st_ino)) in above:
        skipped["links to a folder that they are in"] += 1
        return
    try:
        entries = _entries(folder, skipped)
    except FolderError as error:
        if unreadable is None:
            raise
        unreadable.append(error)
        return
    for entry in entries:
        if _is_folder(entry):
            yield from _pictures_below(Path(entry.path), f"{prefix}/{entry.name}", skipped, above | {here}, unreadable)
        elif _is_picture(entry.name, skipped):
            yield f"{prefix}/{entry.name}"


def _entries(folder: Path, skipped: Counter[str]) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without what is hidden or belongs to an operating system."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise FolderError(folder, error.strerror or str(error)) from error
    kept = [entry for entry in entries if not (entry.name.startswith(".") or entry.name.lower() in _LITTER)]
    if len(kept) < len(entries):
        skipped["hidden or of the operating system"] += len(entries) - len(kept)
    return kept


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def _folders(root: Path) -> set[str]:
    return {entry.name for entry in _entries(root, Counter()) if _is_folder(entry)}


def _holds_folders_only(folder: Path) -> bool:
    kinds = [_is_folder(entry) for entry in _entries(folder, Counter())]
    return bool(kinds) and all(kinds)


def _is_picture(name: str, skipped: Counter[str]) -> bool:
    """By the ending of its name: content that does not fit its name is found when it is decoded, and listed."""
    suffix = PurePath(name).suffix.lower()
    if suffix in _picture_suffixes():
        return True
    skipped[f"no pictures ({suffix or 'no ending'})"] += 1
    return False


@cache
def _picture_suffixes() -> frozenset[str]:
    from PIL import Image  # Imported late: it loads a module for each format.

    formats = Image.registered_extensions()
    return frozenset(suffix for suffix, name in formats.items() if name in Image.OPEN and name not in _UNREADABLE)


def printable(name: str) -> str:
    """A name with bytes that are no UTF-8 written out."""
    return name.encode(errors="backslashreplace").decode()


def _text(name: str) -> str:
    """A class's or group's name as it is compared: macOS stores accents and Korean syllables in parts."""
    return unicodedata.normalize("NFC", printable(name))


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Such as ``1 hidden, 2 no pictures (.txt)``."""
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))


def some(names: Sequence[str]) -> str:
    """The first few names."""
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"
