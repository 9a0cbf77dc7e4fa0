"""Where runs take place: the one thing that a comparison has to know of machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cnn_compare.comparison.spec import RunSpec

Report = Callable[[int, float], None]
"""Told how far a run is: its epoch, counted from 0, and the share of the training that is done."""


class Executor(Protocol):
    """Runs specs, several at a time.

    Attributes:
        jobs: How many calls of `run` it can use at once.
    """

    jobs: int

    def run(self, spec: RunSpec, report: Report) -> str | None:
        """Run a spec to its end, from its last checkpoint, and leave what came of it in its folder; called by threads.

        Returns:
            Where there is no ``result.json`` then, the reason.
        """

    def stop(self) -> None:
        """End all that runs, and give back what was taken for it."""
