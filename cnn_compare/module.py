"""ClassifierModule: any backbone as a LightningModule, with its loss, metrics and optimiser."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from cnn_compare.backbones import (
    Stem,
    build_backbone,
    converts_input,
    find_backbone,
    find_head,
    given_as_object,
    load_weights,
    set_input_conversion,
    train_head_alone,
)
from cnn_compare.checkpointing import other_setting, read_stored
from cnn_compare.checks import (
    check_callbacks,
    check_classes,
    check_fine_tuning,
    check_monitor,
    check_network,
    check_optimizer,
    check_precision,
    check_training,
    parameter_groups,
    scale_learning_rates,
)
from cnn_compare.errors import InvalidValueError, ResumeError
from cnn_compare.labels import class_targets, true_classes
from cnn_compare.machine import versions
from cnn_compare.metrics import evaluation_metrics
from cnn_compare.private import logs_graph, trainer_of, without_parser
from cnn_compare.schedules import (
    Interval,
    WarmupCosine,
    mean_over_devices,
    require_length,
    require_same_schedule,
    schedule_interval,
    span_run,
    time_limit,
    total_steps,
)
from cnn_compare.trusted import names_in, require_trusted, trust

LabelledBatch = tuple[Tensor, Tensor]
EVALUATED_TOGETHER = 8192
Freeze = Literal["none", "backbone"]
ClassWeights = Literal["none", "balanced"] | list[float]

# The command line and configurations can give a name only; their help would list every class of torch.nn.
if TYPE_CHECKING:
    Backbone = str | nn.Module
else:
    Backbone = str

log = logging.getLogger(__name__)

# Logged values are those of all devices already.
warnings.filterwarnings("ignore", "It is recommended to use `self.log.*sync_dist=True")


class ClassifierModule(L.LightningModule):
    """Trains and evaluates any backbone of the registry, or any network.

    Batches are ``(images (B, 3, H, W) float, labels)``; `class_targets` says which labels are understood. Logs, once an
    epoch: ``train/loss``, ``train/acc``, ``lr``; for ``val`` and ``test``: ``loss`` and the names of
    `evaluation_metrics`. After a test, ``test_outputs`` holds each image's label, prediction and probabilities.

    On several devices (Lightning's ``strategy="ddp"``) every logged value and output is of all devices together, and
    the gradient is the mean over the whole batch. Images with the label -100 count nowhere: `ImageDataModule` pads a
    device's part of a batch with them. Batch norm uses a device's own images, unless the trainer has
    ``sync_batchnorm=True``.

    Args:
        backbone: A registered name (`cnn-compare backbones`), ``package.module:callable`` or ``timm/<name>``; or a
            network, which is then trained itself. `load_from_checkpoint` needs that network again, as ``backbone=``.
        num_classes: Number of classes.
        stem: ``imagenet``: the published graph; ``cifar``: the graph adapted to 32x32 images.
        pretrained: Start from ImageNet weights, with a fresh head. Beside ``weights`` it says that the file holds such
            weights: GoogLeNet and Inception then convert their input as these need it.
        weights: Start from this file (``.pth``, ``.ckpt``, ``.safetensors``) instead.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the schedule from the optimiser. ``ReduceLROnPlateau`` watches the metric that it names
            (Lightning's), or ``val/loss``, or with ``mode="max"`` ``val/acc`` (torch's).
        label_smoothing: Share of the target that is spread over all classes, in training only.
        class_weights: ``balanced``: an image counts in the training loss in inverse proportion to the training images
            of its class, on average 1; or a list of one weight a class. Losses of ``val`` and ``test`` have none.
        decay_norm_and_bias: Whether the optimiser's weight decay also applies to norm layers and biases, which are
            all parameters of one dimension.
        freeze: ``backbone``: train only the head, the last layer with weights and what follows it. All layers before it
            keep their weights and are in evaluation mode: batch norm keeps its statistics, and nothing is dropped out.
        backbone_lr_factor: The learning rate of the layers before the head is this times that of the optimiser, such as
            0.1 to fine-tune. Auxiliary heads count as such layers.
        channels_last: Use the channels-last memory format, in which convolutions are fastest.
        compile: Run the backbone through ``torch.compile``, which takes minutes and pays on GPUs only.
        flip_tta: Test and predict with the mean probability of each image and its mirror image.
        lr_interval: Whether the schedule goes on with each optimiser ``step`` or ``epoch``; None: with each step if it
            is given a number of steps, as ``OneCycleLR``, ``CyclicLR`` and `WarmupCosine` are, otherwise each epoch.

    Raises:
        UnknownBackboneError: If no such backbone exists.
        WeightsError: If the weights cannot be had or don't fit.
    """

    def __init__(
        self,
        backbone: Backbone = "resnet18",
        num_classes: int = 10,
        stem: Stem = "imagenet",
        pretrained: bool = False,
        weights: str | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = "none",
        decay_norm_and_bias: bool = True,
        freeze: Freeze = "none",
        backbone_lr_factor: float = 1.0,
        channels_last: bool = True,
        compile: bool = False,
        flip_tta: bool = False,
        lr_interval: Interval | None = None,
    ) -> None:
        super().__init__()
        entry = find_backbone(backbone)
        trust(*names_in(entry.name))  # Whoever makes a module names its network.
        check_classes(num_classes, label_smoothing, class_weights)
        check_fine_tuning(freeze, backbone_lr_factor)
        # Plain values only: a checkpoint then loads with weights_only=True, and optimisers are no part of a network.
        self.save_hyperparameters(
            {
                "backbone": entry.name,
                "num_classes": num_classes,
                "stem": stem,
                "pretrained": pretrained,
                "weights": weights,
                "label_smoothing": label_smoothing,
                "class_weights": class_weights,
                "decay_norm_and_bias": decay_norm_and_bias,
                "freeze": freeze,
                "backbone_lr_factor": backbone_lr_factor,
                "channels_last": channels_last,
                "compile": compile,
                "flip_tta": flip_tta,
            }
        )
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        self.make_optimizer = without_parser(optimizer)
        self.make_lr_scheduler = lr_scheduler and without_parser(lr_scheduler)
        self.lr_interval = lr_interval
        self.backbone = build_backbone(backbone, num_classes, stem)
        source = weights or ("imagenet" if pretrained else "")
        self.has_fresh_head = not source or load_weights(
            self.backbone, source, entry.name, stem, num_classes, entry.imagenet_weights
        )
        self.backbone.to(memory_format=self.memory_format)
        # No part of the checkpoint: a fit computes them anew.
        self.register_buffer("loss_weights", None, persistent=False)
        self._largest_batch = 0
        self._resumed: dict[str, Any] | None = None
        self._head: list[nn.Parameter] = []
        if compile:
            self.backbone.compile(dynamic=False)

        metrics = evaluation_metrics(num_classes)
        self.val_metrics, self.test_metrics = metrics.clone("val/"), metrics.clone("test/")
        self._answers: list[tuple[Tensor, Tensor]] = []
        self.test_outputs: dict[str, Tensor] = {}

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of images and weights; no attribute, because ``torch.save`` cannot store one."""
        return torch.channels_last if self.hparams["channels_last"] else torch.contiguous_format

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, 3, H, W)``; in training mode the backbone's whole output."""
        if images.is_floating_point():
            # Data comes as float32, whatever the trainer's precision makes of the network.
            images = images.to(self.dtype)
        images = images.contiguous(memory_format=self.memory_format)
        if self.hparams["compile"]:
            if not 0 < self._largest_batch == len(images) - 1:  # A last batch that a single image has joined.
                self._largest_batch = max(self._largest_batch, len(images))
            if len(images) != self._largest_batch:
                # The last batch of an epoch stays uncompiled: a second compilation would cost more than it saves.
                return cast(Tensor, self.backbone.forward(images))
        return cast(Tensor, self.backbone(images))

    def setup(self, stage: str) -> None:
        """Check that data and network fit each other."""
        data = getattr(self.trainer, "datamodule", None)
        entry, stem = find_backbone(self.hparams["backbone"]), self.hparams["stem"]
        image_size = getattr(data, "image_size", entry.min_size(stem))
        entry.require_image_size(stem, image_size)
        if (classes := getattr(data, "num_classes", self.num_classes)) != self.num_classes:
            raise InvalidValueError("model.num_classes", self.num_classes, f"{classes}, as the data has")
        check_network(self.backbone, self.hparams["backbone"], image_size, self.num_classes)
        if stage == "fit":
            check_callbacks(map(type, self.trainer.callbacks))  # type: ignore[attr-defined]
            check_precision(self.trainer)
            self._set_trained_layers(image_size)
            batch_size = 1 if getattr(data, "batch_size", 0) == 1 else 2
            check_training(self.backbone, self.hparams["backbone"], image_size, self.num_classes, batch_size)
        if any(map(logs_graph, self.trainer.loggers)):
            # For `TensorBoardLogger(log_graph=True)`.
            self.example_input_array = torch.zeros(1, 3, image_size, image_size)
        if self.hparams["pretrained"]:
            set_input_conversion(self.backbone, getattr(data, "normalization", None) == "imagenet")
            if stage == "fit" and entry.mean_std and getattr(data, "mean_std", entry.mean_std) != entry.mean_std:
                mean_std = [list(part) for part in entry.mean_std]
                log.warning("%s was trained with --data.normalization='%s', and gets another.", entry.name, mean_std)

    def _set_trained_layers(self, image_size: int) -> None:
        """Find the head where it is trained otherwise than the layers before it, and freeze these."""
        if self._frozen or self.hparams["backbone_lr_factor"] != 1:
            self._head = find_head(self.backbone, self.hparams["backbone"], image_size, self.num_classes)
        if self._frozen:
            # Without gradients, the frozen layers also keep nothing for the backward pass.
            self.backbone.requires_grad_(False)
            for parameter in self._head:
                parameter.requires_grad_(True)

    @property
    def _frozen(self) -> bool:
        return bool(self.hparams["freeze"] == "backbone")

    def on_fit_start(self) -> None:
        """Set what each class counts in the training loss, once the trainer has converted the module's precision."""
        weights = self.hparams["class_weights"]
        if weights == "balanced":
            class_images = getattr(getattr(self.trainer, "datamodule", None), "train_class_images", None)
            if class_images is None:
                expected = "a list of one weight a class where no ImageDataModule knows the training images"
                raise InvalidValueError("model.class_weights", weights, expected)
            weights = balanced_weights(class_images)
        if weights != "none":
            weights = torch.tensor(weights, dtype=self._precise, device=self.device)
        self.loss_weights = None if isinstance(weights, str) else weights

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the file sufficient to rebuild the network and to prepare pictures for it.

        It holds the weights, so no others are loaded again; `Classifier` reads it.
        """
        if "callbacks" not in checkpoint:
            self._put_averages(checkpoint)
        checkpoint["hyper_parameters"] = {**self.hparams, "pretrained": False, "weights": None}
        checkpoint["transform_input"] = converts_input(self.backbone)
        checkpoint["versions"] = versions()
        if trainer_of(self) and time_limit(self.trainer) is None and self.make_lr_scheduler is not None:
            checkpoint["planned_steps"] = total_steps(self.trainer)
        data = getattr(trainer_of(self), "datamodule", None)
        if (preparation := getattr(data, "preparation", None)) is not None:
            checkpoint["data"] = preparation
            checkpoint["data_fingerprint"] = _fingerprint(data)

    def _put_averages(self, checkpoint: dict[str, Any]) -> None:
        """Store averaged weights where they are what is validated: of weights alone, Lightning asks no callback."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                callback.on_save_checkpoint(self.trainer, self, checkpoint)
                for state_of_training in ("current_model_state", "averaging_state"):
                    checkpoint.pop(state_of_training, None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take from a checkpoint what `on_save_checkpoint` has put into it.

        Raises:
            CheckpointError: If the checkpoint is of another network.
            ResumeError: If a training is to go on within an epoch.
        """
        stored = dict(checkpoint.get("hyper_parameters", {}))
        if any(given_as_object(name) for name in (stored.get("backbone", ""), self.hparams["backbone"])):
            stored.pop("backbone", None)  # Whether the weights fit is seen when they are loaded.
        for name in ("backbone", "num_classes", "stem"):
            if stored.get(name, self.hparams[name]) != self.hparams[name]:
                raise other_setting(f"model.{name}", stored[name], self.hparams[name])
        set_input_conversion(self.backbone, checkpoint.get("transform_input", False))
        if trainer_of(self) and self.trainer.state.fn == TrainerFn.FITTING:
            loop = checkpoint["loops"]["fit_loop"]
            if not loop["epoch_loop.batch_progress"]["is_last_batch"]:
                reason = "it was saved within an epoch, whose order of images starts anew; give one of an epoch's end"
                raise ResumeError(str(self.trainer.ckpt_path), reason)
            # With max_steps, Lightning would go on after the last batch of this epoch, and count it twice.
            for part in loop["epoch_progress"].values():
                part["completed"] = part["processed"]
            none = dict.fromkeys(("ready", "started", "processed", "completed"), 0)
            loop["epoch_loop.batch_progress"] |= {"current": none, "is_last_batch": False}
            self._resumed = checkpoint

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *arguments: Any, **options: Any) -> Self:
        """Read a checkpoint as Lightning does, but as data: objects that would run code are refused.

        Raises:
            UntrustedCodeError: If it names a network, or anything else, that would be imported from outside this
                package. A network given as ``backbone=`` takes the place of the file's; `trust` allows names.
        """
        stored = _hyper_parameters(checkpoint_path)
        require_trusted(str(checkpoint_path), [stored[name] for name in stored.keys() - options.keys()])
        return super().load_from_checkpoint(checkpoint_path, *arguments, **{"weights_only": True, **options})

    def on_train_start(self) -> None:
        """Let the schedule span the run, also a resumed one, and note how often the user wants validations."""
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, WarmupCosine):
                span_run(config.scheduler, self.trainer)
        self._check_val_every_n_epoch = self.trainer.check_val_every_n_epoch

    def on_train_end(self) -> None:
        self.trainer.check_val_every_n_epoch = self._check_val_every_n_epoch

    def on_train_epoch_start(self) -> None:
        """Reset the sums, which stay on the device: logging every step would make the processor wait."""
        if self._frozen:
            train_head_alone(self.backbone, self._head)
        self._sums = torch.zeros(2, dtype=self._precise, device=self.device)
        self._image_count: int | Tensor = 0
        self._largest_batch = 0  # Validation may come in other sizes.

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy, plus the weighted losses of auxiliary heads where the backbone has them."""
        images, labels = batch
        output = self(images)
        logits, *auxiliary = output if isinstance(output, (tuple, list)) else (output,)
        labels = class_targets(labels, len(images), self.num_classes)
        image_count = self._images_per_device(labels)
        loss = self._cross_entropy(logits, labels, image_count)
        self._count(loss, logits, labels, image_count)
        for extra in auxiliary:
            if extra is not None:
                weight = cast(float, self.backbone.aux_loss_weight)
                loss = loss + weight * self._cross_entropy(extra, labels, image_count)
        if self.trainer.is_last_batch:
            # From the last step, not after the epoch, so that callbacks find it together with the validation's metrics.
            self._log_training()
        return loss

    def on_train_batch_end(self, outputs: Any, batch: LabelledBatch, batch_idx: int) -> None:
        """Let Lightning validate the last weights of a training; log an epoch that ends early."""
        trainer = self.trainer
        last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        if (last_epoch and trainer.is_last_batch) or 0 <= trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True
        if trainer.should_stop:
            # Else not in each epoch, and a training that a limit ends would have weights that nobody has judged.
            trainer.check_val_every_n_epoch = trainer.check_val_every_n_epoch and 1
            if not trainer.is_last_batch:
                self._log_training()

    @property
    def _precise(self) -> torch.dtype:
        """The type of losses and probabilities: that of the weights, and at least float32."""
        return torch.promote_types(cast(torch.dtype, self.dtype), torch.float32)

    def _images_per_device(self, labels: Tensor) -> Tensor:
        """Mean number of real images per device."""
        real = labels >= 0 if labels.ndim == 1 else labels.new_ones(len(labels))
        count = real.sum(dtype=torch.float32)
        return count if self._devices == 1 else mean_over_devices(count)

    def _cross_entropy(self, logits: Tensor, labels: Tensor, image_count: Tensor) -> Tensor:
        """A loss whose mean over the devices is the mean over all images of the batch."""
        weights, smoothing = self.loss_weights, self.label_smoothing
        logits = logits.to(self._precise)
        labels = labels.to(logits.dtype) if labels.ndim > 1 else labels
        if self._devices == 1 and weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        # Divided by the images and not, as torch does, by their weights, so that a batch of rare classes counts more.
        return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing, reduction="sum") / image_count

    @torch.no_grad()
    def _count(self, loss: Tensor, logits: Tensor, labels: Tensor, image_count: Tensor) -> None:
        self._sums += torch.stack([loss * image_count, (logits.argmax(1) == true_classes(labels)).sum()])
        self._image_count += image_count

    @property
    def _devices(self) -> int:
        return self.trainer.world_size if trainer_of(self) else 1

    def _whole_batch(self, part: Tensor) -> Tensor:
        """Gather the devices' parts of a batch, in the order of the data."""
        return part if self._devices == 1 else cast(Tensor, self.all_gather(part)).flatten(0, 1)

    def _log_training(self) -> None:
        if not self._image_count:
            return  # A subclass has a `training_step` of its own, and logs what it wants.
        sums = self._sums if self._devices == 1 else mean_over_devices(self._sums)
        loss, accuracy = sums / self._image_count
        self.log_dict(
            {"train/loss": loss, "train/acc": accuracy}, on_step=False, on_epoch=True, batch_size=1, prog_bar=True
        )
        learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("lr", learning_rate, on_step=False, on_epoch=True, batch_size=1)

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of an evaluation that was interrupted."""
        self._answers.clear()

    on_test_epoch_start = on_validation_epoch_start

    def _evaluate(self, batch: LabelledBatch, flip_tta: bool = False) -> None:
        """Keep a batch's logits and labels, those of all devices."""
        images, labels = batch
        logits = self._log_mean_probabilities(images) if flip_tta else self._logits(images)
        labels = class_targets(labels, len(images), self.num_classes)
        self._answers.append((self._whole_batch(logits), self._whole_batch(labels)))

    def _logits(self, images: Tensor) -> Tensor:
        return cast(Tensor, self(images)).to(self._precise)

    def _log_mean_probabilities(self, images: Tensor) -> Tensor:
        """Log-probabilities ``(B, num_classes)``, each the mean over an image and its mirror image."""
        original, mirrored = self._logits(images).log_softmax(1), self._logits(images.flip(3)).log_softmax(1)
        return torch.logaddexp(original, mirrored) - math.log(2)

    def _log_evaluation(self, stage: str, metrics: MetricCollection) -> tuple[Tensor, Tensor]:
        """Log loss and metrics; return the logits ``(N, num_classes)`` and classes ``(N,)`` of all images."""
        logits, targets = (torch.cat(parts) for parts in zip(*self._answers, strict=True))
        self._answers.clear()
        labels = true_classes(targets)
        logits, targets, labels = (each[labels >= 0] for each in (logits, targets, labels))
        self.log(f"{stage}/loss", F.cross_entropy(logits, targets.to(logits.dtype) if targets.ndim > 1 else targets))
        # Not batch by batch, which takes a fifth of LeNet's time; in parts, because a metric can take much memory.
        for part in zip(*(torch.split(each, EVALUATED_TOGETHER) for each in (logits, labels)), strict=True):
            metrics.update(*part)
        self.log_dict(metrics.compute(), prog_bar=True)
        # Tensors made in `Trainer.test`'s inference mode could not be updated by a later `Trainer.fit`.
        with torch.inference_mode(False):
            metrics.reset()
        return logits, labels

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss`` and the metrics; within an epoch also its training so far."""
        self._log_evaluation("val", self.val_metrics)
        trainer = self.trainer
        if trainer.state.fn == TrainerFn.FITTING and not (trainer.sanity_checking or trainer.is_last_batch):
            self._log_training()

    def test_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        self._evaluate(batch, self.hparams["flip_tta"])

    def on_test_epoch_end(self) -> None:
        """Log ``test/loss`` and the metrics; set ``test_outputs``."""
        logits, labels = (answers.cpu() for answers in self._log_evaluation("test", self.test_metrics))
        probabilities = logits.softmax(1)
        predictions = probabilities.argmax(1)
        self.test_outputs = {"labels": labels, "predictions": predictions, "probabilities": probabilities}

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, num_classes)`` of the classes, as in a test, for images as the network gets them."""
        logits = self._log_mean_probabilities(images) if self.hparams["flip_tta"] else self._logits(images)
        return logits.softmax(1)

    def predict_step(self, batch: LabelledBatch | Tensor, batch_idx: int) -> dict[str, Tensor]:
        """The most probable ``class`` ``(B,)`` int64 of each image, and its ``probability`` ``(B,)``."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        probability, predicted = self.probabilities(images).max(1)
        return {"class": predicted, "probability": probability}

    def configure_optimizers(self) -> Any:
        """The optimiser, fused where it can be, and its schedule if there is one."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad or not self._frozen]
        factor, decay_all = self.hparams["backbone_lr_factor"], self.hparams["decay_norm_and_bias"]
        optimizer = self.make_optimizer(parameter_groups(trained, self._head, factor, decay_all))
        check_optimizer(optimizer)
        scale_learning_rates(optimizer)
        for group in optimizer.param_groups:
            # One kernel for all parameters, unless the optimiser lacks it or was configured otherwise.
            if group.get("fused", False) is None and not (group.get("foreach") or group.get("differentiable")):
                group["fused"] = True
        resumed, self._resumed = self._resumed, None
        if self.make_lr_scheduler is None:
            if resumed:
                require_same_schedule(self.trainer, resumed, None)
            return optimizer
        scheduler = self.make_lr_scheduler(optimizer)
        settings: dict[str, Any] = {
            "scheduler": scheduler,
            "interval": schedule_interval(scheduler, self.lr_interval),
        }
        if isinstance(scheduler, WarmupCosine):
            span_run(scheduler, self.trainer)
        elif isinstance(scheduler, ReduceLROnPlateau):
            # torch's has no name for what it watches.
            settings["monitor"] = getattr(scheduler, "monitor", "val/acc" if scheduler.mode == "max" else "val/loss")
            check_monitor("model.lr_scheduler", settings["monitor"], scheduler.mode)
        require_length(scheduler, settings["interval"], self.trainer)
        if resumed:
            require_same_schedule(self.trainer, resumed, scheduler, settings["interval"])
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Estimate the length of a run with a time limit anew, and let the schedule go on."""
        if isinstance(scheduler, WarmupCosine) and time_limit(self.trainer) is not None:
            span_run(scheduler, self.trainer)
        super().lr_scheduler_step(scheduler, metric)


def _hyper_parameters(checkpoint: Any) -> dict[str, Any]:
    """The arguments of a checkpoint's module, under the names of this and of early versions of Lightning."""
    if isinstance(checkpoint, str | Path) and Path(checkpoint).is_file():
        content = read_stored(checkpoint)  # Leaves the weights on the disk.
    elif hasattr(checkpoint, "seek"):
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        checkpoint.seek(0)
    else:
        content = TorchCheckpointIO().load_checkpoint(checkpoint, map_location="cpu", weights_only=True)  # type: ignore[arg-type]
    keys = ("hparams", "module_arguments", "hyper_parameters")
    return {name: value for key in keys for name, value in dict(content.get(key) or {}).items()}


def balanced_weights(class_images: Sequence[int]) -> list[float]:
    """Weights of the classes with which all count the same together, and an image counts 1 on average.

    Args:
        class_images: Number of images of each class. A class without images, which has no place in the loss, gets 0.

    Source:
        scikit-learn's ``class_weight="balanced"``, after King and Zeng 2001, doi:10.1093/oxfordjournals.pan.a004868.
    """
    present = sum(count > 0 for count in class_images)
    return [sum(class_images) / (present * count) if count else 0.0 for count in class_images]


def _fingerprint(data: Any) -> str | None:
    """The data's fingerprint; None where its test images, which a training does without, cannot be loaded."""
    try:
        return str(data.fingerprint())
    # The user's `load` can raise anything, and a training must not end for this.
    except Exception as error:
        log.warning("the checkpoint holds no data fingerprint: %s: %s", type(error).__name__, error)
        return None
