"""The interface of a comparison to the machines that carry out its runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cnn_compare.comparison.spec import Progress, RunSpec

OnProgress = Callable[[Progress], None]


class Executor(Protocol):
    """Carries out runs, several at the same time.

    Attributes:
        jobs: How many calls of `run` may be active at the same time.
    """

    jobs: int

    def check(self, specs: Sequence[RunSpec]) -> None:
        """Check what can be known of runs before they start.

        Raises:
            CnnCompareError: If the machines lack the devices, or the data does not fit the settings.
        """

    def plan(self, specs: Sequence[RunSpec], threads: int | None) -> int:
        """Decide how many of these runs go on at the same time, which sets ``jobs``.

        Args:
            specs: The runs that are to be carried out, in their order.
            threads: Threads of torch in each process of earlier runs of the comparison; None: to be decided here.

        Returns:
            The number of threads.
        """

    def run(self, spec: RunSpec, on_progress: OnProgress) -> str | None:
        """Carry out a run, or resume it from its last checkpoint, and leave its files in its folder.

        Several threads call this at the same time.

        Returns:
            Why the run left no ``result.json``; meaningless if it left one.
        """

    def stop(self) -> None:
        """Kill the runs that are active, and release the resources taken for them."""
