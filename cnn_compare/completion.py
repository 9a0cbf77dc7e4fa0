"""Completion of commands and options in a shell, as a script that shtab writes: no TAB waits for torch.

argcomplete would make the parser anew at each TAB, and so import torch and Lightning, which takes seconds.
jsonargparse's own script would list the arguments of every subclass of torch's and Lightning's classes, which takes
minutes to find.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from cnn_compare.configs import shipped
from cnn_compare.helptext import ASK, ParserAsked, choices_of, names_of, options_of, text_of
from cnn_compare.private import actions_of

SHELLS = ("bash", "zsh", "tcsh")
FILE = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
NAMED = {"--recipe": ("recipes",), "--config": ("comparisons", "recipes")}
"""Options that take the name of a file of the package, or a path."""


def completion_script(shell: str, commands: Mapping[str, str], run: Callable[[str, list[str]], Any]) -> str:
    """A script that completes ``cnn-compare``.

    Args:
        shell: One of `SHELLS`.
        commands: What each command does, by its name.
        run: Runs a command with its arguments, which begin with its name.
    """
    import shtab

    whole = argparse.ArgumentParser("cnn-compare")
    parsers = whole.add_subparsers()
    for name, text in commands.items():
        command = parsers.add_parser(name, help=text, add_help=False)
        try:
            run(name, [name, ASK])
        except ParserAsked as asked:
            for action in options_of(asked.parser):
                _add(command, action)
    return str(shtab.complete(whole, shell, preamble=_functions() if shell == "bash" else ""))


def _add(command: argparse.ArgumentParser, action: argparse.Action) -> None:
    """Add an option with what completion has to know of it."""
    names = names_of(action) or [action.dest]
    known = {name for other in actions_of(command) for name in other.option_strings}
    if known & {*names}:
        return  # Several data modules have it.
    takes_value: dict[str, Any] = {"nargs": action.nargs} if action.nargs != 0 else {"action": "store_true"}
    added = command.add_argument(*names, help=text_of(action).replace("%", "%%"), **takes_value)
    if choices := choices_of(action):
        added.choices = choices
    elif names[-1] in NAMED:
        added.complete = {**FILE, "bash": _function_name(names[-1])}  # type: ignore[attr-defined]
    elif action.nargs != 0:
        added.complete = FILE  # type: ignore[attr-defined]


def _function_name(option: str) -> str:
    return f"_cnn_compare_{option.lstrip('-')}"


def _functions() -> str:
    """Functions for bash that complete the names that an option takes, and files."""
    lines = []
    for option, kinds in NAMED.items():
        names = " ".join(dict.fromkeys(name for kind in kinds for name in shipped(kind)))
        lines.append(f'{_function_name(option)}() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}')
    return "\n".join(lines)
