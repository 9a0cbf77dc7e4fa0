"""Configurations: finding their files; as plain dictionaries, merging, flattening and comparing them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_compare.errors import InvalidValueError

SHIPPED = Path(__file__).with_name("shipped")
"""The folder ``configs/`` of the repository, which is a part of the package: recipes and comparisons."""


def shipped(kind: str) -> dict[str, Path]:
    """The package's own files of a kind, ``recipes``, ``comparisons`` or ``published``: name -> file."""
    return {path.stem: path for path in sorted((SHIPPED / kind).glob("*.yaml"))}


def find_file(field: str, given: str | Path, *kinds: str) -> Path:
    """The file that an option names: by its path, or one of the package's own by its name, such as ``modern``.

    Args:
        field: The option, for the message.
        given: A path or a name. A file of that path takes precedence.
        kinds: Kinds of the package's files, see `shipped`; the first that has the name takes precedence.

    Raises:
        InvalidValueError: If there is no such file; the message lists the names.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    known = {name: file for kind in reversed(kinds) for name, file in shipped(kind).items()}
    if str(given) in known:
        return known[str(given)]
    raise InvalidValueError(field, str(given), f"a file, or one of {', '.join(sorted(known))}")


def as_list(values: Any) -> list[Any]:
    """A list of one for a single name or number, which the command line need not put in brackets."""
    return [values] if isinstance(values, str | int) else list(values)


def merge_config(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with changes merged in, recursively.

    A section with another ``class_path`` is replaced as a whole: the arguments of the old class do not fit the new one.
    """
    result = dict(config)
    for key, change in changes.items():
        before = result.get(key)
        if (
            isinstance(before, Mapping)
            and isinstance(change, Mapping)
            and change.get("class_path", before.get("class_path")) == before.get("class_path")
        ):
            result[key] = merge_config(before, change)
        else:
            result[key] = copy.deepcopy(change)
    return result


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings that are not the same in all configurations: dotted name -> value in each (None: missing)."""
    flat = [flatten(config) for config in configs]
    names = sorted({name for config in flat for name in config})
    values = {name: [config.get(name) for config in flat] for name in names}
    return {name: column for name, column in values.items() if any(value != column[0] for value in column)}


def find_setting(config: Mapping[str, Any], name: str) -> Any:
    """A setting or a section by its dotted name; None where there is none."""
    value: Any = config
    for key in filter(None, name.split(".")):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
