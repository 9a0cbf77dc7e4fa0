"""``backbones``: lists the backbones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cnn_compare.backbones import describe_backbones
from cnn_compare.commands import about
from cnn_compare.errors import InvalidValueError
from cnn_compare.formatting import MISSING, format_count, print_table
from cnn_compare.parsing import Parser


def run(arguments: list[str]) -> None:
    """Print those that match, as a table or as JSON."""
    parser = Parser(**about("backbones"))
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
    print_table(rows, 3, caption="parameters at 10 classes, MACs of one image at the paper's size")
