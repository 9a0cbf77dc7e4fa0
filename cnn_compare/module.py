"""ClassifierModule: any backbone as a LightningModule, with its loss, metrics and optimiser."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score

from cnn_compare.backbones import Stem, build_backbone, find_backbone
from cnn_compare.errors import CheckpointError, ImageTooSmallError, InvalidValueError

Images = tuple[Tensor, Tensor]

# What is logged has been brought together from all devices already.
warnings.filterwarnings("ignore", "It is recommended to use `self.log.*sync_dist=True")


class WarmupCosine(LambdaLR):
    """Linear warm-up, then a cosine down to zero, over the whole training (steps, not epochs).

    Args:
        optimizer: Whose learning rate is the peak.
        warmup: Share of the training that warms up.
        total_steps: Optimiser steps of the training; `ClassifierModule` sets it from ``estimated_stepping_batches``.

    Source:
        Loshchilov and Hutter 2016, arXiv:1608.03983; warm-up: Goyal et al. 2017, arXiv:1706.02677.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, warmup: float = 0.1, total_steps: int = 1) -> None:
        if not 0 <= warmup < 1:
            raise InvalidValueError("WarmupCosine's warmup", warmup, "from 0 to below 1, a share of the training")
        self.warmup, self.total_steps = warmup, total_steps
        super().__init__(optimizer, self.factor)

    def span(self, total_steps: int) -> None:
        """Set the length of the training, also of one that is under way."""
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


class ClassifierModule(L.LightningModule):
    """Trains and evaluates any backbone of the registry.

    Batches are ``(images (B, 3, H, W) float, labels (B,) int64)``. Logs, once an epoch: ``train/loss``, ``train/acc``,
    ``lr``; for ``val`` and ``test``: ``loss``, ``acc`` (top-1), ``top5``, ``f1`` (macro). Shares run from 0 to 1.
    After a test, ``test_outputs`` holds each image's label, prediction and probabilities, ``test_confusion`` counts.

    On several devices (Lightning's ``strategy="ddp"``) every logged value and output is of all of them together, and
    the gradient is the mean over the whole batch. Images whose label is -100, as `ImageDataModule` marks those that
    only fill up a device's part of a batch, count nowhere. Batch norm uses a device's own images, unless the trainer
    has ``sync_batchnorm=True``.

    Args:
        backbone: A registered name (`cnn-compare backbones`), ``package.module:callable`` or ``timm/<name>``.
        num_classes: Number of classes.
        stem: ``imagenet``: the published graph; ``cifar``: first layers adapted to 32x32 images.
        pretrained: Start from ImageNet weights, with a fresh head.
        weights: Start from this file (``.pth``, ``.ckpt``, ``.safetensors``) instead.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the schedule from the optimiser. `WarmupCosine` steps by batches, others by epochs;
            Lightning's ``ReduceLROnPlateau`` names the metric that it monitors.
        label_smoothing: Share of the target that is spread over all classes, in training only.
        channels_last: Keep pixels' channels together in memory, which convolutions like best.
        compile: Run the backbone through ``torch.compile``; worth its minutes on GPUs only.
        flip_tta: Test and predict with the mean probability of each image and its mirror image.

    Raises:
        UnknownBackboneError: If no such backbone exists.
        WeightsError: If the weights cannot be had or don't fit.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        num_classes: int = 10,
        stem: Stem = "imagenet",
        pretrained: bool = False,
        weights: str | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        label_smoothing: float = 0.0,
        channels_last: bool = True,
        compile: bool = False,
        flip_tta: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise InvalidValueError("--model.num_classes", num_classes, "at least 2")
        if not 0 <= label_smoothing < 1:
            raise InvalidValueError("--model.label_smoothing", label_smoothing, "from 0 to below 1")
        # Plain values only: a checkpoint then loads with weights_only=True, and optimisers are no part of a network.
        self.save_hyperparameters(
            {
                "backbone": backbone,
                "num_classes": num_classes,
                "stem": stem,
                "pretrained": pretrained,
                "weights": weights,
                "label_smoothing": label_smoothing,
                "channels_last": channels_last,
                "compile": compile,
                "flip_tta": flip_tta,
            }
        )
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        self.make_optimizer, self.make_lr_scheduler = optimizer, lr_scheduler
        self.backbone = build_backbone(backbone, num_classes, stem, weights or ("imagenet" if pretrained else None))
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.backbone.to(memory_format=self.memory_format)
        self._largest_batch = 0
        if compile:
            self.backbone.compile(dynamic=False)

        # Not synchronised, because `_whole_batch` shows every device the outputs of all.
        options: dict[str, Any] = {"validate_args": False, "sync_on_compute": False}
        metrics = MetricCollection(
            {
                "acc": MulticlassAccuracy(num_classes, average="micro", **options),
                "top5": MulticlassAccuracy(num_classes, top_k=min(5, num_classes), average="micro", **options),
                "f1": MulticlassF1Score(num_classes, average="macro", **options),
            }
        )
        self.val_metrics, self.test_metrics = metrics.clone("val/"), metrics.clone("test/")
        self.confusion = MulticlassConfusionMatrix(num_classes, **options)
        self.loss = MeanMetric(sync_on_compute=False)
        self._outputs: list[tuple[Tensor, Tensor]] = []
        self.test_outputs: dict[str, Tensor] = {}
        self.test_confusion: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, 3, H, W)``; in training mode what the backbone gives."""
        images = images.contiguous(memory_format=self.memory_format)
        if self.hparams["compile"]:
            self._largest_batch = max(self._largest_batch, len(images))
            if len(images) < self._largest_batch:
                # The last batch of an epoch, as it is: a second compilation would take longer than it ever saves.
                return cast(Tensor, self.backbone.forward(images))
        return cast(Tensor, self.backbone(images))

    def setup(self, stage: str) -> None:
        """Compare the data with the network before anything runs."""
        data = getattr(self.trainer, "datamodule", None)
        name, stem = self.hparams["backbone"], self.hparams["stem"]
        min_size = find_backbone(name).min_size(stem)
        if (size := getattr(data, "image_size", min_size)) < min_size:
            raise ImageTooSmallError(name, stem, min_size, size)
        if (classes := getattr(data, "num_classes", self.num_classes)) != self.num_classes:
            raise InvalidValueError("--model.num_classes", self.num_classes, f"{classes}, as the data has")
        if any(getattr(logger, "_log_graph", False) for logger in self.trainer.loggers):
            # For `TensorBoardLogger(log_graph=True)`.
            self.example_input_array = torch.zeros(1, 3, size, size)
        # GoogLeNet's and Inception's weights come from inputs scaled to 0.5/0.5. They can convert ImageNet's scaling
        # themselves, and must not where the data arrives as 0.5/0.5 already.
        if self.hparams["pretrained"] and hasattr(self.backbone, "transform_input"):
            self.backbone.transform_input = getattr(data, "normalization", None) == "imagenet"  # type: ignore[assignment]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The file alone rebuilds the network: it holds the weights, so those it started from are not needed again."""
        checkpoint["hyper_parameters"] = {**self.hparams, "pretrained": False, "weights": None}
        checkpoint["transform_input"] = getattr(self.backbone, "transform_input", False)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Undo of `on_save_checkpoint`.

        Raises:
            CheckpointError: If the checkpoint is of another network.
        """
        stored = checkpoint.get("hyper_parameters", {})
        for name in ("backbone", "num_classes", "stem"):
            if stored.get(name, self.hparams[name]) != self.hparams[name]:
                raise CheckpointError(name, stored[name], self.hparams[name])
        if hasattr(self.backbone, "transform_input"):
            self.backbone.transform_input = checkpoint.get("transform_input", False)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *arguments: Any, **options: Any) -> Self:
        """Lightning's, but reading data alone: an object that would run code when it is made is refused."""
        return super().load_from_checkpoint(checkpoint_path, *arguments, **{"weights_only": True, **options})

    def on_train_epoch_start(self) -> None:
        """Sums stay on the device and are read once an epoch: logging every step would make the processor wait."""
        self._sums = torch.zeros(2, device=self.device)
        self._images: int | Tensor = 0

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        """Cross-entropy, plus the weighted losses of auxiliary heads where the backbone has them."""
        images, labels = batch
        output = self(images)
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        size = self._images_a_device(labels)
        loss = self._cross_entropy(logits, labels, size)
        self._count(loss, logits, labels, size)
        for extra in auxiliary:
            if extra is not None:
                weight = cast(float, self.backbone.aux_loss_weight)
                loss = loss + weight * self._cross_entropy(extra, labels, size)
        if self.trainer.is_last_batch:
            # Logged from the last step, not after the epoch, so that callbacks find it beside the validation's metrics.
            self._log_training()
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Images, batch_idx: int) -> None:
        """Log an epoch that a time limit ends early."""
        if self.trainer.should_stop and not self.trainer.is_last_batch:
            self._log_training()

    def _images_a_device(self, labels: Tensor) -> int | Tensor:
        """Of a batch, on the average over the devices; those that fill up a part of it not counted."""
        if self._devices == 1:
            return len(labels)
        return self._mean_of_devices((labels >= 0).sum().float())

    def _cross_entropy(self, logits: Tensor, labels: Tensor, images: int | Tensor) -> Tensor:
        """Its mean over the devices is the mean over all images of the batch, on however many of them they are."""
        if isinstance(images, int):
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        summed = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="sum")
        return summed / images

    @torch.no_grad()
    def _count(self, loss: Tensor, logits: Tensor, labels: Tensor, images: int | Tensor) -> None:
        self._sums += torch.stack([loss * images, (logits.argmax(1) == labels).sum()])
        self._images += images

    @property
    def _devices(self) -> int:
        return self.trainer.world_size if self._trainer else 1

    def _mean_of_devices(self, value: Tensor) -> Tensor:
        # Not through the trainer's strategy, which has all devices wait for each other first.
        torch.distributed.all_reduce(value)
        return value / self._devices

    def _whole_batch(self, part: Tensor) -> Tensor:
        """What all devices have, in the order of the data, of one device's part."""
        return part if self._devices == 1 else cast(Tensor, self.all_gather(part)).flatten(0, 1)

    def _log_training(self) -> None:
        sums = self._sums if self._devices == 1 else self._mean_of_devices(self._sums)
        loss, accuracy = sums / self._images
        self.log_dict(
            {"train/loss": loss, "train/acc": accuracy}, on_step=False, on_epoch=True, batch_size=1, prog_bar=True
        )
        learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("lr", learning_rate, on_step=False, on_epoch=True, batch_size=1)

    def _evaluate(self, batch: Images, metrics: MetricCollection, flip_tta: bool = False) -> tuple[Tensor, Tensor]:
        """Count a batch; logits and labels of all devices together."""
        images, labels = batch
        logits = self._log_mean_probabilities(images) if flip_tta else self(images)
        if self._devices > 1:
            logits, labels = self._whole_batch(logits), self._whole_batch(labels)
            logits, labels = logits[labels >= 0], labels[labels >= 0]
        metrics.update(logits, labels)
        self.loss.update(F.cross_entropy(logits, labels), weight=len(labels))
        return logits, labels

    def _log_mean_probabilities(self, images: Tensor) -> Tensor:
        """Log-probabilities ``(B, num_classes)``, each the mean over an image and its mirror image."""
        plain, mirrored = (self(each).log_softmax(1) for each in (images, images.flip(3)))
        return torch.logaddexp(plain, mirrored) - math.log(2)

    def _log_evaluation(self, stage: str, metrics: MetricCollection) -> None:
        self.log(f"{stage}/loss", self.loss.compute())
        self.log_dict(metrics.compute(), prog_bar=True)
        # Tensors made in inference mode, as `Trainer.test` has it, could not be counted up in a later `Trainer.fit`.
        with torch.inference_mode(False):
            self.loss.reset()
            metrics.reset()

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        """Count one validation batch."""
        self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``, ``val/acc``, ``val/top5``, ``val/f1``."""
        self._log_evaluation("val", self.val_metrics)

    def test_step(self, batch: Images, batch_idx: int) -> None:
        """Count one test batch and keep what was predicted for each image."""
        logits, labels = self._evaluate(batch, self.test_metrics, self.hparams["flip_tta"])
        self.confusion.update(logits, labels)
        self._outputs.append((labels.cpu(), logits.float().softmax(1).cpu()))

    def on_test_epoch_end(self) -> None:
        """Log ``test/…`` and gather ``test_outputs`` and ``test_confusion``."""
        self._log_evaluation("test", self.test_metrics)
        labels, probabilities = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
        self._outputs.clear()
        predictions = probabilities.argmax(1)
        self.test_outputs = {"labels": labels, "predictions": predictions, "probabilities": probabilities}
        self.test_confusion = self.confusion.compute().cpu()
        with torch.inference_mode(False):
            self.confusion.reset()

    def predict_step(self, batch: Images | Tensor, batch_idx: int) -> dict[str, Tensor]:
        """``class`` ``(B,)`` int64, the most probable one, and its ``probability`` ``(B,)``."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        logits = self._log_mean_probabilities(images) if self.hparams["flip_tta"] else self(images)
        probability, predicted = logits.float().softmax(1).max(1)
        return {"class": predicted, "probability": probability}

    def configure_optimizers(self) -> Any:
        """The optimiser, fused where it can be, with its schedule where one was asked for."""
        optimizer = self.make_optimizer(self.parameters())
        for group in optimizer.param_groups:
            # One kernel for all parameters, where the optimiser has it and nothing else was asked for.
            if group.get("fused", False) is None and not (group.get("foreach") or group.get("differentiable")):
                group["fused"] = True
        if self.make_lr_scheduler is None:
            return optimizer
        scheduler = self.make_lr_scheduler(optimizer)
        settings: dict[str, Any] = {"scheduler": scheduler, "interval": "epoch"}
        if isinstance(scheduler, WarmupCosine):
            if math.isinf(steps := self._agreed_steps()):
                wanted = "a number, or --trainer.max_time set, for WarmupCosine"
                raise InvalidValueError("--trainer.max_epochs", self.trainer.max_epochs, wanted)
            scheduler.span(math.ceil(steps))
            settings["interval"] = "step"
        elif isinstance(scheduler, ReduceLROnPlateau):
            settings["monitor"] = scheduler.monitor
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def total_steps(self) -> float:
        """Steps of the whole training; where time limits it, as many as fit into it at the speed so far."""
        steps = float(self.trainer.estimated_stepping_batches)
        if (timer := self._time_limit()) is not None:
            elapsed_s = timer.time_elapsed()
            limit_s = elapsed_s + (timer.time_remaining() or 0.0)
            # Before the first step any large number will do: it is corrected with each step.
            steps = min(steps, self.trainer.global_step * limit_s / elapsed_s if elapsed_s else 1e6)
        return steps

    def _agreed_steps(self) -> float:
        """`total_steps`, the same on all devices: their clocks differ, and their learning rates must not."""
        steps = self.total_steps()
        if self._devices > 1 and self._time_limit() is not None:
            steps = float(self._mean_of_devices(torch.tensor(steps, device=self.device)))
        return steps

    def _time_limit(self) -> Timer | None:
        """What ends the training after ``--trainer.max_time``; None where nothing does."""
        timers = (each for each in self.trainer.callbacks if isinstance(each, Timer))  # type: ignore[attr-defined]
        return next((timer for timer in timers if timer.time_remaining() is not None), None)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """As Lightning does it; how far a training with a time limit has come shows as it goes."""
        if isinstance(scheduler, WarmupCosine) and self._time_limit() is not None:
            scheduler.span(math.ceil(self._agreed_steps()))
        super().lr_scheduler_step(scheduler, metric)
