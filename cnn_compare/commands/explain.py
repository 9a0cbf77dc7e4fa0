"""``explain``: shows which parts of images the answers came from."""

from __future__ import annotations

import sys
from pathlib import Path

from cnn_compare.commands import about, add_trust
from cnn_compare.errors import InvalidValueError
from cnn_compare.parsing import Parser
from cnn_compare.trusted import trust


def run(arguments: list[str]) -> None:
    """Add heat maps to a comparison's report, and print it."""
    parser = Parser(**about("explain"))
    parser.add_argument("runs_dir", type=Path, help="a comparison's folder; its data and checkpoints must be there")
    parser.add_argument(
        "--images",
        default="hardest",
        metavar="ROWS",
        help="places in the test set such as 3,17, counted from 0, instead of the hardest images",
    )
    add_trust(parser)
    options = parser.parse_args(arguments[1:])
    trust(*options.trust)
    try:
        words = [] if options.images == "hardest" else options.images.strip("[]").split(",")
        images = [int(word) for word in words]
    except ValueError:
        raise InvalidValueError("images", options.images, "hardest, or places in the test set such as 3,17") from None
    from cnn_compare.inference.collect import collect_pictures
    from cnn_compare.report.terminal import print_report

    found = collect_pictures(options.runs_dir, images, explain=True)
    for note in found.notes:
        print(f"- {note}", file=sys.stderr)
    print_report(options.runs_dir)
