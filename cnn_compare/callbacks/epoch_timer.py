"""Honest epoch times: the device finished at both ends, nothing but training in between."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from cnn_compare.machine import energy_j


class EpochTimer(Callback):
    """Times every training epoch and every validation, and logs both with the throughput.

    ``time/train_epoch_s`` runs from asking for the first batch to the last optimiser step; validation, checkpoints and
    logging are outside it. Logged beside it: ``time/val_epoch_s`` and ``throughput/images_per_s`` (training images).
    The times of a resumed training include those before it stopped.

    Attributes:
        train_epoch_s: Seconds, one value a whole epoch.
        val_epoch_s: Seconds, one value a validation.
        images: Training images of a whole epoch; 0 before there was one.
        energy_j: Joules that the GPU used, one value an epoch; empty where NVML does not tell.
    """

    def __init__(self) -> None:
        self.train_epoch_s: list[float] = []
        self.val_epoch_s: list[float] = []
        self.images = 0
        self.energy_j: list[float] = []
        self._energy_before: float | None = None
        self._fit_s_before = 0.0
        self._fit_started: float | None = None
        self._train_started = self._val_started = 0.0
        self._epoch_images = 0

    @property
    def fit_s(self) -> float:
        """Seconds spent in ``fit`` so far, everything included."""
        running = 0.0 if self._fit_started is None else time.perf_counter() - self._fit_started
        return self._fit_s_before + running

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start of the wall clock."""
        self._fit_started = time.perf_counter()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Its end."""
        self._fit_s_before, self._fit_started = self.fit_s, None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The next thing that Lightning does is to ask for the first batch."""
        self._epoch_images = 0
        self._energy_before = energy_j(pl_module.device)
        self._train_started = _now(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        """The last one of an epoch comes before its validation, unlike ``on_train_epoch_end``."""
        self._epoch_images += len(batch[1])
        if trainer.is_last_batch:
            seconds = _now(pl_module.device) - self._train_started
            self.images = self._epoch_images
            self.train_epoch_s.append(seconds)
            logged = {"time/train_epoch_s": seconds, "throughput/images_per_s": self.images / seconds}
            if self._energy_before is not None and (energy := energy_j(pl_module.device)) is not None:
                self.energy_j.append(energy - self._energy_before)
                logged["energy/train_epoch_j"] = self.energy_j[-1]
            pl_module.log_dict(logged, on_step=False, on_epoch=True, batch_size=1)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start of a validation, also of that of an epoch which a time limit has ended early."""
        self._val_started = _now(pl_module.device)
        if trainer.state.fn == TrainerFn.FITTING and trainer.should_stop and not trainer.is_last_batch:
            seconds = self._val_started - self._train_started
            speed = self._epoch_images / seconds
            pl_module.log_dict({"time/train_epoch_s": seconds, "throughput/images_per_s": speed})

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End of a validation, before its metrics are worked out and logged."""
        if (trainer.training and not trainer.sanity_checking) or trainer.validating:
            self.val_epoch_s.append(_now(pl_module.device) - self._val_started)
            pl_module.log("time/val_epoch_s", self.val_epoch_s[-1])
            # One amid an epoch (val_check_interval) stops the epoch's clock.
            self._train_started += self.val_epoch_s[-1]

    def state_dict(self) -> dict[str, Any]:
        """Part of every checkpoint, so that a resumed training keeps its times."""
        return {"train_epoch_s": self.train_epoch_s, "val_epoch_s": self.val_epoch_s, "fit_s": self.fit_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo of `state_dict`."""
        self.train_epoch_s, self.val_epoch_s = list(state_dict["train_epoch_s"]), list(state_dict["val_epoch_s"])
        self._fit_s_before = state_dict["fit_s"]


def _now(device: torch.device) -> float:
    # Kernels run behind the Python clock: without this wait an epoch looks as short as the queueing of its last batch.
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
