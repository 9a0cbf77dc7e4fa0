"""Reading the same files once, where several data modules need them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
_kept: ContextVar[dict[Hashable, object] | None] = ContextVar("kept", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Keep what `once` reads until the end of the block, so that it is not read again; blocks can be nested."""
    token = _kept.set({}) if _kept.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _kept.reset(token)


def once(key: Hashable, read: Callable[[], T]) -> T:
    """Return ``read()``; within `reading_once` it is called for the first of equal keys only."""
    if (kept := _kept.get()) is None:
        return read()
    if key not in kept:
        kept[key] = read()
    return kept[key]  # type: ignore[return-value]
