from __future__ import annotations

import io

import pytest
from rich.console import Console

from cnn_compare import progress
from cnn_compare.progress import Display


@pytest.fixture
def clock(monkeypatch):
    """A function: moves the clock on by so many seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_without_a_terminal_there_is_a_line_every_five_seconds(clock):
    console = Console(file=io.StringIO(), width=80)
    with Display("work", console) as display:
        for done in range(12):
            display.show(done, 12, "", f"{done} done")
            clock(1)
    assert console.file.getvalue().splitlines() == ["5 done", "10 done"]


@pytest.mark.parametrize("total", [4, float("inf")])
def test_in_a_terminal_there_is_a_bar_once_the_work_has_taken_a_while(clock, total):
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Display("work", console, after_s=1.0) as display:
        display.show(1, total, "too early", "a line")
        assert console.file.getvalue() == ""
        clock(2)
        display.show(3, total, "in time", "a line")
    shown = console.file.getvalue()
    assert "in time" in shown
    assert ("3/4" if total == 4 else "3/?") in shown
    assert "a line" not in shown
