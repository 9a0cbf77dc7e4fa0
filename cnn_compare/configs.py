"""Configurations as plain dictionaries: refined, flattened, compared."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any


def merge_config(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with changes, each as deep in it as its keys say; another class brings all its arguments."""
    result = dict(config)
    for key, change in changes.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(change, Mapping) and _same_class(before, change):
            result[key] = merge_config(before, change)
        else:
            result[key] = copy.deepcopy(change)
    return result


def _same_class(before: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    return "class_path" not in change or change["class_path"] == before.get("class_path")


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted names of the settings that are not the same in all configurations, each with its values."""
    flat = [flatten(config) for config in configs]
    names = sorted({name for each in flat for name in each})
    values = {name: [each.get(name) for each in flat] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
