"""Learning rate schedules, and the length of a run that they span."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from cnn_compare.errors import InvalidValueError, ResumeError
from cnn_compare.private import milestones_of, parts_of_schedule

PROGRESS = {
    *("last_epoch", "_step_count", "_last_lr", "_is_initial", "_get_lr_called_within_step"),
    *("T_cur", "T_i", "best", "num_bad_epochs", "cooldown_counter"),
}
"""How far a schedule is: in the states of torch's schedules, all else are settings."""
LENGTHS = ("T_max", "total_steps", "total_iters")

Interval = Literal["step", "epoch"]
LENGTHS_IN_STEPS = {"total_steps", "steps_per_epoch"}
"""Arguments, or attributes, of a schedule that counts optimiser steps."""


class WarmupCosine(LambdaLR):
    """Linear warm-up, then a cosine down to zero, over all optimiser steps of the run.

    Args:
        optimizer: Its learning rate is the peak.
        warmup: Share of the steps that warm up.
        total_steps: Optimiser steps of the run; `ClassifierModule` sets it from the trainer.

    Raises:
        InvalidValueError: If ``warmup`` is not from 0 to below 1.

    Source:
        Loshchilov and Hutter 2016, arXiv:1608.03983; warm-up: Goyal et al. 2017, arXiv:1706.02677.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, warmup: float = 0.1, total_steps: int = 1) -> None:
        if not 0 <= warmup < 1:
            raise InvalidValueError("warmup", warmup, "from 0 to below 1, a share of the steps")
        self.warmup, self.total_steps = warmup, total_steps
        super().__init__(optimizer, self.factor)

    def set_total_steps(self, total_steps: int) -> None:
        """Change the length, before the run or during it."""
        self.total_steps = total_steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.factor(self.last_epoch)

    def factor(self, step: int) -> float:
        """The learning rate at a step, as a share of the peak."""
        progress = min((step + 1) / (self.total_steps + 1), 1.0)
        if progress < self.warmup:
            return progress / self.warmup
        angle = torch.pi * (progress - self.warmup) / (1 - self.warmup)
        return 0.5 * (1 + float(torch.tensor(angle).cos()))


def schedule_interval(schedule: LRScheduler, given: Interval | None = None) -> Interval:
    """Whether a schedule goes on with each optimiser step or with each epoch.

    Args:
        schedule: It counts steps if it is given a number of steps, or a schedule in it is; epochs otherwise.
        given: The user's choice; None: the schedule's own.

    Raises:
        InvalidValueError: If the schedule cannot have what is given.
    """
    kind = type(schedule)
    named = {*inspect.signature(kind).parameters, *vars(schedule)}
    counts_steps = isinstance(schedule, CyclicLR) or LENGTHS_IN_STEPS & named
    parts = [part for part in parts_of_schedule(schedule) if schedule_interval(part) == "step"]
    own: Interval = "step" if counts_steps or parts else "epoch"
    if isinstance(schedule, (WarmupCosine, ReduceLROnPlateau)) and given not in (None, own):
        expected = f"{own} or left out with {kind.__name__}"
        raise InvalidValueError("model.lr_interval", given, expected, ["model.lr_scheduler"])
    return given or own


def require_length(schedule: LRScheduler, every: Interval, trainer: L.Trainer) -> None:
    """Check that a schedule of a fixed length does not end, with torch's error, before the run does.

    Raises:
        InvalidValueError: If it would.
    """
    steps = trainer.estimated_stepping_batches if every == "step" else trainer.max_epochs
    needed = math.inf if steps in (None, -1) else steps
    if isinstance(schedule, OneCycleLR) and schedule.total_steps < needed:
        expected = f"at least {needed}, the {every}s of the run"
        raise InvalidValueError(
            "model.lr_scheduler.total_steps", schedule.total_steps, expected, ["model.lr_scheduler"]
        )


def time_limit(trainer: L.Trainer) -> Timer | None:
    """The timer behind ``Trainer(max_time=...)``; None where nothing limits the time."""
    timers = (callback for callback in trainer.callbacks if isinstance(callback, Timer))  # type: ignore[attr-defined]
    return next((timer for timer in timers if timer.time_remaining() is not None), None)


def total_steps(trainer: L.Trainer) -> float:
    """Optimiser steps of the whole run, `math.inf` where nothing limits them.

    With a time limit it is the number of steps that fit into it at the speed so far, by this device's clock.
    """
    steps = float(trainer.estimated_stepping_batches)
    if (timer := time_limit(trainer)) is None:
        return steps
    elapsed_s = timer.time_elapsed()
    limit_s = elapsed_s + (timer.time_remaining() or 0.0)
    # Before the first step any large number will do: it is corrected with each step.
    return min(steps, trainer.global_step * limit_s / elapsed_s if trainer.global_step and elapsed_s else 1e6)


def span_run(schedule: WarmupCosine, trainer: L.Trainer) -> None:
    """Let a schedule span the whole run, and say so if it is longer or shorter than the run was before a resumption.

    Several devices have to call this together.

    Raises:
        InvalidValueError: If nothing limits the run.
    """
    steps = total_steps(trainer)
    if trainer.world_size > 1 and time_limit(trainer) is not None:
        # The devices' clocks differ, and their learning rates must not.
        steps = float(mean_over_devices(torch.tensor(steps, device=trainer.strategy.root_device)))
    if math.isinf(steps):
        expected = "a number, or trainer.max_time set, for WarmupCosine"
        raise InvalidValueError("trainer.max_epochs", trainer.max_epochs, expected, ["trainer.max_time"])
    if schedule.last_epoch and math.ceil(steps) != schedule.total_steps and time_limit(trainer) is None:
        before = schedule.total_steps
        rank_zero_info(f"WarmupCosine spans the run's {math.ceil(steps)} steps from here on, and no longer {before}")
    schedule.set_total_steps(math.ceil(steps))


def require_same_schedule(
    trainer: L.Trainer, checkpoint: Mapping[str, Any], schedule: Any, every: Interval = "epoch"
) -> None:
    """Check that a schedule is the one that a checkpoint goes on with: its state replaces settings and length.

    `WarmupCosine` may get another length, because it spans the run.

    Args:
        trainer: The trainer that is to go on from its ``ckpt_path``.
        checkpoint: The content of that.
        schedule: The one that was given; None: none.
        every: Its interval.

    Raises:
        ResumeError: If it has other settings, or spans the run as it was planned before, and not as it is planned now.
    """
    path, stored = str(trainer.ckpt_path), checkpoint["lr_schedulers"]
    again = f"give the same, or model.weights={path} to train anew from its weights"
    if bool(stored) != (schedule is not None):
        had = "a model.lr_scheduler" if stored else "no model.lr_scheduler"
        raise ResumeError(path, f"it was trained with {had}; {again}")
    if schedule is None:
        return
    spans, state = isinstance(schedule, WarmupCosine), schedule.state_dict()
    if stored[0].keys() - PROGRESS != state.keys() - PROGRESS:
        raise ResumeError(path, f"its model.lr_scheduler is another one than {type(schedule).__name__}; {again}")
    for name, was, given in _changed_settings(stored[0], state):
        if not (spans and name == "total_steps"):
            raise ResumeError(path, f"its model.lr_scheduler has {name}={was!r}, and is given {given!r}; {again}")
    length, planned, steps = schedule_length(schedule), checkpoint.get("planned_steps"), total_steps(trainer)
    if spans or length is None or planned is None or time_limit(trainer) is not None:
        return
    unit = 1 if every == "step" else math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    if math.ceil(planned / unit) <= length < math.ceil(steps / unit):
        reason = f"its model.lr_scheduler, {type(schedule).__name__}, ends after {length} {every}s, as the run did"
        raise ResumeError(
            path, f"{reason}; give no more, or model.weights={path} to train anew, with a schedule for all {every}s"
        )


def schedule_length(schedule: Any) -> int | None:
    """The number of steps after which one of torch's schedules ends; None where it has no end."""
    own = next((getattr(schedule, name) for name in LENGTHS if hasattr(schedule, name)), None)
    parts = [schedule_length(part) for part in parts_of_schedule(schedule)]
    if milestones := milestones_of(schedule):  # SequentialLR
        return None if parts[-1] is None else milestones[-1] + parts[-1]
    return own if own is not None else max((part for part in parts if part is not None), default=None)


def _changed_settings(stored: Any, given: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of each setting that differs, also within schedules of schedules."""
    if isinstance(stored, dict) and isinstance(given, dict) and not isinstance(given, Counter):
        for key in [key for key in {**stored, **given} if key not in PROGRESS]:
            yield from _changed_settings(stored.get(key), given.get(key), key.removeprefix("_"))
    elif isinstance(stored, list | tuple) and isinstance(given, list | tuple) and len(stored) == len(given):
        for pair in zip(stored, given, strict=True):
            yield from _changed_settings(*pair, name)
    elif stored != given:
        yield name, stored, given


def mean_over_devices(value: torch.Tensor) -> torch.Tensor:
    """The mean of what the devices of a run have; ``value`` is overwritten."""
    # Not through the trainer's strategy, which has all devices wait for each other first.
    torch.distributed.all_reduce(value)
    return value / torch.distributed.get_world_size()
