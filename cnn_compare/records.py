"""Records: dataclasses as JSON files, whose values are checked against the dataclass when they are read."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, cast, get_args, get_origin, get_type_hints

from cnn_compare.errors import ResultError
from cnn_compare.files import read_json, write_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def write_record(path: Path, record: DataclassInstance, schema: int) -> None:
    """Write a record, all of it or nothing.

    Args:
        path: The file.
        record: Numbers, texts, lists, dictionaries and dataclasses of these. NaN and infinity come back.
        schema: The version of its form.
    """
    write_text(path, json.dumps({"schema": schema, **asdict(record)}, indent=2) + "\n")


def read_record(path: Path, cls: type[T], schema: int) -> T:
    """Read what `write_record` wrote; keys of dictionaries that are integers become so again.

    Raises:
        ResultError: If the file is missing or not whole, has another schema, or values that ``cls`` does not take.
    """
    try:
        stored = read_json(path)
    except FileNotFoundError as error:
        raise ResultError(path, "the file is missing") from error
    except (OSError, ValueError) as error:
        raise ResultError(path, f"it cannot be read as JSON ({error})") from error
    found = stored.pop("schema", None) if isinstance(stored, dict) else None
    if found != schema:
        raise ResultError(path, f"its schema is {found!r}, and this version reads {schema}")
    try:
        record: T = _as(cls, stored, "all")
    except ValueError as error:
        raise ResultError(path, f"its fields are not those of a {cls.__name__} ({error})") from error
    return record


class FolderRecord:
    """A record that is a file in a comparison's folder; dataclasses inherit from it.

    Attributes:
        FILE: The file's name.
        SCHEMA: The version of its form.
    """

    FILE: ClassVar[str]
    SCHEMA: ClassVar[int] = 1

    @classmethod
    def path(cls, folder: Path) -> Path:
        """The file in a comparison's folder."""
        return folder / cls.FILE

    def save(self, folder: Path) -> None:
        """Write the file, all of it or nothing."""
        write_record(self.path(folder), cast("DataclassInstance", self), self.SCHEMA)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the file; None if there is none.

        Raises:
            ResultError: If it is damaged, or of another version.
        """
        path, kind = cls.path(folder), cast(Any, cls)
        return cast(Self, read_record(path, kind, cls.SCHEMA)) if path.exists() else None


def _as(kind: Any, value: Any, name: str) -> Any:
    """A value from JSON as an annotation says; a ValueError names the fields that are wrong."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any or (origin is Literal and value in parts) or (kind is float and type(value) is int):
        return value
    if is_dataclass(kind) and isinstance(value, dict):
        types, wrong = get_type_hints(kind), []
        needed = {each.name for each in fields(kind) if each.default is each.default_factory is MISSING}
        given: dict[str, Any] = {}
        for field in sorted(needed | value.keys()):
            try:
                given[field] = _as(types[field], value[field], field)
            except KeyError:
                wrong.append(field)
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError(", ".join(wrong))
        make: Any = kind
        return make(**given)
    if origin is list and isinstance(value, list):
        return [_as(parts[0], each, name) for each in value]
    if origin is dict and isinstance(value, dict):
        return {parts[0](key): _as(parts[1], each, name) for key, each in value.items()}
    if origin is UnionType:  # With None, in all records.
        return None if value is None else _as(parts[0], value, name)
    if type(value) is kind:
        return value
    raise ValueError(name)
