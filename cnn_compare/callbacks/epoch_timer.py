"""Epoch times of training alone, with the device synchronised at both ends."""

from __future__ import annotations

import time
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from cnn_compare.machine import energy_j, now


class EpochTimer(Callback):
    """Measures every training epoch and every validation, and logs both with the throughput.

    ``time/train_epoch_s`` runs from the request for the first batch to the last optimiser step; it excludes validation,
    checkpoints and logging. ``time/val_epoch_s`` and ``throughput/images_per_s`` (training images) are logged as well.
    A resumed run keeps the times before the interruption. With several devices the slowest one's time counts.

    Attributes:
        train_epoch_s: Seconds, one value a whole epoch.
        val_epoch_s: Seconds, one value a validation.
        images_per_epoch: Training images of a whole epoch; 0 before the first one has ended.
        epoch_images: Training images of every epoch, also of one that ended early.
        energy_j: Joules that the GPU used, one value an epoch; empty where NVML has no counter.
    """

    def __init__(self) -> None:
        self.train_epoch_s: list[float] = []
        self.val_epoch_s: list[float] = []
        self.images_per_epoch = 0
        self.epoch_images: list[int] = []
        self.energy_j: list[float] = []
        self._energy_before: float | None = None
        self._fit_s_before = 0.0
        self._fit_started: float | None = None
        self._train_started = self._val_started = 0.0
        self._epoch_images: int | Tensor = 0

    @property
    def fit_s(self) -> float:
        """Seconds spent in ``fit`` so far, everything included."""
        running = 0.0 if self._fit_started is None else time.perf_counter() - self._fit_started
        return self._fit_s_before + running

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._fit_started = time.perf_counter()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._fit_s_before, self._fit_started = self.fit_s, None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock: next, Lightning requests the first batch."""
        self._epoch_images = 0
        self._energy_before = energy_j(pl_module.device)
        self._train_started = now(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        """Stop the clock after an epoch's last batch; ``on_train_epoch_end`` would come after validation."""
        # Labels below 0 mark images that pad a device's part of a batch.
        self._epoch_images += len(batch[1]) if trainer.world_size == 1 else (batch[1] >= 0).sum()
        if trainer.is_last_batch:
            seconds = _reduce(trainer, now(pl_module.device) - self._train_started, "max")
            self.images_per_epoch = int(_reduce(trainer, self._epoch_images, "sum"))
            self.train_epoch_s.append(seconds)
            logged = {"time/train_epoch_s": seconds, "throughput/images_per_s": self.images_per_epoch / seconds}
            if self._energy_before is not None and (energy := energy_j(pl_module.device)) is not None:
                self.energy_j.append(_reduce(trainer, energy - self._energy_before, "sum"))
                logged["energy/train_epoch_j"] = self.energy_j[-1]
            pl_module.log_dict(logged, on_step=False, on_epoch=True, batch_size=1)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the validation's clock; within an epoch, log its training so far."""
        self._val_started = now(pl_module.device)
        if trainer.state.fn == TrainerFn.FITTING and not (trainer.sanity_checking or trainer.is_last_batch):
            seconds = _reduce(trainer, self._val_started - self._train_started, "max")
            speed = _reduce(trainer, self._epoch_images, "sum") / seconds
            pl_module.log_dict({"time/train_epoch_s": seconds, "throughput/images_per_s": speed})

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the validation's clock, before metrics are computed and logged."""
        if (trainer.training and not trainer.sanity_checking) or trainer.validating:
            self.val_epoch_s.append(_reduce(trainer, now(pl_module.device) - self._val_started, "max"))
            pl_module.log("time/val_epoch_s", self.val_epoch_s[-1])
            # A validation within an epoch (val_check_interval) does not count as training.
            self._train_started += self.val_epoch_s[-1]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch_images.append(int(_reduce(trainer, self._epoch_images, "sum")))

    def state_dict(self) -> dict[str, Any]:
        names = ("train_epoch_s", "val_epoch_s", "epoch_images", "fit_s")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epoch_images = list(state_dict["epoch_images"])
        self.train_epoch_s, self.val_epoch_s = list(state_dict["train_epoch_s"]), list(state_dict["val_epoch_s"])
        self._fit_s_before = state_dict["fit_s"]


def leave_out(trainer: L.Trainer, seconds: float) -> None:
    """Do not count the last seconds, which another callback took, in a trainer's running epoch or validation."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EpochTimer):
            callback._train_started += seconds
            callback._val_started += seconds


def _reduce(trainer: L.Trainer, value: float | Tensor, how: Literal["max", "sum"]) -> float:
    """Maximum or sum of a value over the devices."""
    if trainer.world_size > 1:
        local = torch.as_tensor(value, dtype=torch.float32, device=trainer.strategy.root_device)
        value = trainer.strategy.reduce(local, reduce_op=how)
    return float(value)
