"""``recipes``: lists recipes and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from cnn_compare.commands import about
from cnn_compare.configs import SHIPPED, shipped
from cnn_compare.errors import InvalidValueError
from cnn_compare.parsing import Parser


def run(arguments: list[str]) -> None:
    """Print the names, and what the files say of themselves."""
    parser = Parser(**about("recipes"))
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
