"""Lightning's rich progress bar, drawn as often as eyes can follow."""

from __future__ import annotations

import time

from lightning.pytorch.callbacks import RichProgressBar

SECONDS_BETWEEN = 0.25


class CalmProgressBar(RichProgressBar):
    """`RichProgressBar` that draws itself four times a second at most.

    Lightning's own draws after every step, whatever its ``refresh_rate``; a tenth of LeNet's time goes into that.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drawn = -SECONDS_BETWEEN

    def refresh(self, hard: bool = False) -> None:
        """Draw, if it is time."""
        now = time.monotonic()
        if hard or now - self._drawn >= SECONDS_BETWEEN:
            self._drawn = now
            super().refresh(hard)
