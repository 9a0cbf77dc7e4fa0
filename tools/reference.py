"""Keep the reference comparisons of `lightning_logs/` small, and the tables that are drawn from them up to date.

python tools/reference.py slim lightning_logs/NAME   # after a comparison: keep what reports read
python tools/reference.py tables                     # between the marks of every page below; `make tables`
python tools/reference.py tables --check             # say which page is stale instead, and end with status 1

A mark is `<!-- table NAME COLUMN... -->`, with keys of `cnn_compare.report.columns.COLUMNS` (none: all of the report's
table), or `<!-- variants NAME -->`; the table under it extends to `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

import numpy as np

from cnn_compare.files import write_bytes, write_text
from cnn_compare.report.analysis import analyze
from cnn_compare.report.columns import columns
from cnn_compare.report.contents import figures, variants
from cnn_compare.report.load import find_runs
from cnn_compare.report.tables import markdown_table

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "lightning_logs"
PAGES = ("README.md", "docs/findings.md", "lightning_logs/README.md")
MARK = re.compile(r"(<!-- (?P<kind>table|variants) (?P<words>[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
# Event files with pictures: they can be drawn again from the predictions.
LARGEST_EVENTS = 40_000


def drawn(page: str) -> str:
    """A page's text with all its tables drawn anew."""

    def table(mark: re.Match[str]) -> str:
        name, *keys = mark["words"].split()
        summary = analyze(find_runs(LOGS / name))
        shown = [column for column in columns(summary, "table") if not keys or column.key in keys]
        content = variants(summary) if mark["kind"] == "variants" else figures(summary, shown)
        return f"{mark[1]}\n{markdown_table(content)}\n\n{mark[4]}"

    return MARK.sub(table, page)


def tables(check: bool) -> list[str]:
    """Names of the pages whose tables were stale; written anew unless they are only to be checked."""
    stale = []
    for name in PAGES:
        before = (ROOT / name).read_text(encoding="utf-8")
        after = drawn(before)
        if after != before:
            stale.append(name)
            if not check:
                write_text(ROOT / name, after)
    return stale


def slim(folder: Path) -> None:
    """Keep each answer's probability instead of those of all classes, and no picture that can be drawn again."""
    for path in folder.rglob("predictions.npz"):
        with np.load(path, allow_pickle=False) as stored:
            if "probabilities" not in stored.files:
                continue
            probabilities = stored["probabilities"]
            kept = {name: stored[name].astype(np.uint8) for name in ("labels", "predictions")}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **kept, confidence=probabilities.max(1).astype(np.float16))
        write_bytes(path, buffer.getvalue())
    for path in folder.rglob("events.out.tfevents.*"):
        if path.stat().st_size > LARGEST_EVENTS and b"test/confusion" in path.read_bytes():
            path.unlink()


def main() -> None:
    """Run the command named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("slim").add_argument("folder", type=Path)
    commands.add_parser("tables").add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.command == "slim":
        slim(options.folder)
        return
    stale = tables(options.check)
    for name in stale:
        print(f"{name}: tables {'stale' if options.check else 'drawn anew'}")
    sys.exit(1 if stale and options.check else 0)


if __name__ == "__main__":
    main()
