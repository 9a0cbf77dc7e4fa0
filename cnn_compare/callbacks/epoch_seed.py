"""Every epoch draws its random numbers from the seed and its own number."""

from __future__ import annotations

import os
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback


class EpochSeed(Callback):
    """Seed torch at the start of each epoch from ``(seed_everything, epoch)``, and which of several devices this is.

    A training resumed after epoch k then drops the same units in epoch k + 1 as one that was never interrupted, and no
    generator's state, which differs from device to device, has to be stored. The data has generators of its own.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Reseed right before the first step, after the loader's iterator, which draws a number too, has been made."""
        if batch_idx == 0:
            entropy = [int(os.environ.get("PL_GLOBAL_SEED", 0)), trainer.current_epoch, 2]
            if trainer.global_rank:  # Each device drops units of its own.
                entropy.append(trainer.global_rank)
            torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
