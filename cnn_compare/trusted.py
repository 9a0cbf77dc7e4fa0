"""Trust in code that a file names: importing a module runs it, and a checkpoint or a folder may come from anyone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnn_compare.errors import UntrustedCodeError

KNOWN = ("cnn_compare", "lightning", "torch.nn", "torch.optim", "torchmetrics", "torchvision")
"""What this package is made of: whatever is named below these, nothing of somebody else's is imported."""
_IMPORT_PATH = re.compile(r"[^\W\d]\w*([.:][^\W\d]\w*)+")
_OWN_DATA = re.compile(r"cnn_compare\.(\w+\.)*\w+DataModule")
_given: set[str] = set()


def trust(*names: str) -> None:
    """Allow files to name these modules, and what is in them, for as long as this process lives.

    Args:
        names: Modules such as ``my_nets``, which allows ``my_nets:Net`` and ``my_nets.more.Photos`` as well.
    """
    _given.update(names)


def names_in(value: Any) -> Iterator[str]:
    """The texts in a configuration, however deep, by which a module that exists here could be imported.

    This package's own data modules take numbers and texts alone: their arguments, such as ``labels.csv``, import
    nothing.
    """
    if isinstance(value, str):
        if _IMPORT_PATH.fullmatch(value) and _exists(re.split("[.:]", value)[0]):
            yield value
    elif isinstance(value, Mapping):
        plain = _OWN_DATA.fullmatch(str(value.get("class_path")))
        for key, part in value.items():
            if not (plain and key == "init_args"):
                yield from names_in(part)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from names_in(part)


def untrusted(value: Any) -> list[str]:
    """The names of `names_in` that are neither known nor trusted."""
    allowed = (*KNOWN, *_given)
    below = tuple(f"{name}{sign}" for name in allowed for sign in ".:")
    return [name for name in dict.fromkeys(names_in(value)) if name not in allowed and not name.startswith(below)]


def require_trusted(source: str | Path, value: Any, way_out: str | None = None) -> None:
    """Check that nothing of somebody else's would be imported.

    Args:
        source: Where the value was read, for the message.
        value: Part of a configuration or a checkpoint.
        way_out: How the user gives the name; None: by ``trust``.

    Raises:
        UntrustedCodeError: If a module is named that is not a part of this package, and was not given by the user.
    """
    if not (names := untrusted(value)):
        return
    modules = list(dict.fromkeys(re.split("[.:]", name)[0] for name in names))
    # With their values, because `trust` alone is an ordinary word of the message as well.
    options = [way_out] if way_out else [f"trust={module}" for module in modules]
    in_python = "" if way_out else f" (in Python: cnn_compare.trusted.trust({', '.join(map(repr, modules))}))"
    raise UntrustedCodeError(
        f"{source} names {', '.join(names)}, which is not of this package: importing it would run its code. "
        f"If you trust it, give {' '.join(options)}{in_python}.",
        options,
        names=names,
    )


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # It is loaded already, and does not know from where.
        return module != "__main__"
