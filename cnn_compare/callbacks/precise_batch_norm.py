"""Batch norm's running statistics, recomputed before they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cnn_compare.callbacks.epoch_seed import seed_epoch
from cnn_compare.callbacks.epoch_timer import leave_out
from cnn_compare.errors import InvalidValueError
from cnn_compare.machine import now
from cnn_compare.network_state import unchanged
from cnn_compare.private import before_transfer, copy_of_loader

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class PreciseBatchNorm(Callback):
    """Before each validation, set batch norm's running statistics to those of training images under these weights.

    In training they are a moving average over the last few dozen steps, and lag behind weights that change fast: a
    network is then validated with statistics that it never had. Here its first training batches of the epoch pass
    through it once more, augmented, in training mode and without gradients; mean and variance are those of all their
    values together. Averaged weights get their own statistics, and so do weights that are tested after training without
    a validation in between. Checkpoints hold the statistics that were validated; one that is loaded keeps them. Layers
    in evaluation mode, such as frozen ones, keep theirs; networks without batch norm pass nothing.

    Batches are as for `ClassifierModule`: the network is called with their first part. Random numbers are drawn from
    the seed and leave no trace in the training.

    Args:
        images: How many training images, on all devices together; whole batches, up to an epoch's.

    Attributes:
        seconds: Seconds of each recomputation, which are in ``EpochTimer.fit_s``, but in no epoch's time.

    Raises:
        InvalidValueError: If ``images`` is not positive.

    Source:
        Wu and Johnson 2021, arXiv:2105.07576, section 3; the variance over unequal batches is that of their appendix.
    """

    def __init__(self, images: int = 1024) -> None:
        if images < 1:
            raise InvalidValueError("images", images, "at least 1, a number of training images")
        self.images = images
        self.seconds: list[float] = []
        # The layers in training mode, where steps were taken since the statistics were computed; and their batches.
        self._trained: list[nn.Module] = []
        self._loader: Any = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget the steps before a checkpoint that is loaded: it holds the statistics of its weights."""
        if trainer.ckpt_path:
            self._trained = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that the weights have changed, which layers are in training mode, and where batches come from."""
        self._trained = [layer for layer in pl_module.modules() if layer.training]
        self._loader = trainer.train_dataloader

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Recompute before the first batch: at the epoch's start, `WeightAveraging` may not have put its weights in."""
        self._recompute_once(trainer, pl_module)

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Recompute where weights are tested that were trained after the last validation."""
        self._recompute_once(trainer, pl_module)

    def _recompute_once(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trained, self._trained = self._trained, []
        layers = [layer for layer in trained if isinstance(layer, BATCH_NORM) and layer.track_running_stats]
        if not layers:
            return
        started = now(pl_module.device)
        stage, trainer.state.stage = trainer.state.stage, RunningStage.TRAINING  # Else data modules do not augment.
        try:
            with unchanged(pl_module, buffers=False), isolate_rng(), torch.no_grad():
                for layer in trained:
                    layer.training = True
                seed_epoch(trainer, 3)
                self._recompute(trainer, pl_module, layers)
        finally:
            trainer.state.stage = stage
        self.seconds.append(now(pl_module.device) - started)
        leave_out(trainer, self.seconds[-1])

    def _recompute(self, trainer: L.Trainer, pl_module: L.LightningModule, layers: Sequence[Any]) -> None:
        statistics: dict[Any, Tensor] = {}

        def add(layer: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            mean, var = (buffer.float() for buffer in (layer.running_mean, layer.running_var))
            values = inputs[0].numel() // inputs[0].shape[1]
            if isinstance(layer, nn.SyncBatchNorm):
                values *= trainer.world_size
            # The layer divides by one value less than there are.
            batch = torch.stack([torch.full_like(mean, values), mean, var * (values - 1) / values])
            statistics[layer] = _together(torch.stack([statistics[layer], batch])) if layer in statistics else batch

        before = [(layer, layer.momentum, layer.num_batches_tracked.clone()) for layer in layers]
        hooks = [layer.register_forward_hook(add) for layer in layers]
        try:
            for layer in layers:
                layer.momentum = 1.0  # Each batch's own statistics replace those before.
            self._pass_images(trainer, pl_module)
        finally:
            for hook in hooks:
                hook.remove()
            for layer, momentum, batches in before:
                layer.momentum = momentum
                layer.num_batches_tracked.copy_(batches)
        for layer, statistic in statistics.items():
            if trainer.world_size > 1:
                statistic = _together(cast(Tensor, pl_module.all_gather(statistic)))
            layer.running_mean.copy_(statistic[1])
            layer.running_var.copy_(statistic[2])

    def _pass_images(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loader, passed = self._loader, 0
        if isinstance(loader, DataLoader):
            loader = copy_of_loader(loader)
        for batch in loader:
            batch = before_transfer(pl_module, trainer.precision_plugin.convert_input(batch))
            images = trainer.strategy.batch_to_device(batch)[0]
            # Not compiled: compiled code knows neither the hooks nor the momentum, and is not made anew for them.
            with torch.compiler.set_stance("force_eager"), trainer.precision_plugin.forward_context():
                pl_module(images)
            passed += len(images) * trainer.world_size
            if passed >= self.images:
                break

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = list(state_dict["seconds"])


def precise_bn_s(trainer: L.Trainer) -> float:
    """Seconds that a trainer's `PreciseBatchNorm` took so far; 0 without it, or where no network has batch norm."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return sum(sum(callback.seconds) for callback in callbacks if isinstance(callback, PreciseBatchNorm))


def _together(parts: Tensor) -> Tensor:
    """Number, mean and variance of sets of values ``(sets, 3, channels)``, as one set's ``(3, channels)``."""
    number, mean, var = parts.unbind(1)
    share = number / number.sum(0)
    of_all = (share * mean).sum(0)
    return torch.stack([number.sum(0), of_all, (share * (var + (mean - of_all).square())).sum(0)])
