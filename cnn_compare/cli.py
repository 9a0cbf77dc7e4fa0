"""The command ``cnn-compare``: parsing and wiring only.

Each command imports what it needs and no more: ``--help`` and ``report`` load no torch, ``backbones`` no Lightning.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import textwrap
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any, Literal

from cnn_compare import __version__
from cnn_compare.completion import SHELLS, completion_script
from cnn_compare.errors import (
    CnnCompareError,
    ConfigurationError,
    InvalidValueError,
    PicturesFailedError,
    RunsFailedError,
    UnforeseenError,
    own_error,
)
from cnn_compare.formatting import print_on_any_terminal
from cnn_compare.helptext import TopicHelp, asks_for_help
from cnn_compare.parsing import OneLineErrors

if TYPE_CHECKING:
    from cnn_compare.comparison.executor import Executor

FIT_COMMANDS = {
    "fit": "train a backbone",
    "validate": "evaluate on the validation images",
    "test": "evaluate on the test images",
}
OWN_COMMANDS = {
    "compare": "train several backbones under one recipe, and report",
    "report": "report on stored runs",
    "predict": "classify pictures with a trained network",
    "export": "write a trained network as a file for other programs",
    "explain": "show which parts of the hardest test images the answers came from",
    "data": "look at pictures: what is wrong with them, and what they can show",
    "recipes": "list the recipes and comparisons that are installed",
    "backbones": "list the backbones",
    "profile": "measure what backbones and predictions cost on this machine, without training",
}
COMMANDS = FIT_COMMANDS | OWN_COMMANDS
SLOW_TO_START = {*COMMANDS} - {"report", "backbones"}
EXAMPLES = {
    "fit": """
cnn-compare fit --model.backbone=googlenet
cnn-compare fit --recipe modern --model.backbone=resnet18 --trainer.max_epochs=20
cnn-compare fit --data=FolderDataModule --data.data_dir=photos/ --model.backbone=my_nets:MyNet
""",
    "validate": "cnn-compare validate --ckpt_path=best",
    "test": "cnn-compare test --ckpt_path=best",
    "predict": """
cnn-compare predict lightning_logs/mine photos/
cnn-compare predict best.ckpt 'photos/*.jpg' --top_k 5 --output predictions.csv
""",
    "compare": """
cnn-compare compare --config quickstart
cnn-compare compare --recipe modern --name mine --backbones '[lenet,resnet18]' --seeds '[0,1,2]'
cnn-compare compare --config mine.yaml --data.data_dir=photos/ --trainer.max_epochs=5 --dry_run
""",
    "report": "cnn-compare report lightning_logs/mine --baseline resnet18 --margin 1",
    "explain": "cnn-compare explain lightning_logs/mine",
    "export": "cnn-compare export lightning_logs/mine --format onnx --output classifier.onnx",
    "data": """
cnn-compare data photos/
cnn-compare data photos/labels.csv --data.group=person --backbones '[resnet18]'
""",
    "recipes": "cnn-compare recipes",
    "backbones": "cnn-compare backbones --filter 'resnet*'",
    "profile": "cnn-compare profile --backbones '[googlenet,resnet18]' --image_size 64",
}
TRY_FIRST = ("fit", "compare", "report")
COMPLETION = (
    "TAB completes commands and options after: cnn-compare --print_completion bash > "
    "~/.local/share/bash-completion/completions/cnn-compare"
)


# What Lightning, torch and torchmetrics say of each other, or of a checkpoint in another folder; nothing to act upon.
OTHERS_WARNINGS = (
    r".isinstance\(treespec, LeafSpec\)",
    r".torch\.jit\.trace",
    "This property will be removed in 2.0.0",
    "The dirpath has changed",
)


class Parser(OneLineErrors, argparse.ArgumentParser):
    """argparse's parser; what it refuses is a `ConfigurationError`, and its examples keep their lines."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})


class Versions(argparse.Action):
    """``--version``; from the packages' metadata, so that nothing is imported."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        others = ", ".join(f"{package} {metadata.version(package)}" for package in ("torch", "lightning"))
        print(f"cnn-compare {__version__}\nPython {platform.python_version()}, {others}")
        parser.exit()


class PrintCompletion(argparse.Action):
    """``--print_completion SHELL``."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, *_: object) -> None:
        """Print and exit."""
        print(completion_script(values, COMMANDS, lambda command, arguments: RUN.get(command, _fit)(arguments)))
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status: 0, 1 (it failed), 2 (wrong usage), 130 (interrupted)."""
    print_on_any_terminal()
    for warning in OTHERS_WARNINGS:
        warnings.filterwarnings("ignore", warning)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(
        "cnn-compare",
        usage="cnn-compare COMMAND [options]",
        description="Compare CNN backbones under controlled conditions.",
        epilog=f"COMMAND --help lists its options.\n\n{_examples(*TRY_FIRST)}\n\n{COMPLETION}",
    )
    parser.add_argument("--version", action=Versions, nargs=0, help="of this package, Python, torch and Lightning")
    parser.add_argument(
        "--print_completion", choices=SHELLS, action=PrintCompletion, help="a script, for TAB in this shell"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    # So that `my_file:my_backbone` is found in the working folder, as with `python -m`; installed packages come first.
    sys.path.append(str(Path.cwd()))
    try:
        # An option that stands before the command may take a value.
        command = parser.parse_known_args(arguments[: 2 if arguments[:1] and arguments[0][0] == "-" else 1])[0].command
        if not asks_for_help(arguments) and command in SLOW_TO_START and "LOCAL_RANK" not in os.environ:
            print(f"cnn-compare {command}: {COMMANDS[command]}; starting", file=sys.stderr, flush=True)
        RUN.get(command, _fit)(arguments)
    except KeyboardInterrupt:
        hint = "; a comparison goes on from here with the same command" if command == "compare" else ""
        print(f"interrupted{hint}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has ended, as in `cnn-compare backbones | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        known = own_error(error) or UnforeseenError(error, _store_traceback(error))
        print(f"{type(known).__name__}: {with_flags(known)}", file=sys.stderr)
        sys.exit(known.exit_status)


def _examples(*commands: str) -> str:
    """The first example of each of several commands, or all of one."""
    lines = [EXAMPLES[command].strip().splitlines() for command in commands]
    shown = lines[0] if len(lines) == 1 else [first for first, *_ in lines]
    return "\n".join(["example:" if len(shown) == 1 else "examples:", *(f"  {line}" for line in shown)])


def _about(command: str) -> dict[str, Any]:
    """What a command's parser says of the command."""
    return {"prog": f"cnn-compare {command}", "description": COMMANDS[command], "epilog": _examples(command)}


def _function_parser(command: str) -> Any:
    """A parser of jsonargparse, whose options come from the signatures of functions."""
    from jsonargparse import ArgumentParser

    class FunctionParser(TopicHelp, OneLineErrors, ArgumentParser):
        pass

    return FunctionParser(**_about(command))


def _store_traceback(error: Exception) -> Path:
    """Write an error's traceback to a file in the working folder, or where that cannot be written, a temporary one."""
    name, content = time.strftime("cnn_compare_error_%Y%m%d_%H%M%S.log"), "".join(traceback.format_exception(error))
    try:
        path = Path(name)
        path.write_text(content, encoding="utf-8")
    except OSError:
        path = Path(tempfile.gettempdir()) / name
        path.write_text(content, encoding="utf-8")
    return path


def with_flags(error: CnnCompareError) -> str:
    """An error's message, with each field that it mentions written as a flag."""
    message = str(error)
    for field in error.fields:
        message = re.sub(rf"(?<![\w.'/\[-]){re.escape(field)}(?![\w/]|\.\w)", f"--{field}", message)
    return message


def _fit(arguments: list[str]) -> None:
    """``fit``, ``validate``, ``test``: LightningCLI's own."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from cnn_compare.experiment import ExperimentCLI

    try:
        about = {command: _about(command) for command in FIT_COMMANDS}
        ExperimentCLI(args=arguments, parser_kwargs={"prog": "cnn-compare", **about})
    except SystemExit as end:
        # Lightning ends with status 0 after SIGTERM, and with 1 after an interrupt from the keyboard.
        terminated = isinstance(end, SIGTERMException)
        if not terminated and not isinstance(end.__context__, KeyboardInterrupt):
            raise
        sys.exit(143 if terminated else 130)


def _compare(arguments: list[str]) -> None:
    from cnn_compare.comparison.local import start_server

    if not asks_for_help(arguments):
        start_server()  # Its imports take as long as those below, and run at the same time.
    from cnn_compare.comparison.compare import compare, question_of, run_comparison, trial_runner
    from cnn_compare.comparison.existing import Request, examine
    from cnn_compare.comparison.plan import Comparison, plan_runs, repeated, until_decided
    from cnn_compare.comparison.preview import preview
    from cnn_compare.comparison.search import read_search, trials_of, with_tuned
    from cnn_compare.configs import as_list
    from cnn_compare.experiment import ComparisonFile, RecipeFile, experiment_parser, plain_config, with_num_classes
    from cnn_compare.report.planning import undecided, what_seeds_establish

    given = [argument for argument in arguments if argument.startswith("--model.backbone")]
    if given:
        raise InvalidValueError("model.backbone", given[0], "left out: backbones names what is compared")
    parser = experiment_parser(**_about("compare"))
    parser.add_argument(
        "--config",
        action=ComparisonFile,
        help="A comparison, by name or path: a YAML file of these options; later ones take precedence.",
    )
    parser.add_argument(
        "--recipe", action=RecipeFile, help="A recipe, by name or path; the file and later options refine it."
    )
    parser.add_argument(
        "--published",
        type=dict | None,
        default=None,
        sub_configs=True,
        help="Figures for the report to show beside the results, or a YAML file of them.",
    )
    settings = ("trainer", "model", "data", "target_acc", "monitor", "patience", "own_recipe", "threads")
    parser.add_function_arguments(compare, skip={*settings, "recipe", "published", "executor"})
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="Only show the runs: which are finished, which remain, about how long, and what they can establish.",
    )
    parser.add_argument(
        "--seeds_until_decided",
        type=int | None,
        default=None,
        metavar="N",
        help="Add seeds, up to N, until every difference is established, or by --margin excluded. There are up to "
        "three looks at the results, and each gets its part of the 5 %% of comparisons that may be wrong.",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="Show on the report's page where each network found its answer to the hardest test images (Grad-CAM; pip "
        "install 'cnn-compare[explain]').",
    )
    executor_options = parser.add_function_arguments(make_executor)
    parsed = parser.parse_args(arguments[1:])
    options = plain_config(parser, parsed)
    # Without a recipe, the first file that the settings come from gives the name.
    files = [str(path) for path in (parsed.recipe, *(parsed.config or [])) if path is not None]
    comparison = Comparison(
        name=options["name"],
        backbones=as_list(options["backbones"]),
        seeds=repeated(as_list(options["seeds"]), options["folds"], options["repeats"]),
        folds=options["folds"],
        train_subsets=options["train_subsets"],
        config=with_num_classes({name: options[name] for name in settings}),
        recipe=Path(files[0]).stem if files else None,
        variants=options["variants"] or {},
        published=options["published"],
        question=question_of(options["baseline"], options["margin"]),
        log_dir=options["log_dir"],
    )
    stages = until_decided(comparison, options["seeds_until_decided"])
    specs = plan_runs(stages[0])
    names = {name: as_list(options[name]) for name in ("rerun", "drop")}
    request = Request(options["on_existing"], **names)
    where = {name: options[name] for name in executor_options}
    make_executor(**where)  # Refuses wrong options before anything else happens.
    search = options["search"] and read_search(options["search"], options["trials"], options["search_budget_s"])
    if search:
        if len(stages) > 1:
            raise InvalidValueError("search", "given", "left out with seeds_until_decided")
        trials = trials_of(comparison, search)
        if options["dry_run"]:
            comparison, specs = trials, plan_runs(trials)
        else:
            run_trials = trial_runner(lambda: make_executor(**where), request, options["retries"])
            stages = [with_tuned(comparison, search, run_trials)]
    if options["explain"]:
        from cnn_compare.inference.grad_cam import require_captum

        require_captum("explain")
    if options["dry_run"]:
        rows = preview(specs, examine(comparison, specs, request))
        _print_table(rows, len(rows[0]) - 1, title=f"{comparison.folder}, nothing is run")
        networks = len({spec.network for spec in specs})
        if comparison.folds is None and not search:
            print(what_seeds_establish(comparison.folder, networks, len(comparison.seeds)))
        return
    for stage in stages:
        specs = plan_runs(stage)
        outcome = run_comparison(stage, specs, make_executor(**where), request, options["retries"], options["times"])
        failed = [spec.name for spec, result in zip(specs, outcome.results, strict=True) if result.status != "finished"]
        if len(stages) > 1:
            open_pairs = undecided(outcome.folder)
            print(f"after {len(stage.seeds)} seeds, {open_pairs} differences are undecided", file=sys.stderr)
            if failed or not open_pairs:
                break
            request = Request()  # Runs are deleted and begun anew only once.
    changed = outcome.changed or options["explain"]
    if changed:
        from cnn_compare.inference.collect import collect_pictures

        try:
            collect_pictures(outcome.folder, explain=options["explain"])
        # The runs are done: whatever is wrong with the pictures, the report is written.
        except Exception as error:
            print(f"the report is without new pictures: {error}", file=sys.stderr)
    # The reasons of failures were printed as the runs ended.
    _print_report(outcome.folder, write=changed, failures=not outcome.changed)
    if failed:
        raise RunsFailedError(failed, outcome.folder)


def make_executor(
    executor: Literal["local", "ray"] = "local",
    jobs: int | Literal["auto"] = "auto",
    run_timeout_s: float | None = None,
    ray_address: str | None = None,
    resources_per_run: dict[str, float] | None = None,
) -> Executor:
    """The executor that the options describe.

    Args:
        executor: Where the runs take place: on this machine, or on a Ray cluster (``pip install 'cnn-compare[ray]'``).
        jobs: How many runs at a time on this machine; ``auto``: one a GPU, or without GPUs as many as make the
            comparison end first. Each gets GPUs of its own while there are enough, and an equal share of the cores.
        run_timeout_s: A run that is not done after so many seconds is stopped and has failed.
        ray_address: Of the cluster, ``auto`` for the one that this machine belongs to; None starts one here.
        resources_per_run: What Ray is to set aside for each run, such as ``{GPU: 1, CPU: 4}``; None: a GPU if the
            cluster has any, and a processor core.

    Raises:
        InvalidValueError: If a value is out of range, or an option belongs to the other executor.
    """
    if run_timeout_s is not None and not run_timeout_s > 0:
        raise InvalidValueError("run_timeout_s", run_timeout_s, "more than 0")
    if executor == "ray":
        if jobs != "auto":
            raise InvalidValueError("jobs", jobs, "left out with executor=ray: the cluster runs as many as fit")
        from cnn_compare.comparison.cluster import RayExecutor

        return RayExecutor(ray_address, resources_per_run, run_timeout_s)
    for field, value in (("ray_address", ray_address), ("resources_per_run", resources_per_run)):
        if value is not None:
            raise InvalidValueError(field, value, "left out unless executor=ray")
    from cnn_compare.comparison.local import LocalExecutor

    return LocalExecutor(jobs, run_timeout_s)


def _report(arguments: list[str]) -> None:
    parser = Parser(**_about("report"))
    parser.add_argument("runs_dir", type=Path, help="a comparison's folder, or any folder that holds runs")
    parser.add_argument("--baseline", metavar="NETWORK", help="compare each other network with this one")
    parser.add_argument("--margin", type=float, metavar="POINTS", help="networks closer than this count as the same")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="the best network with at most so much, such as params=10e6 (or at least, where more is better)",
    )
    parser.add_argument(
        "--measure_times",
        action="store_true",
        help="first let the comparison's networks take turns alone on this machine, up to 30 s each, to measure the "
        "seconds of an epoch",
    )
    options = parser.parse_args(arguments[1:])
    limits = {}
    for limit in options.limit:
        metric, _, value = limit.partition("=")
        try:
            limits[metric] = float(value)
        except ValueError:
            raise InvalidValueError("limit", limit, "METRIC=NUMBER, such as params=10e6") from None
    if options.measure_times:
        from cnn_compare.comparison.turns import measure_times

        measure_times(options.runs_dir)
    _print_report(options.runs_dir, baseline=options.baseline, margin=options.margin, limits=limits)


def _explain(arguments: list[str]) -> None:
    parser = Parser(**_about("explain"))
    parser.add_argument("runs_dir", type=Path, help="a comparison's folder; its data and checkpoints must be there")
    parser.add_argument(
        "--images",
        default="hardest",
        metavar="ROWS",
        help="places in the test set such as 3,17, counted from 0, instead of the hardest images",
    )
    options = parser.parse_args(arguments[1:])
    from cnn_compare.inference.collect import collect_pictures

    try:
        words = [] if options.images == "hardest" else options.images.strip("[]").split(",")
        images = [int(word) for word in words]
    except ValueError:
        raise InvalidValueError("images", options.images, "hardest, or places in the test set such as 3,17") from None
    found = collect_pictures(options.runs_dir, images, explain=True)
    for note in found.notes:
        print(f"- {note}", file=sys.stderr)
    _print_report(options.runs_dir)


def _print_report(folder: Path, write: bool = True, failures: bool = True, **question: Any) -> None:
    """Show the report's table and verdict.

    Args:
        folder: A comparison's folder.
        write: Whether to write the report as well, or to leave its files unchanged.
        failures: Whether to show why runs failed, each reason once.
        question: As for `write_report`.
    """
    from rich.console import Console

    from cnn_compare.report import write_report
    from cnn_compare.report.analysis import analyze
    from cnn_compare.report.load import find_runs
    from cnn_compare.report.tables import terminal_table

    write = write or not (folder / "report.md").exists()
    summary = write_report(folder, **question) if write else analyze(find_runs(folder), **question)
    console = Console(highlight=False, markup=False)
    if summary.unfinished:
        console.print(summary.unfinished)
    if summary.networks:
        console.print(terminal_table(summary, console.width, console.options.ascii_only))
    for sentence in [*summary.warnings, *summary.declared_changes, *summary.verdict]:
        console.print(f"- {sentence}")
    runs_by_reason: dict[str, list[str]] = {}
    for entry in summary.without_result:
        if failures or entry["status"] not in ("failed", "diverged"):
            runs_by_reason.setdefault(entry["reason"], []).append(entry["run"])
    for reason, runs in runs_by_reason.items():
        console.print(f"- {', '.join(runs)}: {reason}")
    if write:
        console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    else:
        console.print(f"the report's files are as they were; `cnn-compare report {folder}` writes them", soft_wrap=True)


def _predict(arguments: list[str]) -> None:
    if of_lightning := [word for word in arguments if re.match("--(ckpt_path|config|data|model|trainer)", word)]:
        raise ConfigurationError(
            f"predict takes no {of_lightning[0].partition('=')[0]}: checkpoint and pictures are given as in "
            "`cnn-compare predict best.ckpt photos/`, and `cnn-compare test` evaluates on a data set's test images"
        )
    from cnn_compare.inference.classifier import Classifier
    from cnn_compare.inference.predict import as_csv, classify_files, require_output, write_table
    from cnn_compare.machine import tune_process

    parser = _function_parser("predict")
    parser.add_argument("checkpoint", help="a checkpoint, a run's folder, or a comparison's: its best network")
    parser.add_argument("pictures", nargs="+", help="files, folders, or patterns such as 'photos/*.jpg'")
    parser.add_argument("--output", type=Path | None, default=None, help="A new file, .csv or .json, for the table.")
    parser.add_argument("--top_k", type=int, default=3, help="How many of the most probable classes are named.")
    parser.add_argument("--batch_size", type=int, default=64, help="Pictures that the network gets at a time.")
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="Average the probabilities of all seeds of a comparison's best network; it takes as many times as long.",
    )
    parser.add_method_arguments(Classifier, "load", skip={"path", "ensemble", "backbone"})
    options = vars(parser.parse_args(arguments[1:]))
    path, pictures, output, top_k, batch_size = (
        options.pop(name) for name in ("checkpoint", "pictures", "output", "top_k", "batch_size")
    )
    if output is not None:
        require_output(output)
    tune_process()
    classifier = Classifier.load(path, **options)
    print(classifier.description, file=sys.stderr, flush=True)
    table, reasons = classify_files(classifier, pictures, top_k, batch_size)
    if output is not None:
        write_table(table, output)
        print(f"stored: {output}")
    elif sys.stdout.isatty():
        _print_table([_answer(row) for _, row in table.iterrows()], 4)
    else:
        print(as_csv(table), end="", flush=True)
    for path, reason in reasons.items():
        print(f"{path}: {reason}", file=sys.stderr)
    if reasons:
        raise PicturesFailedError(reasons, len(table))


def _answer(row: Any) -> dict[str, str]:
    """A picture's row of the table as a terminal shows it."""
    later = [f"_{rank}" for rank in range(2, len(row) // 2 + 1)]
    runners_up = [f"{row[f'label{rank}']} {100 * row[f'probability{rank}']:.1f} %" for rank in later]
    answer = {"picture": row["path"], "class": row["label"], "probability": f"{100 * row['probability']:5.1f} %"}
    return answer | ({"next": ", ".join(runners_up)} if runners_up else {})


def _export(arguments: list[str]) -> None:
    from cnn_compare.inference.classifier import Classifier
    from cnn_compare.inference.export import export, require_exportable

    parser = _function_parser("export")
    parser.add_argument("checkpoint", help="a checkpoint, a run's folder, or a comparison's: its best network")
    wanted = parser.add_function_arguments(export, skip={"classifier"})
    parser.add_method_arguments(Classifier, "load", skip={"path", "ensemble", "backbone"})
    options = vars(parser.parse_args(arguments[1:]))
    path, asked = options.pop("checkpoint"), {name: options.pop(name) for name in wanted}
    require_exportable(**asked)
    classifier = Classifier.load(path, **options)
    print(classifier.description, file=sys.stderr, flush=True)
    exported = export(classifier, **asked)
    print(f"exported: {exported.path}, {exported.path.stat().st_size / 2**20:,.1f} MiB")
    print(f"beside it: {', '.join(beside.name for beside in exported.beside)}")
    print(
        f"compared with torch on {exported.checked_on}: probabilities differ by at most "
        f"{100 * exported.difference:.2g} % of their value"
    )


def _data(arguments: list[str]) -> None:
    from cnn_compare.configs import as_list, merge_config
    from cnn_compare.data import FolderDataModule
    from cnn_compare.data.cache import clear_cache
    from cnn_compare.data_report import report_on_data
    from cnn_compare.experiment import RecipeFile, class_path, experiment_parser, plain_config

    parser = experiment_parser(**_about("data"))
    parser.set_defaults({"data": {"class_path": class_path(FolderDataModule)}})
    parser.add_argument("path", nargs="?", help="a folder of pictures or a CSV file of labels; or --data names others")
    parser.add_argument("--recipe", action=RecipeFile, help="A recipe, for image size and epochs.")
    parser.add_argument(
        "--backbones", type=list[str] | str, default=[], help="Whose costs are measured, such as '[resnet18]'."
    )
    parser.add_argument("--output", type=str | None, default=None, help="Folder for the report; data_report/NAME.")
    parser.add_argument("--clear_cache", action="store_true", help="Only delete what is stored of decoded pictures.")
    parsed = parser.parse_args(arguments[1:])
    options = plain_config(parser, parsed)
    settings, path = options["data"]["init_args"], options["path"]
    cls = locate(options["data"]["class_path"])
    pictures = isinstance(cls, type) and issubclass(cls, FolderDataModule)
    if path is not None:
        given = {"data": "" if pictures else options["data"]["class_path"]}
        given |= {f"data.{option}": settings.get(option) for option in ("data_dir", "labels")}
        if field := next((field for field, value in given.items() if value), None):
            raise InvalidValueError(field, given[field], "left out where a path is given")
        setting = "labels" if Path(path).is_file() or path.endswith(".csv") else "data_dir"
        options = merge_config(options, {"data": {"init_args": {setting: path}}})
        settings = options["data"]["init_args"]
    root = None
    if pictures and (place := settings["labels"] or settings["data_dir"]):
        root = Path(place).expanduser().absolute()
        root = root.parent if settings["labels"] else root
    if options["clear_cache"]:
        if root is None:
            raise InvalidValueError("clear_cache", True, "given with a folder of pictures, or a CSV file of labels")
        print(f"{clear_cache(root) / 2**20:,.1f} MiB freed")
        return
    name = root.name if root else str(settings.get("name") or options["data"]["class_path"].rpartition(".")[2])
    output = Path(options["output"] or Path("data_report") / name)
    for section in report_on_data(options, as_list(options["backbones"]), output, name):
        print(f"\n{section.heading}")
        for sentence in section.sentences:
            print(textwrap.fill(sentence, 79, initial_indent="- ", subsequent_indent="  "))
        if section.rows:
            _print_table(section.rows, 1)
    print(f"report: {output / 'data.html'}")


def _recipes(arguments: list[str]) -> None:
    from cnn_compare.configs import SHIPPED, shipped

    parser = Parser(**_about("recipes"))
    parser.add_argument("folder", type=Path, nargs="?", help="list a folder's YAML files, and not the package's")
    folder = parser.parse_args(arguments[1:]).folder
    if folder is not None:
        if not (paths := sorted(folder.glob("*.yaml"))):
            raise InvalidValueError("the folder of recipes", str(folder), "a folder of YAML files")
        _print_comments({str(path): path for path in paths})
        return
    print("recipes, --recipe NAME of fit, compare and data:")
    _print_comments(shipped("recipes"))
    print("\ncomparisons, --config NAME of compare:")
    _print_comments(shipped("comparisons"))
    print(f"\nfiles: {SHIPPED.resolve()}")


def _print_comments(files: Mapping[str, Path]) -> None:
    """Print names, and under each the comment that its file begins with."""
    for name, path in files.items():
        comments = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        print(name, *(f"    {line.removeprefix('#').strip()}" for line in comments), sep="\n")


def _backbones(arguments: list[str]) -> None:
    from cnn_compare.backbones import describe_backbones
    from cnn_compare.formatting import MISSING, format_count

    parser = Parser(**_about("backbones"))
    parser.add_argument("--filter", default="*", metavar="PATTERN", help="such as 'resnet*'")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments[1:])
    backbones: Sequence[Mapping[str, Any]] = describe_backbones(options.filter)
    if not backbones:
        raise InvalidValueError("filter", options.filter, "a pattern that at least one backbone's name matches")
    if options.format == "json":
        print(json.dumps(backbones, indent=2))
        return
    rows = [
        {
            "backbone": backbone["backbone"],
            "year": backbone["year"] or MISSING,
            "key idea": backbone["key_idea"],
            "from px": backbone["min_image_size"],
            "parameters": format_count(backbone["params"]),
            "MACs": format_count(backbone["macs"]),
            "at px": backbone["image_size"],
        }
        for backbone in backbones
    ]
    _print_table(rows, 3, caption="parameters at 10 classes, MACs of one image at the paper's size")


def _profile(arguments: list[str]) -> None:
    from cnn_compare.formatting import format_count
    from cnn_compare.profiling import bf16_in_words, profile

    parser = _function_parser("profile")
    parser.add_argument("files", nargs="*", help="checkpoints, comparisons and ONNX files; or --backbones")
    parser.add_argument("--backbones", type=list[str] | str, default=[], help="Names of untrained backbones, or one.")
    parser.add_argument(
        "--picture", type=str | None, default=None, help="Decoded for each prediction; null: one that is made up."
    )
    parser.add_function_arguments(profile, skip={"backbones"})
    options = parser.parse_args(arguments[1:])
    files, picture = options.pop("files"), options.pop("picture")
    if files:
        for name in ("backbones", "image_size", "stem"):
            if options[name] != parser.get_default(name):
                raise InvalidValueError(name, options[name], "left out where files are given")
        _profile_predictions(files, picture, options.output)
        return
    if not options.backbones:
        raise InvalidValueError("backbones", options.backbones, "at least one name where no files are given")
    if picture is not None:
        raise InvalidValueError("picture", picture, "given with files of trained networks")
    profiles = profile(**options)
    rows = [
        {
            "backbone": measured.backbone,
            "params": format_count(measured.params),
            "MACs": format_count(measured.macs),
            "weights": f"{measured.weight_bytes / 2**20:,.1f} MiB",
            "train img/s": f"{measured.train_images_per_s:,.0f}",
            "p50 / p90 ms": f"{measured.latency_p50_ms:.3g} / {measured.latency_p90_ms:.3g}",
            "infer img/s": f"{measured.inference_images_per_s:,.0f}",
            "memory": f"{measured.peak_memory_bytes / 2**20:,.1f} MiB",
        }
        for measured in profiles
    ]
    first = profiles[0]
    _print_table(rows, 1, title=f"{first.device}, {first.image_size} px, {first.stem} stem")
    training = {each.backbone: each.train_bf16_images_per_s / each.train_images_per_s for each in profiles}
    inference = {each.backbone: each.inference_bf16_images_per_s / each.inference_images_per_s for each in profiles}
    print(textwrap.fill(bf16_in_words({"training": training, "inference": inference}), 79))
    print(f"stored: {options.output}")


def _profile_predictions(files: Sequence[str], picture: str | None, output: str) -> None:
    from cnn_compare.formatting import shorten
    from cnn_compare.inference.cost import BATCHES, profile_predictions
    from cnn_compare.profiling import bf16_in_words

    costs = profile_predictions(files, picture, output)
    figures = {
        "runtime": [cost.runtime for cost in costs],
        "ms a picture, p50": [f"{cost.p50_ms:.3g}" for cost in costs],
        "ms a picture, p95": [f"{cost.p95_ms:.3g}" for cost in costs],
        "of it decoding, p50": [f"{cost.decode_p50_ms:.3g}" for cost in costs],
        **{f"images/s in batches of {n}": [f"{cost.images_per_s[str(n)]:,.0f}" for cost in costs] for n in BATCHES},
        f"images/s in batches of {max(BATCHES)}, bf16": [
            "–" if cost.bf16_images_per_s is None else f"{cost.bf16_images_per_s:,.0f}" for cost in costs
        ],
        "MiB on disk": [f"{cost.file_bytes / 2**20:,.1f}" for cost in costs],
        "MiB of memory": [f"{cost.peak_memory_bytes / 2**20:,.1f}" for cost in costs],
    }
    names = [shorten(cost.file, 24) for cost in costs]
    rows = [{"": figure, **dict(zip(names, values, strict=True))} for figure, values in figures.items()]
    _print_table(rows, 1, title=f"{costs[0].device}; pictures of {costs[0].side} px once decoded")
    largest = str(max(BATCHES))
    measured = [(cost.file, cost.bf16_images_per_s, cost.images_per_s[largest]) for cost in costs]
    ratios = {file: bf16 / float32 for file, bf16, float32 in measured if bf16 is not None}
    if ratios:
        print(textwrap.fill(bf16_in_words({"inference": ratios}), 79))
    print(f"stored: {output}")


def _print_table(
    rows: Sequence[Mapping[str, object]], text_columns: int, title: str | None = None, caption: str | None = None
) -> None:
    """Print rows, headings by their keys; the first columns hold text, the others numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for index, heading in enumerate(rows[0]):
        is_text = index < text_columns or not heading  # Without a heading stand bars.
        # A narrow terminal shortens every column before the first, the name.
        least = max(len(str(row[heading])) for row in rows) if index == 0 else None
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=index == 0, min_width=least)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(highlight=False, markup=False, emoji=False).print(table)


RUN = {
    "compare": _compare,
    "report": _report,
    "predict": _predict,
    "export": _export,
    "explain": _explain,
    "data": _data,
    "recipes": _recipes,
    "backbones": _backbones,
    "profile": _profile,
}
"""What carries out a command; Lightning's are carried out by `_fit`."""
