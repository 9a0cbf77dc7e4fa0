"""A trainer, a network and data from one configuration: what `fit` and every run of a comparison have in common."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins import TorchCheckpointIO

from cnn_compare.backbones import find_backbone
from cnn_compare.callbacks import (
    ConfusionFigures,
    EpochSeed,
    EpochTimer,
    LastCheckpoint,
    StopWhenDiverged,
    ThrottledProgressBar,
)
from cnn_compare.checkpointing import AtomicCheckpointIO, require_checkpoint
from cnn_compare.configs import merge_config
from cnn_compare.data import CIFAR10DataModule, ImageDataModule
from cnn_compare.errors import CheckpointError, InvalidValueError
from cnn_compare.machine import tune_process
from cnn_compare.module import ClassifierModule

# What makes a network another one, with the defaults.
IDENTITY = {"backbone": "resnet18", "num_classes": 10, "stem": "imagenet"}

TRAINER_DEFAULTS = {
    "max_epochs": 10,
    # The loops are tested; a rehearsal of the validation only delays the start.
    "num_sanity_val_steps": 0,
    # Values are logged once an epoch, however few steps it has.
    "log_every_n_steps": 1,
}


def checkpoints(folder: Path | None = None) -> list[ModelCheckpoint]:
    """``best.ckpt``, weights at the highest validation accuracy, and ``last.ckpt``, all that a resume needs.

    Args:
        folder: Where they go; None: beside the logs.
    """
    best = ModelCheckpoint(
        folder,
        filename="best",
        monitor="val/acc",
        mode="max",
        save_weights_only=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    # After `best`, so that it stores which epoch was best, this one included.
    return [best, LastCheckpoint(folder)]


def stop_at(target_acc: float) -> EarlyStopping:
    """End the training after the first epoch whose validation accuracy is at least this share.

    Raises:
        InvalidValueError: If it is no share above 0.
    """
    if not 0 < target_acc <= 1:
        raise InvalidValueError("--target_acc", target_acc, "a share above 0, up to 1, such as 0.94 for 94 %")
    return EarlyStopping("val/acc", mode="max", patience=sys.maxsize, stopping_threshold=target_acc, verbose=True)


class SaveConfig(SaveConfigCallback):
    """``config.yaml`` beside the logs; where nothing is logged, none."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save, if there is a place for it: without a logger that would be the user's working folder."""
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)


class ExperimentCLI(LightningCLI):
    """LightningCLI for `ClassifierModule` and any `ImageDataModule`; CIFAR-10 unless ``--data`` says otherwise.

    Args:
        args: As for `LightningCLI`; None takes the command line.
        run: Whether a subcommand is to be parsed and run; otherwise ``trainer``, ``model`` and ``datamodule`` are made.
        callbacks: Added to those of the configuration and `EpochSeed`; None: timer, progress bar, the test's figures
            and checkpoints.
        **overrides: Arguments of `Trainer` that take precedence over the configuration.
    """

    model: ClassifierModule
    datamodule: ImageDataModule

    def __init__(
        self, args: ArgsType = None, run: bool = True, callbacks: list[Callback] | None = None, **overrides: Any
    ) -> None:
        tune_process()
        self.overrides = overrides
        if callbacks is None:
            callbacks = [EpochTimer(), ThrottledProgressBar(), ConfusionFigures(), *checkpoints()]
        super().__init__(
            ClassifierModule,
            ImageDataModule,
            subclass_mode_data=True,
            trainer_defaults={**TRAINER_DEFAULTS, "callbacks": [EpochSeed(), *callbacks, StopWhenDiverged()]},
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            args=args,
            run=run,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; arguments that a program hands over are meant, whatever its own command line says."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LightningCLI's args parameter")
            super().parse_arguments(parser, args)
        # Kept, because Lightning lets the settings that a checkpoint brings replace them without a word.
        section = self.config.get(self.config.get("subcommand", ""), self.config)
        self.asked = {name: section[f"model.{name}"] for name in IDENTITY}
        checkpoint = section.get("ckpt_path")
        if checkpoint and not re.match("best|last|hpc|registry", str(checkpoint)):  # Lightning's own words
            require_checkpoint(checkpoint)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """CIFAR-10 is the data to begin with."""
        _add_common(parser)

    def before_instantiate_classes(self) -> None:
        """Refuse a checkpoint of another network than was asked for; put in the backbone's own recipe where that was.

        Raises:
            CheckpointError: If a checkpoint's network is not the one on the command line.
        """
        for name, asked in self.asked.items():
            there = self._get(self.config, f"model.{name}")
            if there != asked and asked != IDENTITY[name]:
                raise CheckpointError(name, there, asked)
        if not self._get(self.config, "own_recipe"):
            return
        own = find_backbone(str(self._get(self.config, "model.backbone"))).recipe_changes
        own = {self.subcommand: own} if self.subcommand else own
        self.config = self.parser.parse_object(merge_config(plain_config(self.parser, self.config), own))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The configured trainer, with the overrides."""
        shown = self._get(self.config_init, "trainer.enable_progress_bar")
        if shown is False:  # Lightning refuses a bar beside that.
            kept = [each for each in self.trainer_defaults["callbacks"] if not isinstance(each, ProgressBar)]
            self.trainer_defaults["callbacks"] = kept
        trainer = super().instantiate_trainer(**{**kwargs, **self.overrides})
        if (target_acc := self._get(self.config, "target_acc")) is not None:
            trainer.callbacks.append(stop_at(target_acc))  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer


def _add_common(parser: LightningArgumentParser) -> None:
    parser.add_argument(
        "--target_acc",
        type=float | None,
        default=None,
        help="Stop once the validation accuracy reaches this share; 0.94 for 94 %%.",
    )
    parser.add_argument(
        "--own_recipe",
        type=bool,
        default=False,
        help="Replace what the configuration says by what the backbone's own recipe says, where it has one.",
    )
    parser.set_defaults({"data": {"class_path": class_path(CIFAR10DataModule)}})


def experiment_parser(**options: Any) -> LightningArgumentParser:
    """A parser with every ``--trainer.*``, ``--model.*`` and ``--data.*`` flag of `ExperimentCLI`."""
    parser = LightningArgumentParser(**options)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(ClassifierModule, "model")
    parser.add_lightning_class_args(ImageDataModule, "data", subclass_mode=True)
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    _add_common(parser)
    return parser


def plain_config(parser: LightningArgumentParser, config: Namespace) -> dict[str, Any]:
    """A parsed configuration as plain lists, dictionaries and values, defaults written out."""
    resolved: dict[str, Any] = yaml.safe_load(parser.dump(config, skip_none=False))
    return resolved


def class_path(cls: type) -> str:
    """The name under which configurations know a class."""
    return f"{cls.__module__}.{cls.__qualname__}"
