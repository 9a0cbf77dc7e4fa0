"""Configurations made of options, files and recipes; trainers, modules and data made of configurations."""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import logging
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from pydoc import locate
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]
from lightning import LightningModule, Trainer
from lightning import __version__ as lightning_version
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins import TorchCheckpointIO

from cnn_compare.backbones import find_backbone
from cnn_compare.callbacks import (
    BestCheckpoint,
    EpochSeed,
    EpochTimer,
    FitProgress,
    FitSummary,
    LastCheckpoint,
    StopWhenDiverged,
    StopWithoutProgress,
)
from cnn_compare.checkpointing import (
    AtomicCheckpointIO,
    logs_folder,
    newest_checkpoint,
    other_setting,
    require_checkpoint,
    require_resumable,
)
from cnn_compare.checks import check_machine, check_settings, make_optimizer
from cnn_compare.configs import find_file, merge_config
from cnn_compare.data import CIFAR10DataModule, FolderDataModule, ImageDataModule, TorchvisionDataModule
from cnn_compare.data.once import once
from cnn_compare.errors import (
    CheckpointError,
    CheckpointFileError,
    ConfigurationError,
    InvalidValueError,
    RefusedSettingError,
    UsageError,
)
from cnn_compare.files import write_text
from cnn_compare.helptext import TopicHelp
from cnn_compare.machine import tune_process
from cnn_compare.metrics import monitors
from cnn_compare.module import ClassifierModule
from cnn_compare.parsing import OneLineErrors
from cnn_compare.private import actions_of, forget_order_of_types, put_int_before_float, read_file_into
from cnn_compare.results import SPLITS_FILE, RunFolder
from cnn_compare.trusted import names_in, require_trusted, trust, untrusted

NETWORK_SETTINGS = ("model.backbone", "model.num_classes", "model.stem")
"""What a checkpoint and the request must agree on."""

EVALUATIONS = ("validate", "test")
"""Commands that need trained weights, and data as in training."""
STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
"""Which batches each command reads."""

USUAL_CLASSES = 10
"""The number for a data module that does not know its classes beforehand."""

TRAINER_DEFAULTS = {
    "max_epochs": 10,
    # Lightning's trial run of the validation only delays the start.
    "num_sanity_val_steps": 0,
    # Values are logged once an epoch, even if it has one step.
    "log_every_n_steps": 1,
}


def checkpoints(folder: Path | None, monitor: str) -> list[ModelCheckpoint]:
    """The callbacks that write ``best.ckpt``, the weights of the best epoch, and ``last.ckpt``, all state.

    Args:
        folder: For the files; None: beside the logs.
        monitor: One of `monitors`, which tells the best epoch.
    """
    # `last` comes second: it also stores the state of `best`, which must already know this epoch.
    return [BestCheckpoint(folder, monitor), LastCheckpoint(folder)]


def stop_at(target_acc: float) -> EarlyStopping:
    """The callback that ends training after the first epoch with at least this validation accuracy.

    Args:
        target_acc: A share of the images, above 0, up to 1.

    Raises:
        InvalidValueError: If ``target_acc`` is outside that range.
    """
    if not 0 < target_acc <= 1:
        raise InvalidValueError("target_acc", target_acc, "a share above 0, up to 1, such as 0.94 for 94 %")
    return EarlyStopping("val/acc", mode="max", patience=sys.maxsize, stopping_threshold=target_acc, verbose=True)


class SettingsParser(TopicHelp, OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser; what it refuses is a `ConfigurationError`, and its help fits a screen."""

    def __init__(self, *args: Any, **options: Any) -> None:
        forget_order_of_types()
        put_int_before_float(Trainer.__init__)
        super().__init__(*args, **options)

    def dump(self, namespace: Namespace, *arguments: Any, **options: Any) -> str:
        """Write YAML without defaults of classes that YAML cannot hold: reading fills them in again."""
        namespace = namespace.clone()
        _drop_objects(namespace)
        return str(super().dump(namespace, *arguments, **options))

    def topic_sections(self, topic: str) -> list[tuple[str, Sequence[argparse.Action]]]:
        """Headings and options of a topic; of data, also the arguments of each data module."""
        sections = super().topic_sections(topic)
        if topic == "data":
            shared = set(_arguments_of(ImageDataModule))
            for cls in (ImageDataModule, CIFAR10DataModule, FolderDataModule, TorchvisionDataModule):
                arguments = _arguments_of(cls)
                if cls is ImageDataModule:
                    sections.append(("of every data module", [*arguments.values()]))
                    continue
                own = [action for name, action in arguments.items() if name not in shared]
                sections.append((f"of --data={cls.__name__}", own))
        return sections


def _drop_objects(node: Any) -> None:
    """Delete arguments of classes, in place, that are objects and the class's defaults: a device, an enumeration."""
    if isinstance(node, list):
        for item in node:
            _drop_objects(item)
    if not isinstance(node, Namespace):
        return
    if isinstance(arguments := node.get("init_args"), Namespace):
        defaults: dict[str, inspect.Parameter] = {}
        for base in reversed(getattr(locate(str(node.get("class_path"))), "__mro__", ())):
            defaults |= inspect.signature(base).parameters if "__init__" in vars(base) else {}
        for name, value in vars(arguments).copy().items():
            plain = value is None or type(value) in (bool, int, float, str, list, dict, Namespace)
            if not plain and name in defaults and defaults[name].default == value:
                del arguments[name]
    for value in vars(node).values():
        _drop_objects(value)


def _arguments_of(cls: type[ImageDataModule]) -> dict[str, argparse.Action]:
    parser = ArgumentParser(add_help=False)
    parser.add_class_arguments(cls, "data")
    return {action.dest: action for action in actions_of(parser) if "." in action.dest}


# Lightning suspects a mistake where a program has arguments of its own.
warnings.filterwarnings("ignore", "LightningCLI's args parameter")
# Lightning advertises products of its own there.
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.getMessage())


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` beside the logs, if there are logs."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save into the training's own folder; Lightning would overwrite a config.yaml beside W&B's folder."""
        folder = logs_folder(trainer)
        if folder is None or self.already_saved:
            return
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / self.config_filename
            self.parser.save(self.config, path, skip_none=False, overwrite=True, multifile=self.multifile)
        self.already_saved = True


class ExperimentCLI(LightningCLI):
    """LightningCLI for `ClassifierModule` and any `ImageDataModule`; CIFAR-10 unless ``--data`` says otherwise.

    Args:
        args: See `LightningCLI`; None takes the command line.
        run: Whether to parse and run a subcommand; otherwise ``trainer``, ``model`` and ``datamodule`` are made, and
            no configuration is stored.
        callbacks: Added to those of the configuration, `EpochSeed` and `StopWhenDiverged`; None: timer, progress bar
            and checkpoints.
        parser_kwargs: Arguments of the parser, and of each command's by the command's name.
        **overrides: Arguments of `Trainer` that take precedence over the configuration.
    """

    model: ClassifierModule
    datamodule: ImageDataModule

    def __init__(
        self,
        args: ArgsType = None,
        run: bool = True,
        callbacks: list[Callback] | None = None,
        parser_kwargs: dict[str, Any] | None = None,
        **overrides: Any,
    ) -> None:
        tune_process()
        self.overrides = overrides
        self.timer: EpochTimer | None = None
        self.command_parsers: list[LightningArgumentParser] = []
        if callbacks is None:
            self.timer = EpochTimer()
            callbacks = [self.timer, FitProgress()]
        super().__init__(
            ClassifierModule,
            ImageDataModule,
            subclass_mode_data=True,
            trainer_defaults={**TRAINER_DEFAULTS, "callbacks": [EpochSeed(), *callbacks, StopWhenDiverged()]},
            seed_everything_default=0,
            save_config_callback=SaveConfig if run else None,
            auto_configure_optimizers=False,
            parser_class=SettingsParser,
            parser_kwargs=parser_kwargs,
            args=args,
            run=run,
        )

    def init_parser(self, **options: Any) -> LightningArgumentParser:
        """A command's parser, as Lightning's, but files and recipes may be named, and a file may name its recipe."""
        parser = SettingsParser(**{"dump_header": [f"lightning.pytorch=={lightning_version}"], **options})
        parser.add_argument(
            "-c", "--config", action=SettingsFile, help="A YAML file of these options; later ones take precedence."
        )
        parser.add_argument(
            "--recipe", action=RecipeFile, help="A recipe, by name or path; the file and later options refine it."
        )
        return parser

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """The commands' parser, or that of a comparison's runs."""
        if add_subcommands:
            super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
        else:
            self.parser = run_parser()

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, but for its ``predict``, which would keep no prediction; `Classifier` takes its place."""
        commands = LightningCLI.subcommands()
        return {name: commands[name] for name in STAGES}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; with a checkpoint, its data is the default, and which settings were given is noted.

        Raises:
            CheckpointFileError: If the checkpoint cannot be read.
            UntrustedCodeError: If it names code that is neither this package's nor named by the user.
        """
        super().parse_arguments(parser, args)
        self.given = _namespace()
        self.stored_data: dict[str, Any] = {}
        command = self.config.get("subcommand")
        checkpoint = self.config.get(f"{command}.ckpt_path")
        if not checkpoint:
            self._check()
            model = self.config[command].model if command in EVALUATIONS else None
            if model and not (model.weights or model.pretrained):
                raise _no_weights(command)
            return
        if checkpoint in (Path(RunFolder.LAST).stem, Path(RunFolder.BEST).stem):
            log_dir = Path(self.config[command].trainer.default_root_dir or ".") / "lightning_logs"
            checkpoint = str(newest_checkpoint(log_dir, checkpoint))
        content: dict[str, Any] = {}
        if Path(checkpoint).is_file() or not re.fullmatch("hpc|registry.*", str(checkpoint)):  # Lightning's keywords
            content = require_checkpoint(checkpoint)
            self.stored_data = content.get("data", {})
            self._require_trusted(checkpoint, content.get("hyper_parameters") or {})
        default_data = data_defaults(self.stored_data)
        dict(zip(STAGES, self.command_parsers, strict=True))[command].set_defaults({"data": default_data})
        super().parse_arguments(parser, args)
        self.config[command].ckpt_path = checkpoint
        if self.config.get(f"{command}.data.init_args.normalization") == "own":
            # Those of the images that the checkpoint was trained with; it holds them as numbers.
            own = self.stored_data.get("normalization", "own")
            self.config[f"{command}.data.init_args.normalization"] = own
        self._check()
        # Lightning will overwrite these settings with those of the checkpoint, without a word.
        words = [str(word) for word in (args if isinstance(args, list) else sys.argv[1:])]
        # Without defaults, the data would be missing.
        words[1:1] = [f"--data={default_data['class_path']}"]
        self.given = parser.parse_args(words, defaults=False)
        if command == "fit" and content:
            config = plain_config(self.parser, self.config)["fit"]
            optimizer = make_optimizer(config["model"])
            limits = (config["trainer"][name] for name in ("max_epochs", "max_steps"))
            require_resumable(checkpoint, content, optimizer, *limits)

    def _require_trusted(self, checkpoint: str, stored: Mapping[str, Any]) -> None:
        """Check that a checkpoint names no code but this package's and what the user has named.

        Raises:
            UntrustedCodeError: If its network or its data is another's.
            CheckpointFileError: If it names code elsewhere, which no checkpoint of this package does.
        """
        given = self.config[self.config.subcommand].as_dict()
        trust(*names_in(given))
        require_trusted(checkpoint, stored.get("backbone"), f"model.backbone={stored.get('backbone')}")
        if names := untrusted(stored):
            raise CheckpointFileError(checkpoint, f"it names {', '.join(names)}, which no network here does")
        name = self.stored_data.get("class_path")
        # With other data, this class is not needed.
        if not given["allow_other_data"] and given["data"]["class_path"].endswith(f".{CIFAR10DataModule.__name__}"):
            require_trusted(checkpoint, name, f"data={name}")

    def _check(self) -> None:
        """Check the settings of a command before it starts; those of a comparison's run have been checked."""
        if command := self.config.get("subcommand"):
            config = plain_config(self.parser, self.config)[command]
            check_settings(config, STAGES[command])
            check_machine(config["trainer"])

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what `fit` and comparisons have in common, and what the use of a checkpoint takes."""
        self.command_parsers.append(parser)
        _add_common(parser)
        parser.add_argument(
            "--allow_other_data",
            type=bool,
            default=False,
            help="Use a checkpoint with other data, or otherwise prepared data, than it was trained on.",
        )

    def before_instantiate_classes(self) -> None:
        """Set the threads, check the network against the checkpoint's, and apply the own recipe if asked to.

        What a recipe says has been written out, so that its name is not stored with the settings.

        Raises:
            CheckpointError: If the given settings contradict the checkpoint.
        """
        if (threads := self._get(self.config, "threads")) is not None:
            torch.set_num_threads(threads)
        for name in NETWORK_SETTINGS:
            given, stored = self._get(self.given, name), self._get(self.config, name)
            if given is not None and given != stored:
                raise other_setting(name, stored, given)
        if self._get(self.config, "own_recipe"):
            config = plain_config(self.parser, self.config)
            section = config[self.subcommand] if self.subcommand else config
            section.update(apply_own_recipe(section))
            self.config = self.parser.parse_object(config)
        if self.subcommand:
            self.config[f"{self.subcommand}.recipe"] = None

    def instantiate_classes(self) -> None:
        """Make trainer, module and data; compare the data with the checkpoint's.

        Raises:
            CheckpointError: If it is other data, or prepared otherwise.
            UsageError: If the head is to be evaluated as it starts, because the weights are for other classes.
        """
        # The data first, because it knows the number of classes; the configuration, which is stored, stays plain.
        command, section = self.subcommand, self.config[self.subcommand] if self.subcommand else self.config
        alone = _namespace(data=section.data)
        alone = _namespace(**{"subcommand": command, command: alone}) if command else alone
        self.datamodule = self._get(self.parser.instantiate_classes(alone, instantiate_groups=False), "data")
        # A checkpoint, or the comparison, has set it already.
        if section.model.num_classes is None:
            section.model.num_classes = getattr(self.datamodule, "num_classes", USUAL_CLASSES)
        config = self.config.clone()
        config[f"{command}.data" if command else "data"] = self.datamodule
        self.config_init = self.parser.instantiate_classes(config)
        self.model = self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()
        checkpoint = self._get(self.config, "ckpt_path")
        if self.subcommand in EVALUATIONS and not checkpoint and self.model.has_fresh_head:
            reason = f", and those given are not for model.num_classes={self.model.num_classes}: the head is untrained"
            raise _no_weights(self.subcommand, reason)
        if not self.stored_data or self._get(self.config, "allow_other_data"):
            return
        for name, requested in self.datamodule.preparation.items():
            stored = self.stored_data.get(name, requested)
            if stored != requested and name == "pictures":
                raise CheckpointError(
                    f"the checkpoint's split was cut from {stored}, and there are {requested} now: images that it was "
                    "trained with could be among those it is tested with. Name the folder as it was with data.data_dir "
                    "or data.labels, or give allow_other_data=true.",
                    ("data.data_dir", "data.labels", "allow_other_data"),
                )
            # The same data can be elsewhere.
            if stored != requested and name not in ("data_dir", "labels"):
                raise other_setting("data" if name == "class_path" else f"data.{name}", stored, requested)

    def before_fit(self) -> None:
        """Write beside the logs which of the user's files is in which split, where the program has cut them."""
        folder = logs_folder(self.trainer)
        if folder is None or not self.trainer.is_global_zero:
            return
        if (splits := self.datamodule.splits_csv()) is not None:
            write_text(folder / SPLITS_FILE, splits)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The configured trainer, with the overrides."""
        monitor, patience, target_acc = (self._get(self.config, name) for name in ("monitor", "patience", "target_acc"))
        callbacks: list[Callback] = self.trainer_defaults["callbacks"]
        if self._get(self.config_init, "trainer.enable_progress_bar") is False:
            # Lightning refuses a progress bar together with that setting.
            callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
        self.trainer_defaults["callbacks"] = [*callbacks, *(checkpoints(None, monitor) if self.timer else [])]
        if self.timer and self._get(self.config_init, "trainer.enable_model_summary") is None:
            kwargs["enable_model_summary"] = False  # Lightning's is long, and says that FLOPs are 0.
        try:
            trainer = super().instantiate_trainer(**{**kwargs, **self.overrides})
        except MisconfigurationException as error:
            raise RefusedSettingError("trainer", None, str(error)) from error
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if target_acc is not None:
            callbacks.append(stop_at(target_acc))
        if patience is not None:
            callbacks.append(StopWithoutProgress(monitor, patience))
        if self.timer:
            # First, so that a checkpoint of this epoch knows its accuracy.
            callbacks.insert(0, FitSummary(monitor, target_acc))
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer


def run_cli(config: Mapping[str, Any], callbacks: list[Callback], **overrides: Any) -> ExperimentCLI:
    """The trainer, module and data of a comparison's run, in a process of its own or beside others.

    Args:
        config: The run's configuration.
        callbacks: See `ExperimentCLI`.
        **overrides: Arguments of `Trainer` that take precedence over the configuration.
    """
    return ExperimentCLI(
        args=copy.deepcopy(dict(config)),  # The parser replaces parts of what it is given.
        run=False,
        callbacks=callbacks,
        # Lightning would otherwise take the processes of a SLURM job around the comparison for those of the run.
        plugins=config["trainer"].get("plugins") or [LightningEnvironment()],
        enable_progress_bar=False,
        enable_model_summary=False,
        **overrides,
    )


def _namespace(**values: Any) -> Namespace:
    return Namespace(**values)  # type: ignore[no-untyped-call]


def _no_weights(command: str, reason: str = "") -> UsageError:
    return UsageError(
        f"{command} needs trained weights{reason}. Give ckpt_path=FILE as written by `fit` or `compare`, "
        "ckpt_path=last for those of the last `fit`, model.weights=FILE, or model.pretrained=true.",
        ("ckpt_path", "model.weights", "model.pretrained", "model.num_classes"),
    )


def _add_common(parser: LightningArgumentParser) -> None:
    parser.add_argument(
        "--target_acc",
        type=float | None,
        default=None,
        help="Stop once the validation accuracy reaches this share; 0.94 for 94 %%.",
    )
    parser.add_argument(
        "--monitor",
        type=Literal[*monitors()],
        default="val/acc",
        help="What tells the best epoch, whose weights are kept and tested.",
    )
    parser.add_argument(
        "--patience",
        type=int | None,
        default=None,
        help="Stop after so many epochs without a better value of what is monitored.",
    )
    parser.add_argument(
        "--own_recipe",
        type=bool,
        default=False,
        help="Replace what the configuration says by what the backbone's own recipe says, where it has one.",
    )
    parser.add_argument(
        "--threads",
        type=int | None,
        default=None,
        help="Threads of torch on the processor, in each process; null: torch's default, which a comparison shares.",
    )
    # Without a number of classes, that of the data is filled in.
    parser.set_defaults({"data": {"class_path": class_path(CIFAR10DataModule)}, "model.num_classes": None})


def experiment_parser(**options: Any) -> SettingsParser:
    """A parser with every ``--trainer.*``, ``--model.*`` and ``--data.*`` flag of `ExperimentCLI`."""
    parser = SettingsParser(**options)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(ClassifierModule, "model")
    parser.add_lightning_class_args(ImageDataModule, "data", subclass_mode=True)
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    _add_common(parser)
    return parser


@cache
def run_parser() -> SettingsParser:
    """The parser of a comparison's runs: making it takes longer than parsing."""
    parser = experiment_parser()
    parser.add_argument("--seed_everything", type=bool | int, default=0)
    return parser


class RecipeFile(argparse.Action):
    """``--recipe NAME_OR_PATH``: reads the recipe's settings; options after it take precedence."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Put the settings over those read so far, and keep the path."""
        _read_recipe(parser, namespace, values)
        namespace.recipe = values


class SettingsFile(ActionConfigFile):
    """``--config NAME_OR_PATH``: if the file names a recipe, that is read first, so that the file takes precedence."""

    kinds: tuple[str, ...] = ("recipes",)

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Put the settings of recipe and file over those read so far."""
        if "\n" not in values and ":" not in values:  # jsonargparse also takes the settings themselves.
            values = str(find_file(self.dest, values, *self.kinds))
        try:
            content = yaml.safe_load(Path(values).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            content = None  # The parser says what is wrong with the file.
        if isinstance(content, dict) and content.get("recipe") is not None:
            _read_recipe(parser, cfg, content["recipe"], Path(values).parent)
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]


class ComparisonFile(SettingsFile):
    """``--config NAME_OR_PATH`` of a command that compares."""

    kinds = ("comparisons", "recipes")


def _read_recipe(parser: Any, config: Namespace, given: str | Path, folder: Path = Path()) -> None:
    """Put a recipe's settings over a configuration, in place; a path is relative to ``folder``."""
    beside = folder / given
    path = find_file("recipe", beside if beside.is_file() else given, "recipes")
    config["recipe"] = []  # Where jsonargparse notes the path.
    read_file_into(parser, config, "recipe", str(path))
    del config["recipe"]


def resolve_config(config: Mapping[str, Any], recipe: str | Path | None = None) -> dict[str, Any]:
    """Check a configuration, and write out its defaults.

    Args:
        config: Sections ``trainer``, ``model`` and ``data``, and the options beside them; None: the default.
        recipe: A file of such settings, or the name of a recipe of the package; those in ``config`` take precedence.

    Returns:
        Plain lists, dictionaries and values.

    Raises:
        ConfigurationError: If a setting does not exist or has the wrong type.
        InvalidValueError: If there is no such recipe.
    """
    parser, base = _resolver(), _namespace()
    parser.files.clear()
    # A copy, because parsing puts its own objects into what it is given.
    given = {name: copy.deepcopy(value) for name, value in config.items() if value is not None}
    if recipe is not None:
        _read_recipe(parser, base, recipe)
    return plain_config(parser, parser.parse_object(given, namespace=base))


_resolver = cache(experiment_parser)


def make_data(config: Mapping[str, Any]) -> ImageDataModule:
    """The data module of a configuration; within `reading_once` the same one for the same settings."""
    section = config["data"]

    def make() -> ImageDataModule:
        parsed = _namespace(data=_resolver().parse_object({"data": copy.deepcopy(section)}).data)
        data: ImageDataModule = _resolver().instantiate_classes(parsed, instantiate_groups=False).data
        return data

    return once(("data", json.dumps(section, sort_keys=True, default=repr)), make)


def read_classes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the data for its number of classes, and fill that in where the configuration names none.

    Raises:
        InvalidValueError: If it names another one.
    """
    given = config["model"]["num_classes"]
    # A data module may know its classes only after it has read its files.
    classes = getattr(make_data(config), "num_classes", USUAL_CLASSES if given is None else given)
    if given not in (None, classes):
        raise InvalidValueError("model.num_classes", given, f"{classes}, as the data has")
    return merge_config(config, {"model": {"num_classes": classes}})


def apply_own_recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Put the backbone's own recipe into a configuration with ``own_recipe: true``, which then becomes false.

    A configuration that is stored, or handed to another process, is therefore not changed a second time.
    """
    if not config.get("own_recipe"):
        return dict(config)
    return {**merge_config(config, find_backbone(config["model"]["backbone"]).recipe_changes), "own_recipe": False}


def plain_config(parser: LightningArgumentParser, config: Namespace) -> dict[str, Any]:
    """A parsed configuration as plain lists, dictionaries and values, defaults written out.

    Raises:
        ConfigurationError: If it holds an object.
    """
    resolved: dict[str, Any] = yaml.safe_load(parser.dump(config, skip_none=False))
    if found := re.search("Unable to serialize instance ([^'\"]*)", repr(resolved)):
        way_out = "give a plain value, an import path, or class_path and init_args"
        raise ConfigurationError(f"a configuration cannot hold {found[1]}: {way_out}")
    return resolved


def data_defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The default data of a command with a checkpoint: what the checkpoint stores, as far as its class accepts it."""
    name = stored.get("class_path", "")
    # Without a dot, it would be a module, which is imported to find out that it is no class.
    cls = locate(name) if "." in name and not untrusted(name) else None
    if not isinstance(cls, type):
        return {"class_path": class_path(CIFAR10DataModule)}
    known: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
            known |= {*parameters}
            # Only a constructor with ``**options`` passes on what a base class takes.
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    accepted = {name: value for name, value in stored.items() if name in known}
    return {"class_path": class_path(cls), "init_args": accepted}


def class_path(cls: type) -> str:
    """The name of a class in configurations."""
    return f"{cls.__module__}.{cls.__qualname__}"
