"""Mistakes in a configuration, found before anything is trained with it."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pydoc import locate
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.cli import instantiate_class
from torch import nn

from cnn_compare.errors import InvalidValueError, RefusedSettingError, RunError, UsageError
from cnn_compare.formatting import quiet
from cnn_compare.metrics import evaluation_metrics, monitors
from cnn_compare.network_state import unchanged
from cnn_compare.schedules import schedule_interval

REFUSALS = (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError)
# The plugin: a SLURM job around the command is not what trains, and must not be checked.
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "plugins": [LightningEnvironment()],
}
REFUSED_CALLBACKS: dict[type, str] = {
    StochasticWeightAveraging: "it trains networks with batch norm for one more epoch, and its average is validated "
    "for no network; EMAWeightAveraging averages weights, and treats all networks alike",
    ModelPruning: "it prunes after the validation, and the network cannot be made again from best.ckpt; prune the "
    "weights of best.ckpt afterwards",
    BackboneFinetuning: "what it calls the backbone is the whole network here; use model.freeze=backbone or "
    "model.backbone_lr_factor",
    LearningRateFinder: "it sets a module's learning rate, and here the optimiser has it; `compare` can --search it",
}
MACHINE = ("accelerator", "devices", "num_nodes")
"""The trainer's settings that this machine need not have if another one trains."""

LOGGED = (
    "train/loss",
    "train/acc",
    "lr",
    "time/train_epoch_s",
    "time/val_epoch_s",
    "throughput/images_per_s",
    "energy/train_epoch_j",
)
"""What a training logs beside the metrics of its validation."""
HALF = ("bf16-true", "16-true")
"""Precisions in which all weights have 16 bits."""


def check_settings(config: Mapping[str, Any], stages: Sequence[str] = ("train", "val")) -> None:
    """Check the values of trainer, optimiser and schedule.

    Args:
        config: ``trainer``, ``model`` and ``seed_everything``, as plain values with their defaults.
        stages: Which of ``train``, ``val`` and ``test`` will take place.

    Raises:
        InvalidValueError: If a value would be taken, and nothing sensible would come of it.
        RefusedSettingError: If Lightning or torch refuses a value.
    """
    model = config["model"]
    check_classes(*(model[name] for name in ("num_classes", "label_smoothing", "class_weights")))
    check_fine_tuning(model["freeze"], model["backbone_lr_factor"])
    # A user's own callable may load weights itself.
    trained = config.get("ckpt_path") or model["weights"] or model["pretrained"] or ":" in model["backbone"]
    if "train" in stages and model["freeze"] != "none" and not trained:
        expected = "none without model.weights or model.pretrained: the frozen layers would be random"
        raise InvalidValueError("model.freeze", model["freeze"], expected, ["model.weights", "model.pretrained"])
    seed, trainer = config.get("seed_everything") or 0, config["trainer"]
    if (threads := config.get("threads")) is not None and threads < 1:
        raise InvalidValueError("threads", threads, "at least 1, or null for torch's default")
    if not 0 <= seed < 2**32:
        raise InvalidValueError("seed_everything", seed, "from 0 to 4294967295")
    for stage in stages:
        limit = trainer.get(f"limit_{stage}_batches")
        if limit is not None and not (limit >= 1 if isinstance(limit, int) else 0 < limit <= 1):
            expected = "a number of batches from 1, or a share of them above 0, up to 1.0"
            raise InvalidValueError(f"trainer.limit_{stage}_batches", limit, expected)
    if "train" in stages:
        _check_epochs(trainer)
        make_optimizer(model)
        given = trainer.get("callbacks") or []
        callbacks = [each for each in (given if isinstance(given, list) else [given]) if isinstance(each, dict)]
        check_callbacks(locate(callback["class_path"]) for callback in callbacks)
        _check_monitors(callbacks, model.get("lr_scheduler"))
    make_trainer({name: value for name, value in trainer.items() if name not in MACHINE})


def check_callbacks(classes: Iterable[Any]) -> None:
    """Check that there is no callback of a class with which a comparison of networks would go wrong.

    Raises:
        RefusedSettingError: If one does, with what to use instead.
    """
    for cls in classes:
        for refused, reason in REFUSED_CALLBACKS.items():
            if isinstance(cls, type) and issubclass(cls, refused):
                mentioned = ("model.freeze", "model.backbone_lr_factor")
                raise RefusedSettingError("trainer.callbacks", cls.__name__, reason, mentioned)


def check_classes(num_classes: int | None, label_smoothing: float, class_weights: str | Sequence[float]) -> None:
    """Check a classifier's number of classes, None where the data will tell it, and its loss.

    Raises:
        InvalidValueError: If there are fewer than two classes, nothing is left of the labels, or the weights are not
            one positive number a class.
    """
    if num_classes is not None and num_classes < 2:
        raise InvalidValueError("model.num_classes", num_classes, "at least 2")
    if not 0 <= label_smoothing < 1:
        raise InvalidValueError("model.label_smoothing", label_smoothing, "from 0 to below 1")
    if class_weights not in ("none", "balanced") and not (
        num_classes in (None, len(class_weights)) and all(0 < float(weight) < math.inf for weight in class_weights)
    ):
        expected = f"none, balanced, or a list of {num_classes} numbers above 0, one for each class"
        raise InvalidValueError("model.class_weights", class_weights, expected)


def check_fine_tuning(freeze: str, backbone_lr_factor: float) -> None:
    """Check how the layers before the head are to be trained.

    Raises:
        InvalidValueError: If the factor is not a number above 0, or belongs to layers that are frozen.
    """
    if not 0 < backbone_lr_factor < math.inf:
        expected = "a number above 0, or model.freeze=backbone to leave these layers as they are"
        raise InvalidValueError("model.backbone_lr_factor", backbone_lr_factor, expected, ["model.freeze"])
    if freeze == "backbone" and backbone_lr_factor != 1:
        raise InvalidValueError(
            "model.backbone_lr_factor", backbone_lr_factor, "left out with model.freeze=backbone", ["model.freeze"]
        )


def _check_epochs(trainer: Mapping[str, Any]) -> None:
    epochs = trainer.get("max_epochs")
    ends = (trainer.get("max_steps") or -1) > 0 or trainer.get("max_time") is not None
    if epochs is not None and epochs < 1 and not (epochs == -1 and ends):
        expected = "at least 1, or -1 with trainer.max_time or trainer.max_steps"
        raise InvalidValueError("trainer.max_epochs", epochs, expected)
    every = trainer.get("check_val_every_n_epoch")
    most = epochs if epochs and epochs > 0 else math.inf
    if every is not None and not 1 <= every <= most:
        expected = "at least 1" + (f", and at most trainer.max_epochs={most}" if epochs and epochs > 0 else "")
        raise InvalidValueError("trainer.check_val_every_n_epoch", every, expected)
    for name, least in (("accumulate_grad_batches", 1), ("gradient_clip_val", 0)):
        if (value := trainer.get(name)) is not None and value < least:
            raise InvalidValueError(f"trainer.{name}", value, f"at least {least}")


def _check_monitors(callbacks: Sequence[Mapping[str, Any]], schedule: Any) -> None:
    """Check what callbacks and the schedule watch: Lightning would complain of a wrong name after an epoch."""
    known = dict.fromkeys([*monitors(), *(f"val/{name}" for name in evaluation_metrics(num_classes=10)), *LOGGED])
    # A callback of the user's own can log other values.
    any_name = not all(callback["class_path"].startswith(("lightning.", "cnn_compare.")) for callback in callbacks)
    watching = [("trainer.callbacks", callback.get("init_args")) for callback in callbacks]
    if isinstance(schedule, dict):
        watching.append(("model.lr_scheduler", schedule.get("init_args")))
    for section, settings in watching:
        monitor, mode = ((settings or {}).get(name) for name in ("monitor", "mode"))
        if not any_name and monitor not in (None, *known):
            raise InvalidValueError(f"{section}.monitor", monitor, f"one of {', '.join(known)}")
        check_monitor(section, monitor, mode)


def check_monitor(section: str, monitor: str | None, mode: str | None) -> None:
    """Check that what watches a metric looks for larger values of it where larger is better.

    Raises:
        InvalidValueError: If it does not.
    """
    if monitor in monitors() and mode in ("min", "max") and (mode == "max") != monitors()[monitor]:
        expected = f"{'min' if mode == 'max' else 'max'} with {section}.monitor={monitor}"
        raise InvalidValueError(f"{section}.mode", mode, expected, [f"{section}.monitor"])


def check_precision(trainer: Trainer) -> None:
    """Check that a trainer which averages weights can hold the average.

    Raises:
        RefusedSettingError: If the average has 16 bits.
    """
    averages = [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    if averages and trainer.precision in HALF:
        reason = f"rounded to 16 bits, the average of {type(averages[0]).__name__} stands still; use bf16-mixed"
        raise RefusedSettingError("trainer.precision", trainer.precision, reason)


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Check that an optimiser takes a step for each gradient.

    Raises:
        RefusedSettingError: If it evaluates a batch as often as it likes, as L-BFGS does.
    """
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        reason = "it evaluates each batch several times, and what is logged of a training counts each image once"
        raise RefusedSettingError("model.optimizer", type(optimizer).__name__, reason)


def check_machine(trainer: Mapping[str, Any]) -> None:
    """Check that this machine has the devices that a trainer's settings ask for.

    Raises:
        InvalidValueError: If they ask for more processor cores than there are.
        RefusedSettingError: If Lightning finds no such accelerator or device.
    """
    made, cores = make_trainer(trainer), os.cpu_count() or 1
    if isinstance(made.accelerator, CPUAccelerator) and made.num_devices > cores:
        expected = f"at most {cores} on the processor, one for each of this machine's cores"
        raise InvalidValueError("trainer.devices", made.num_devices, expected)


def make_trainer(settings: Mapping[str, Any]) -> Trainer:
    """A trainer with plain settings, for checking them; loggers, callbacks and other objects are left out.

    Raises:
        RefusedSettingError: If Lightning refuses a setting, with its name.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(Trainer).parameters.items()}
    plain = {
        name: value
        for name, value in settings.items()
        # torch is switched to deterministic algorithms as soon as there is such a trainer.
        if name not in ("callbacks", "deterministic", "benchmark", *QUIET)
        and value != defaults[name]
        and not (isinstance(value, dict) and "class_path" in value)
        and not (isinstance(value, list) and any(isinstance(item, dict) for item in value))
    }
    with quiet():  # Of the devices that Lightning finds, the trainer that trains says it again.
        trainer: Trainer = _make("trainer", lambda **given: Trainer(**QUIET, **given), plain)
    return trainer


def make_optimizer(model: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser and the schedule of a model's settings, for a few parameters.

    Raises:
        InvalidValueError: If the learning rate is not a number above 0, or the schedule ignores that of some layers.
        RefusedSettingError: If the optimiser or the schedule refuses a setting, with its name.
    """
    head, body = (nn.ParameterList([torch.zeros(1, 1), torch.zeros(1)]) for _ in range(2))
    groups = parameter_groups([*head, *body], head, model["backbone_lr_factor"], model["decay_norm_and_bias"])
    optimizer: torch.optim.Optimizer = _make_class("model.optimizer", groups, model["optimizer"])
    for group in optimizer.param_groups:
        if not 0 < float(group["lr"]) < math.inf:
            raise InvalidValueError("model.optimizer.lr", group["lr"], "a number above 0")
    check_optimizer(optimizer)
    scale_learning_rates(optimizer)
    if model.get("lr_scheduler"):
        before = [float(group["lr"]) for group in optimizer.param_groups]
        schedule = _make_class("model.lr_scheduler", optimizer, model["lr_scheduler"])
        schedule_interval(schedule, model.get("lr_interval"))
        after = [float(group["lr"]) for group in optimizer.param_groups]
        if not all(math.isclose(old * after[0], new * before[0]) for old, new in zip(before, after, strict=True)):
            expected = "1 with this model.lr_scheduler, which gives all layers the same learning rate"
            raise InvalidValueError(
                "model.backbone_lr_factor", model["backbone_lr_factor"], expected, ["model.lr_scheduler"]
            )
    return optimizer


def parameter_groups(
    parameters: Iterable[nn.Parameter], head: Iterable[nn.Parameter], backbone_lr_factor: float, decay_all: bool
) -> list[dict[str, Any]]:
    """Groups for an optimiser.

    Args:
        parameters: All that are trained.
        head: The head's parameters; of no effect if the factor is 1.
        backbone_lr_factor: How many times the head's learning rate the others have; `scale_learning_rates` applies it.
        decay_all: Whether weight decay also applies to norm layers and biases, the parameters of one dimension.

    Source:
        He et al. 2018, arXiv:1812.01187, section 3.1, for weight decay.
    """
    every, of_head = list(parameters), {id(each) for each in head}
    groups: list[dict[str, Any]] = [{"params": every}]
    if backbone_lr_factor != 1:
        inside, before = ([each for each in every if (id(each) in of_head) == it_is] for it_is in (True, False))
        groups = [{"params": inside}, {"params": before, "lr_factor": backbone_lr_factor}]
    if decay_all:
        return groups
    parts = []
    for group in groups:
        decayed, others = ([each for each in group["params"] if (each.ndim > 1) == many] for many in (True, False))
        parts += [{**group, "params": decayed}, {**group, "params": others, "weight_decay": 0.0}]
    return parts


def scale_learning_rates(optimizer: torch.optim.Optimizer) -> None:
    """Give each group of `parameter_groups` its learning rate, before a schedule is made."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * group.get("lr_factor", 1)


def _make_class(section: str, argument: Any, settings: Any) -> Any:
    """An object of the class that a section of a configuration describes."""
    settings = {"class_path": settings} if isinstance(settings, str) else settings

    def make(**given: Any) -> Any:
        return instantiate_class(
            ([*argument],) if isinstance(argument, list) else argument, {**settings, "init_args": given}
        )

    return _make(section, make, settings.get("init_args", {}))


def _make(section: str, make: Any, settings: Mapping[str, Any]) -> Any:
    """Return ``make(**settings)``; if it refuses, name the setting without which it would not have."""
    try:
        return make(**settings)
    except REFUSALS as error:
        for name, value in settings.items():
            try:
                make(**{other: settings[other] for other in settings if other != name})
            except REFUSALS:
                continue
            raise RefusedSettingError(f"{section}.{name}", value, str(error)) from error
        raise RefusedSettingError(section, None, str(error)) from error


def check_network(network: nn.Module, name: str, image_size: int, num_classes: int) -> None:
    """Check with one black image that a network returns a number for each class.

    Args:
        network: Left as it is.
        name: The backbone's name, for messages.
        image_size: Height and width of the images, in pixels.
        num_classes: Number of classes.

    Raises:
        RunError: If the output is anything but a tensor ``(1, num_classes)``.
    """
    _check_logits(_output(network, image_size, 1), name, 1, num_classes)


def check_training(network: nn.Module, name: str, image_size: int, num_classes: int, batch_size: int) -> None:
    """Check with black images that a network can be trained, and says what its auxiliary losses count.

    Args:
        network: Left as it is.
        name: The backbone's name, for messages.
        image_size: Height and width of the images, in pixels.
        num_classes: Number of classes.
        batch_size: Number of images.

    Raises:
        InvalidValueError: If its batch norm cannot be trained with one image.
        RunError: If the output is neither logits nor a tuple of logits and, with an ``aux_loss_weight``,
            auxiliary logits.
    """
    try:
        output = _output(network, image_size, batch_size, training=True)
    except ValueError as error:  # torch's "Expected more than 1 value per channel when training".
        if batch_size > 1:
            raise
        expected = "at least 2 images for each device: batch norm needs more than one value"
        raise InvalidValueError("data.batch_size", 1, expected) from error
    parts = output if isinstance(output, (tuple, list)) else (output,)
    for part in parts[:1] if len(parts) < 2 else (each for each in parts if each is not None):
        _check_logits(part, name, batch_size, num_classes)
    if len(parts) > 1 and not isinstance(getattr(network, "aux_loss_weight", None), int | float):
        raise UsageError(
            f"{name} returns auxiliary logits in training, and has no aux_loss_weight, by which their loss is "
            "multiplied. Set this attribute of the network, such as 0.3 for GoogLeNet, in a function of your own that "
            "builds it; or build it without auxiliary heads."
        )


def _check_logits(output: Any, name: str, batch_size: int, num_classes: int) -> None:
    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != (batch_size, num_classes):
        what = "one image" if batch_size == 1 else f"{batch_size} images in training"
        raise RunError(
            f"{name} returns {found} for {what}, and should return logits of shape ({batch_size}, {num_classes}), one "
            "for each class. A backbone is called with num_classes, and its last layer has as many outputs.",
            ["model.num_classes"],
        )


@torch.no_grad()
def _output(network: nn.Module, image_size: int, batch_size: int, training: bool = False) -> Any:
    """The output for black images of a network, which is left as it is."""
    parameter = next(network.parameters(), torch.zeros(0))
    black = torch.zeros(batch_size, 3, image_size, image_size, dtype=parameter.dtype, device=parameter.device)
    with unchanged(network):
        return network.train(training).forward(black)
