"""Progress of long work: a bar in a terminal or a notebook, elsewhere a line every few seconds."""

from __future__ import annotations

import math
import time
from typing import Self

from rich import progress as bars
from rich.console import Console

REDRAW_S, LINE_S = 0.25, 5.0


class Display:
    """A bar, or lines; drawn so rarely that it takes no time from the work.

    Args:
        what: The work, in a word before the bar.
        console: Where it is shown; None: standard error.
        after_s: Seconds until a bar appears.
        line_after_s: Seconds until the first line appears; None: as many as between two lines.
        time_left: Whether a bar says how long is left; False: the text says it.
    """

    def __init__(
        self,
        what: str,
        console: Console | None = None,
        after_s: float = 0.0,
        line_after_s: float | None = None,
        time_left: bool = True,
    ) -> None:
        self.console = console or Console(stderr=True)
        self._is_live = self.console.is_terminal or self.console.is_jupyter
        self._interval_s = REDRAW_S if self._is_live else LINE_S
        wait_s = after_s if self._is_live else LINE_S if line_after_s is None else line_after_s
        self._due = time.monotonic() + wait_s
        self._bar = bars.Progress(
            bars.TextColumn(what),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.description}"),
            bars.TimeElapsedColumn(),
            *([bars.TextColumn("left"), bars.TimeRemainingColumn()] if time_left else []),
            console=self.console,
            auto_refresh=False,  # It would take a thread.
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def show(self, done: float, total: float, text: str, line: str) -> None:
        """Show how far the work is, if it is due or done.

        Args:
            done: The part of ``total`` that is done; both in any unit.
            total: All of the work; infinite: not known.
            text: Text behind the bar.
            line: Text that is printed where there is no bar; empty: nothing.
        """
        now = time.monotonic()
        if now < self._due and not (self._bar.live.is_started and done == total):
            return
        self._due = now + self._interval_s
        if self._is_live:
            self._bar.start()
            known = total if math.isfinite(total) else None
            self._bar.update(self._task, completed=done, total=known, description=text, refresh=True)
        elif line:
            self.print(line)

    def print(self, line: str) -> None:
        """Print a line of plain text, above the bar if there is one."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the bar as it is; `show` would draw it again."""
        if self._bar.live.is_started:
            self._bar.stop()
