"""The command ``cnn-compare``: finds the command that is meant, runs it, and says how it ended.

It imports that command's module and no other: ``--help`` and ``report`` load no torch, ``backbones`` no Lightning.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import platform
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from cnn_compare import __version__
from cnn_compare.commands import COMMANDS, FIT_COMMANDS, examples
from cnn_compare.completion import SHELLS, completion_script
from cnn_compare.errors import UnforeseenError, own_error, with_flags
from cnn_compare.formatting import print_on_any_terminal
from cnn_compare.helptext import asks_for_help
from cnn_compare.parsing import Parser

SLOW_TO_START = {*COMMANDS} - {"report", "backbones"}
# With one of these words `compare` runs nothing on this machine. If it does after all, their process starts then.
NO_RUN_HERE = {"--dry_run", "--print_config", "--executor=ray", "ray"}
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
        print(completion_script(values, COMMANDS, _run))
        parser.exit()


def script() -> None:
    """Run `main` as a process of its own, which ends as soon as its work is done.

    Python would go on for a second, to take apart what torch and Lightning have imported.
    """
    status: object = 1  # Of an error that leaves `main`, after its traceback.

    def end_at_once() -> None:
        logging.shutdown()  # Python's own handler, which was there before.
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # Python says that it cannot be written.
        os._exit(status if isinstance(status, int) else int(status is not None))

    atexit.register(end_at_once)  # First, and so called last: after the handlers of all packages.
    try:
        main()
        status = None
    except SystemExit as end:
        status = end.code
        raise


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status: 0, 1 (it failed), 2 (wrong usage), 130 (interrupted)."""
    print_on_any_terminal()
    # Before numpy is imported. Its matrices are small here, and beside a training its threads wait for each other: a
    # report of 26 networks took 70 s instead of 8 s.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for warning in OTHERS_WARNINGS:
        warnings.filterwarnings("ignore", warning)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    # So that `my_file:my_backbone` is found in the working folder, as with `python -m`; installed packages come first.
    sys.path.append(str(Path.cwd()))
    try:
        # An option that stands before the command may take a value.
        command = parser.parse_known_args(arguments[: 2 if arguments[:1] and arguments[0][0] == "-" else 1])[0].command
        if not asks_for_help(arguments) and command in SLOW_TO_START and "LOCAL_RANK" not in os.environ:
            print(f"cnn-compare {command}: {COMMANDS[command]}; starting", file=sys.stderr, flush=True)
        _run(command, arguments)
    except KeyboardInterrupt:
        hint = "; a comparison goes on from here with the same command" if command == "compare" else ""
        print(f"interrupted{hint}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has ended, as in `cnn-compare backbones | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        known = own_error(error) or _unforeseen(error)
        print(f"{type(known).__name__}: {with_flags(known)}", file=sys.stderr)
        sys.exit(known.exit_status)


def _parser() -> Parser:
    """The parser of the command's name; each command has a parser of its own for its options."""
    parser = Parser(
        "cnn-compare",
        usage="cnn-compare COMMAND [options]",
        description="Compare CNN backbones under controlled conditions.",
        epilog=f"COMMAND --help lists its options.\n\n{examples(*TRY_FIRST)}\n\n{COMPLETION}",
    )
    parser.add_argument("--version", action=Versions, nargs=0, help="of this package, Python, torch and Lightning")
    parser.add_argument(
        "--print_completion", choices=SHELLS, action=PrintCompletion, help="a script, for TAB in this shell"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _run(command: str, arguments: list[str]) -> None:
    """Run a command with its arguments, which begin with its name."""
    if command == "compare" and not (asks_for_help(arguments) or NO_RUN_HERE & {*arguments}):
        # The process that runs are forked from imports as long as the command, and at the same time.
        import_module("cnn_compare.comparison.local").start_server()
    import_module(f"cnn_compare.commands.{'fit' if command in FIT_COMMANDS else command}").run(arguments)


def _unforeseen(error: Exception) -> UnforeseenError:
    """Store an error's traceback in the working folder or, where that cannot be written, in a temporary one."""
    name, content = time.strftime("cnn_compare_error_%Y%m%d_%H%M%S.log"), "".join(traceback.format_exception(error))
    try:
        path = Path(name)
        path.write_text(content, encoding="utf-8")
    except OSError:
        path = Path(tempfile.gettempdir()) / name
        path.write_text(content, encoding="utf-8")
    what = " ".join(str(error).split()) or "without a message"
    return UnforeseenError(f"{type(error).__name__}: {what}. The traceback is in {path}.")
