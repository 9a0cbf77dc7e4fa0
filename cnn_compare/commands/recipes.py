"""``recipes``: lists recipes and comparisons, or shows one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from textwrap import shorten

from cnn_compare.commands import about
from cnn_compare.configs import find_file, shipped
from cnn_compare.errors import InvalidValueError
from cnn_compare.parsing import Parser


def run(arguments: list[str]) -> None:
    """Print a line a file, or what one file says of itself and its settings."""
    parser = Parser(**about("recipes"))
    help = "show this one with its settings; a folder: list its YAML files, and not the package's"
    parser.add_argument("name", nargs="?", help=help)
    name = parser.parse_args(arguments[1:]).name
    if name is None:
        print("recipes, --recipe NAME of fit, compare and data:")
        _print_list(shipped("recipes"))
        print("\ncomparisons, --config NAME of compare:")
        _print_list(shipped("comparisons"))
        print("\n`cnn-compare recipes NAME` shows one: its command, results and settings.")
    elif Path(name).is_dir():
        if not (paths := sorted(Path(name).glob("*.yaml"))):
            raise InvalidValueError("the folder of recipes", name, "a folder of YAML files")
        _print_list({str(path): path for path in paths})
    else:
        path = find_file("name", name, "recipes", "comparisons")
        print(f"# {path.resolve()}\n{path.read_text(encoding='utf-8').rstrip()}")


def _print_list(files: Mapping[str, Path]) -> None:
    """Print names, each with the first sentence of its description."""
    longest, columns = max(map(len, files)), shutil.get_terminal_size().columns
    for name, path in files.items():
        text = f"{name:{longest}}  "
        first, *_ = re.split(r"(?<=[.?]) ", description(path))
        print(text + shorten(first, max(columns - len(text), 20), placeholder=" …"))


def description(path: Path) -> str:
    """A file's comment about itself: from its first line with a capital letter, after its command and results."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    comments = [line.removeprefix("#").strip() for line in lines]
    first = next((number for number, line in enumerate(comments) if line[:1].isupper()), len(comments))
    return " ".join(comments[first:])
