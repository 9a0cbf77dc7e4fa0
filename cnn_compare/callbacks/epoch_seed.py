"""Random numbers of an epoch that depend on the seed and the epoch alone."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from cnn_compare.data.module import global_seed


class EpochSeed(Callback):
    """Seed torch at the start of each epoch with ``(seed_everything, epoch)`` and the number of the device.

    After a resume, dropout then drops the same units as in an undisturbed run, and no generator's state, which differs
    between kinds of devices, has to be stored. The data has its own generators.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed before the first step; the loader's iterator, which draws a number as well, exists by then."""
        if batch_idx == 0:
            seed_epoch(trainer, 2)


def seed_epoch(trainer: L.Trainer, purpose: int) -> None:
    """Seed torch with the seed of the run, the epoch, the device, as devices drop different units, and a purpose."""
    entropy = [global_seed(), trainer.current_epoch, purpose, trainer.global_rank]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
