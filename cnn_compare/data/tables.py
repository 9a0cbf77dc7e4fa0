"""The meaning of a table of labels: pictures, and their classes, splits and groups. No picture is opened."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath

from cnn_compare.data.layouts import (
    SPLITS,
    Picture,
    Pictures,
    checked,
    normalized_name,
    picture_suffixes,
    split_named,
    unpack_hint,
)
from cnn_compare.errors import FolderError, InvalidValueError
from cnn_compare.files import ADDRESS, is_address, plain_text

TABLE_COLUMNS = ("path", "label", "split", "group")
"""What a table tells of a picture."""
_DELIMITERS = ",;\t|"
_NOT_USED = "; data.columns='{split: none}' leaves this column out"
# What pandas and spreadsheets write for a missing value, and what may be a class as well.
_MISSING, _MAYBE_MISSING = {"nan", "<na>", "n/a", "#n/a", "nat"}, {"na", "none", "null", "?", "-"}
_ONE_HOT = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
# What is looked at for the sake of a message, at most.
_FILES_LOOKED_AT, _LINES_LOOKED_AT = 20_000, 20


def read_table(
    file: Path,
    group: str | None = None,
    data_dir: Path | None = None,
    columns: Mapping[str, str | list[str]] | None = None,
) -> Pictures:
    r"""The pictures of a CSV file whose first row names its columns, in any case.

    Between the values are commas, semicolons, tabs or ``|``; the encoding is UTF-8 or UTF-16. Empty rows are skipped. A
    picture that is not where a row says is looked for with ``/`` for ``\``, in the other Unicode form, in another case,
    and without the ending of its name.

    Args:
        file: The table. Each row has a path, a label, and maybe a split (a word such as ``Train``, ``valid``, ``dev``
            or ``Test``) and a group; one that is there is in every row.
        group: Column of the groups; None: ``group``, where there is one; ``none``: there are no groups.
        data_dir: Folder that paths are relative to; a bare name is looked for in all its folders. None: the table's.
        columns: Names of the columns that stand for ``path``, ``label``, ``split`` and ``group``; ``none``: that column
            is not used. A list for ``label``: one column a class, of which exactly one holds 1.

    Raises:
        FolderError: If the file cannot be read as such a table; with the line.
        InvalidValueError: If there is no column ``group``.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise FolderError(data_dir, "there is no such folder")
    header, rows = _read(file, columns := {**(columns or {})})
    if group not in (None, "none") and not _places(header, str(group)):
        raise InvalidValueError("data.group", group, f"a column of {file} ({', '.join(header)}), or none")
    columns |= {} if group is None else {"group": group}
    named = {
        name: column if isinstance(column := columns.get(name, name), list) else [column] for name in TABLE_COLUMNS
    }
    for name in ("split", "group"):
        if named[name] == ["none"] or (name not in columns and not _places(header, name)):
            del named[name]
    _require_columns(file, header, named, rows[:_LINES_LOOKED_AT])
    place = {name: [_places(header, column)[0] for column in of] for name, of in named.items()}
    finder = _Finder(data_dir or file.parent, below=data_dir is not None)
    pictures: dict[int, Picture] = {}
    empty = 0
    for line, row in rows:
        values = [plain_text(value.strip()) for value in row]
        if not any(values):
            empty += 1
            continue
        if any(values[len(header) :]):
            raise FolderError(file, f"line {line} has more values than there are columns")
        values += [""] * (len(header) - len(values))
        cells = {name: [values[index] for index in of] for name, of in place.items()}
        try:
            pictures[line] = _picture(cells, named["label"], finder)
        except ValueError as error:
            raise FolderError(file, f"line {line} has {error}") from error
    if not pictures:
        raise FolderError(file, "there is no picture in it")
    if all(picture.path in finder.missing for picture in pictures.values()):
        raise FolderError(file, finder.none_of(pictures))
    _require_sound(file, pictures)
    unsure = sorted({picture.label for picture in pictures.values() if picture.label.lower() in _MAYBE_MISSING})
    found = Pictures(
        finder.root,
        f"{file.name}, columns {', '.join(column for of in named.values() for column in of)}",
        [*pictures.values()],
        (),
        {"empty rows": empty} if empty else {},
        [f"{name!r} is read as a class. If it stands for a missing label, remove its rows" for name in unsure],
    )
    return checked(found)


def _read(file: Path, columns: Mapping[str, str | list[str]]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the other rows with their lines."""
    path = str(columns.get("path", "path"))
    try:
        content = file.read_bytes()
        utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf_16 else "utf-8-sig")
        if "\0" in text:
            raise UnicodeError("null characters")
        headers = {each: _first_row(csv.reader(io.StringIO(text, newline=""), delimiter=each)) for each in _DELIMITERS}
        # csv.Sniffer guesses from all values, which may hold commas themselves; a known column tells.
        delimiter = max(headers, key=lambda each: (len(_places(headers[each], path)), len(headers[each])))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = _first_row(reader)
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        if isinstance(error, OSError):
            raise FolderError(file, error.strerror or str(error)) from error
        way_out = unpack_hint(file) or f" in UTF-8 ({error}): save it as one"
        raise FolderError(file, f"it is no CSV file{way_out}") from error
    return [name.strip() for name in header], rows


def _first_row(rows: Iterable[list[str]]) -> list[str]:
    """The first row that is not empty."""
    return next((row for row in rows if any(map(str.strip, row))), [])


def _places(header: Sequence[str], column: str) -> list[int]:
    """The places of a column: under that very name, else in another case or Unicode form."""
    exactly = [index for index, name in enumerate(header) if name == column]
    return exactly or [index for index, name in enumerate(header) if _key(name.strip()) == _key(column)]


def _require_columns(
    file: Path, header: Sequence[str], named: Mapping[str, Sequence[str]], rows: Sequence[tuple[int, list[str]]]
) -> None:
    """Check that the first row has all columns, once; the others are looked at for a way out."""
    if not header:
        raise FolderError(file, "it is empty")
    columns = [column for of in named.values() for column in of]
    for column in columns:
        if len(_places(header, column)) > 1:
            raise FolderError(file, f"it has two columns that are called {column}")
    if missing := [column for column in columns if not _places(header, column)]:
        found = ", ".join(header)
        way_out = (
            "data.columns='{path: image_id, label: dx}' says what other columns stand for, and label: [MEL, NV] that "
            "there is one column a class"
        )
        below = [line for line, row in rows if all(_places(row, column) for column in columns)]
        if below:
            way_out = f"Line {below[0]} does: remove what is before it"
        elif len(header) == 1:
            way_out = "Between the columns must be commas, semicolons or tabs"
        elif any(PurePosixPath(name).suffix.lower() in picture_suffixes() for name in header):
            way_out = "It seems to be the first picture: put a line with the columns' names before it"
        raise FolderError(
            file, f"its first line names the columns {found}; it needs {' and '.join(missing)}. {way_out}"
        )


def _picture(cells: Mapping[str, list[str]], classes: Sequence[str], finder: _Finder) -> Picture:
    """The picture of a row.

    Raises:
        ValueError: What the row has and must not have.
    """
    for name, of in cells.items():
        if of == [""]:
            raise ValueError(f"no {name}")
        if len(of) == 1 and of[0].lower() in _MISSING:
            raise ValueError(f"the {name} {of[0]!r}, which stands for a missing value")
    (label, *more), (path,) = cells["label"], cells["path"]
    if more:
        known = [_ONE_HOT.get(value.lower()) for value in cells["label"]]
        if None in known or sum(map(bool, known)) != 1:
            values = ", ".join(f"{name}={value}" for name, value in zip(classes, cells["label"], strict=True))
            raise ValueError(f"{values}, of which one must be 1 and the others 0")
        label = classes[known.index(True)]
    split = None
    if "split" in cells and (split := split_named(cells["split"][0])) is None:
        raise ValueError(f"the split {cells['split'][0]!r}, which is none of {', '.join(SPLITS)}{_NOT_USED}")
    group = normalized_name(cells["group"][0]) if "group" in cells else ""
    return Picture(finder.find(path), normalized_name(label), split, group)


def _require_sound(file: Path, pictures: Mapping[int, Picture]) -> None:
    """Check that no two rows have the same picture, and that no number is written in two ways."""
    of_path: dict[str, int] = {}
    of_number: dict[Decimal, tuple[int, str]] = {}
    for line, picture in pictures.items():
        path = os.path.normpath(picture.path)
        if (first := of_path.setdefault(path, line)) != line:
            raise FolderError(file, f"it names {path} in lines {first} and {line}: keep one of them")
        for text in (picture.label, picture.group):
            if re.fullmatch(r"[+-]?\d+([.,]\d*)?", text):
                first, other = of_number.setdefault(Decimal(text.replace(",", ".")), (line, text))
                if other != text:
                    raise FolderError(file, f"line {line} has {text}, and line {first} has {other}: write one of them")


class _Finder:
    """Finds the files that a table names.

    Args:
        root: The folder that its paths are relative to.
        below: Whether bare names are looked for in all folders of the root.
    """

    def __init__(self, root: Path, below: bool) -> None:
        self.root, self.below = root, below
        self.listed: dict[PurePosixPath, dict[str, list[str]]] = {}
        self.missing: set[str] = set()

    def find(self, written: str) -> str:
        """The path of a file as it is on the disk; as it is written, where there is none.

        Raises:
            ValueError: If the path may be that of two files, or is no path.
        """
        if is_address(written):
            raise ValueError(f"the path {written}: {ADDRESS}")
        path = os.path.expanduser(written) if written.startswith("~") else written  # noqa: PTH111, it may have no home
        if os.path.lexists(self.root / path) and not (self.root / path).is_dir():
            return PurePosixPath(path).as_posix()
        for form in dict.fromkeys((path, path.replace("\\", "/"))):
            found = self._walk(PurePosixPath(form)) or (self._below.get(_key(form), []) if self.below else [])
            if len(found) > 1:
                raise ValueError(f"the path {written}, which may be {' or '.join(sorted(found)[:2])}")
            if found:
                return found[0]
        self.missing.add(as_written := PurePosixPath(path).as_posix())
        return as_written

    def _walk(self, path: PurePosixPath) -> list[str]:
        """The files that a path may stand for, folder by folder."""
        *folders, name = path.parts or ("",)
        here = PurePosixPath()
        for folder in folders:
            inside = [each for each in self._listing(here).get(_key(folder), []) if (self.root / here / each).is_dir()]
            if not (self.root / here / folder).is_dir():
                if len(inside) != 1:
                    return []
                folder = inside[0]
            here /= folder
        return [(here / each).as_posix() for each in self._listing(here).get(_key(name), [])]

    def _listing(self, folder: PurePosixPath) -> dict[str, list[str]]:
        """The names in a folder, by what may be written for them."""
        if folder not in self.listed:
            try:
                names = sorted(os.listdir(self.root / folder))  # noqa: PTH208, names are all that is wanted
            except OSError:
                names = []
            self.listed[folder] = _by_key(names)
        return self.listed[folder]

    @cached_property
    def _below(self) -> dict[str, list[str]]:
        return _by_key(self._files())

    def _files(self) -> Iterator[str]:
        for folder, _, names in os.walk(self.root):
            inside = os.path.relpath(folder, self.root)
            yield from (os.path.normpath(os.path.join(inside, name)) for name in names)  # noqa: PTH118, of a million

    def none_of(self, missing: Mapping[int, Picture]) -> str:
        """Say why none of the pictures is there (line -> picture), by the first one, and what might be meant."""
        line, path = next((line, picture.path) for line, picture in missing.items())
        name = PurePosixPath(path.replace("\\", "/")).name
        known = _by_key(islice(self._files(), _FILES_LOOKED_AT))
        absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
        of = "" if absolute else f", relative to {self.root}"
        hint = "data.data_dir=FOLDER names the folder that paths are relative to"
        if near := known.get(_key(name)):
            hint = f"There is {near[0]}: write paths relative to the table's folder"
            if name == path:
                found = [known[key][0] for picture in missing.values() if (key := _key(picture.path)) in known]
                folder = os.path.commonpath([PurePosixPath(each).parent for each in found])
                hint = f"There is {near[0]}: give data.data_dir={self.root / folder}"
            elif near[0].endswith(path):
                hint = f"There is {near[0]}: give data.data_dir={self.root / near[0].removesuffix(path)}"
        elif near := known.get(_key(PurePosixPath(name).stem)):
            hint = f"There is {near[0]}: write the endings of the names as they are, or none"
        return f"none of its {len(missing):,} pictures is there. The first, in line {line}, is {path}{of}. {hint}"


def _key(name: str) -> str:
    return normalized_name(name).casefold()


def _by_key(paths: Iterator[str] | Sequence[str]) -> dict[str, list[str]]:
    """Files by their names, with and without the ending of a picture's, in one Unicode form and case."""
    suffixes, found = picture_suffixes(), dict[str, list[str]]()
    for path in paths:
        name = PurePosixPath(path)
        for key in {_key(name.name), _key(name.stem) if name.suffix.lower() in suffixes else _key(name.name)}:
            found.setdefault(key, []).append(path)
    return found
