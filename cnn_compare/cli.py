"""The command ``cnn-compare``: parsing and wiring only.

Each command imports what it needs and no more: ``--help`` and ``report`` load no torch, ``backbones`` no Lightning.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn_compare.errors import InvalidValueError, RunsFailedError, own_error

FIT_COMMANDS = {
    "fit": "train a backbone",
    "validate": "evaluate on the validation images",
    "test": "evaluate on the test images",
    "predict": "predict the test images' classes",
}
OWN_COMMANDS = {
    "compare": "train several backbones under one recipe, and report",
    "report": "report on stored runs",
    "backbones": "list the backbones",
    "profile": "measure what backbones cost on this machine, without training them",
}
EXAMPLES = """
examples:
  cnn-compare fit --model.backbone=googlenet
  cnn-compare fit --config configs/recipes/modern.yaml --model.backbone=resnet18
  cnn-compare compare --config configs/comparisons/quickstart.yaml
  tensorboard --logdir lightning_logs
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status: 0, 1 (it failed), 2 (it was not understood), 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        "cnn-compare",
        usage="cnn-compare COMMAND [options]",
        description="Compare CNN backbones under controlled conditions.",
        epilog="COMMAND --help tells its options.\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, text in {**FIT_COMMANDS, **OWN_COMMANDS}.items():
        commands.add_parser(name, help=text, add_help=False)
    command = parser.parse_known_args(arguments[:1])[0].command
    # A network in a file of the working folder can be named, as with `python -m`; installed packages come first.
    sys.path.append(str(Path.cwd()))
    try:
        {"compare": _compare, "report": _report, "backbones": _backbones, "profile": _profile}.get(command, _fit)(
            arguments
        )
    except KeyboardInterrupt:
        print("interrupted; a comparison goes on from here with the same command", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as in `cnn-compare backbones | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        known = own_error(error)
        if known is None:
            raise
        print(f"{type(known).__name__}: {known}", file=sys.stderr)
        sys.exit(known.exit_status)


def _version() -> str:
    from cnn_compare import __version__

    return __version__


def _fit(arguments: list[str]) -> None:
    """``fit``, ``validate``, ``test``, ``predict``: LightningCLI's own."""
    from cnn_compare.experiment import ExperimentCLI

    ExperimentCLI(args=arguments)


def _compare(arguments: list[str]) -> None:
    from cnn_compare.comparison.local import start_server

    if not {"-h", "--help"} & set(arguments):
        start_server()  # Before the imports below, which take as long as its own.
    from cnn_compare.comparison import compare
    from cnn_compare.experiment import experiment_parser, plain_config
    from cnn_compare.report import load_results

    parser = experiment_parser(prog="cnn-compare compare", description=OWN_COMMANDS["compare"])
    parser.add_argument("--config", action="config", help="A YAML file of these options; later ones take precedence.")
    parser.add_argument("--recipe", type=str, help="A recipe, read before the file or the options that refine it.")
    parser.add_function_arguments(compare, skip={"recipe", "trainer", "model", "data", "target_acc", "own_recipe"})
    options = plain_config(parser, parser.parse_args(_with_recipes(arguments[1:])))
    options.pop("config", None)
    recipe = options.pop("recipe")
    folder = compare(**options, recipe=recipe and Path(recipe).stem)
    _print_report(folder)
    results = load_results(folder)
    failed = results[results.status != "finished"]
    if len(failed):
        raise RunsFailedError([f"{run.network} seed {run.seed}" for run in failed.itertuples()], folder)


def _with_recipes(arguments: list[str]) -> list[str]:
    """Put each recipe in front of what names it, an option or a comparison's file, so that the latter can refine it."""
    result: list[str] = []
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        value = value if equals else next(iter(arguments[index + 1 :]), "")
        recipe = {"--config": _named_recipe, "--recipe": Path}.get(option, lambda _: None)(value)
        if recipe is not None:
            if not recipe.is_file():
                raise InvalidValueError(f"the recipe that {option}={value} names", str(recipe), "a file")
            result.append(f"--config={recipe}")
        result.append(argument)
    return result


def _named_recipe(config: str) -> Path | None:
    """The recipe that a comparison's file names, from the folder of that file."""
    import yaml

    try:
        content = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None  # The parser says what is wrong with it.
    name = content.get("recipe") if isinstance(content, dict) else None
    return Path(config).parent / name if isinstance(name, str) else None


def _report(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("cnn-compare report", description=OWN_COMMANDS["report"])
    parser.add_argument("runs_dir", type=Path, help="a comparison's folder, or any folder that holds runs")
    _print_report(parser.parse_args(arguments[1:]).runs_dir)


def _print_report(folder: Path) -> None:
    """Write the report, and show its table and verdict."""
    from rich.console import Console

    from cnn_compare.report import write_report
    from cnn_compare.report.tables import terminal_table

    summary = write_report(folder)
    console = Console(highlight=False, markup=False)
    if summary.networks:
        console.print(terminal_table(summary))
    for sentence in [*summary.warnings, *summary.declared, *summary.verdict]:
        console.print(f"- {sentence}")
    for each in summary.without_result:
        console.print(f"- {each['run']}: {each['reason']}")
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)


def _backbones(arguments: list[str]) -> None:
    from cnn_compare.backbones import describe_backbones

    parser = argparse.ArgumentParser("cnn-compare backbones", description=OWN_COMMANDS["backbones"])
    parser.add_argument("--filter", default="*", metavar="PATTERN", help="such as 'resnet*'")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments[1:])
    rows = describe_backbones(options.filter)
    if not rows:
        raise InvalidValueError("--filter", options.filter, "a pattern that at least one backbone's name matches")
    print(json.dumps(rows, indent=2)) if options.format == "json" else _print_backbones(rows)


def _print_backbones(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from cnn_compare.formatting import format_count

    table = Table(caption="parameters at 10 classes, MACs of one image at the paper's size", caption_justify="left")
    for heading in ("backbone", "year", "key idea"):
        table.add_column(heading)
    for heading in ("from px", "parameters", "MACs", "at px"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        counts = format_count(row["params"]), format_count(row["macs"])
        texts = str(row["year"]), row["key_idea"], str(row["min_image_size"])
        table.add_row(row["backbone"], *texts, *counts, str(row["image_size"]))
    Console().print(table)


def _profile(arguments: list[str]) -> None:
    from jsonargparse import ArgumentParser
    from rich.console import Console
    from rich.table import Table

    from cnn_compare.formatting import format_count
    from cnn_compare.profiling import profile

    parser = ArgumentParser("cnn-compare profile", description=OWN_COMMANDS["profile"])
    parser.add_function_arguments(profile)
    options = parser.parse_args(arguments[1:])
    profiles = profile(**options)
    first = profiles[0]
    table = Table(title=f"{first.device}, {first.image_size} px, {first.stem} stem", title_justify="left")
    table.add_column("backbone", no_wrap=True)
    for heading in ("params", "MACs", "weights", "train img/s", "p50 / p90 ms", "infer img/s", "memory"):
        table.add_column(heading, justify="right")
    for each in profiles:
        latency = f"{each.latency_p50_ms:.3g} / {each.latency_p90_ms:.3g}"
        speeds = f"{each.train_images_per_s:,.0f}", latency, f"{each.inference_images_per_s:,.0f}"
        sizes = [f"{size / 2**20:,.1f} MiB" for size in (each.weight_bytes, each.peak_memory_bytes)]
        table.add_row(each.backbone, format_count(each.params), format_count(each.macs), sizes[0], *speeds, sizes[1])
    Console().print(table)
    print(f"stored: {options.output}")
