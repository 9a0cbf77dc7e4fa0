"""What is wrong with a configuration, found before anything is trained with it."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.cli import instantiate_class
from torch import nn

from cnn_compare.errors import InvalidValueError, NetworkOutputError, RefusedSettingError

REFUSALS = (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError)
# The plugin: a SLURM job around the command is not what trains, and must not be checked.
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "plugins": [LightningEnvironment()],
}
MACHINE = ("accelerator", "devices", "num_nodes")
"""The trainer's settings that this machine need not have if another one trains."""


def check_settings(config: Mapping[str, Any], stages: Sequence[str] = ("train", "val")) -> None:
    """Check the values of trainer, optimiser and schedule.

    Args:
        config: ``trainer``, ``model`` and ``seed_everything``, as plain values with their defaults.
        stages: Which of ``train``, ``val`` and ``test`` will take place.

    Raises:
        InvalidValueError: If a value would be taken, and nothing sensible would come of it.
        RefusedSettingError: If Lightning or torch refuses a value.
    """
    check_classes(*(config["model"][name] for name in ("num_classes", "label_smoothing", "class_weights")))
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
        make_optimizer(config["model"])
    make_trainer({name: value for name, value in trainer.items() if name not in MACHINE})


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
    with _without_notes():
        trainer: Trainer = _make("trainer", lambda **given: Trainer(**QUIET, **given), plain)
    return trainer


def make_optimizer(model: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser and the schedule of a model's settings, for one parameter or, by decay, two.

    Raises:
        InvalidValueError: If the learning rate is not a number above 0.
        RefusedSettingError: If the optimiser or the schedule refuses a setting, with its name.
    """
    parameters: list[Any] = [nn.Parameter(torch.zeros(1))]
    if not model["decay_norm_and_bias"]:
        parameters = groups_by_decay([nn.Parameter(torch.zeros(1, 1)), *parameters])
    optimizer: torch.optim.Optimizer = _make_class("model.optimizer", parameters, model["optimizer"])
    for group in optimizer.param_groups:
        if not 0 < float(group["lr"]) < math.inf:
            raise InvalidValueError("model.optimizer.lr", group["lr"], "a number above 0")
    if model.get("lr_scheduler"):
        _make_class("model.lr_scheduler", optimizer, model["lr_scheduler"])
    return optimizer


def groups_by_decay(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Two groups for an optimiser, the second one without weight decay: parameters of norm layers, and biases.

    Source:
        He et al. 2018, arXiv:1812.01187, section 3.1.
    """
    every = list(parameters)
    decayed, others = ([each for each in every if (each.ndim > 1) == many] for many in (True, False))
    return [{"params": decayed}, {"params": others, "weight_decay": 0.0}]


def _make_class(section: str, argument: Any, settings: Any) -> Any:
    """An object of the class that a section of a configuration describes."""
    settings = {"class_path": settings} if isinstance(settings, str) else settings

    def make(**given: Any) -> Any:
        return instantiate_class(
            ([*argument],) if isinstance(argument, list) else argument, {**settings, "init_args": given}
        )

    return _make(section, make, settings.get("init_args", {}))


def _make(section: str, make: Any, settings: Mapping[str, Any]) -> Any:
    """What ``make(**settings)`` returns; if it refuses, the setting is named without which it would not have."""
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


@contextmanager
def _without_notes() -> Iterator[None]:
    """Without what Lightning says of the devices that it finds: the trainer that trains says it again."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@torch.no_grad()
def check_network(network: nn.Module, name: str, image_size: int, num_classes: int) -> None:
    """Check with one black image that a network returns a number for each class.

    Args:
        network: Left as it is.
        name: Of the backbone, for messages.
        image_size: Height and width of the images, in pixels.
        num_classes: Number of classes.

    Raises:
        NetworkOutputError: If the output is anything but a tensor ``(1, num_classes)``.
    """
    image = _black_image(network, image_size)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            output = network.forward(image)
    finally:
        for module, training in modes:
            module.training = training
    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != (1, num_classes):
        raise NetworkOutputError(name, found, num_classes)


@torch.no_grad()
def check_single_images(network: nn.Module, image_size: int) -> None:
    """Check that a network, which is left as it is, can be trained with batches of one image.

    Raises:
        InvalidValueError: If its batch norm cannot.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            copy.deepcopy(network).train()(_black_image(network, image_size))
    except ValueError as error:  # torch's "Expected more than 1 value per channel when training".
        expected = "at least 2 images for each device: batch norm needs more than one value"
        raise InvalidValueError("data.batch_size", 1, expected) from error


def _black_image(network: nn.Module, image_size: int) -> torch.Tensor:
    parameter = next(network.parameters(), torch.zeros(0))
    return torch.zeros(1, 3, image_size, image_size, device=parameter.device)
