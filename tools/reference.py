"""Keep the reference comparisons of `lightning_logs/` small, and what pages show of them up to date.

python tools/reference.py slim lightning_logs/NAME   # after a comparison: keep what reports read, in an archive
python tools/reference.py slim --unpacked ...        # the same without the archive
python tools/reference.py tables                     # fills the marks of every page below; `make tables`
python tools/reference.py tables --check             # say which page is stale instead, and end with status 1

What stands between a mark and `<!-- end -->` is drawn from the stored runs of the comparison NAME:

<!-- table NAME COLUMN... -->         a table; keys of `cnn_compare.report.columns.COLUMNS`, none: all of the report's
<!-- KEY NAME HEADING... -->         the report's table growth, leaks, search or variants; no heading: all columns
<!-- pairs NAME NETWORK HEADING... -->  the network's rows of the table of differences
<!-- figure NAME NETWORK COLUMN -->   one figure within a sentence; the network in quotes where it has spaces
<!-- figure NAME "A − B" HEADING -->  one cell of the report's table of differences
<!-- figure NAME established -->      how many differences are established, of all
<!-- figure NAME device -->           what all its runs have recorded: device, train_images, test_images or seed
"""

from __future__ import annotations

import argparse
import io
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from cnn_compare.archive import pack, unpack
from cnn_compare.files import write_bytes, write_text
from cnn_compare.formatting import format_list
from cnn_compare.pictures import ReportPictures
from cnn_compare.report.columns import COLUMNS, columns
from cnn_compare.report.findings import Findings
from cnn_compare.report.load import find_runs
from cnn_compare.report.section import Table
from cnn_compare.report.sections import sections_of
from cnn_compare.report.sections.results import table_of
from cnn_compare.report.tables import markdown_table
from cnn_compare.report.wrong_labels import doubts
from cnn_compare.results import RunFolder, run_folders

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "lightning_logs"
PAGES = ("README.md", "README.ko.md", "docs/findings.md", "docs/statistics.md", "lightning_logs/README.md")
MARK = re.compile(
    r"(<!-- (?P<kind>table|pairs|figure|growth|leaks|search|variants) (?P<words>[^>]*?) -->).*?(<!-- end -->)",
    re.DOTALL,
)
# Event files with pictures: they can be drawn again from the predictions.
LARGEST_EVENTS = 40_000
FACTS = ("device", "train_images", "test_images", "seed")


def figure(found: Findings, row: str, column: str = "") -> str:
    """The text of a mark's figure.

    Raises:
        KeyError: If the comparison has no such network, difference or column.
    """
    if row == "established":
        return f"{sum(pair.differs for pair in found.pairs)} of {len(found.pairs)}"
    if row in FACTS:
        values = dict.fromkeys(getattr(run.result, row) for run in found.stored.finished)
        return format_list([f"{value:,}" if isinstance(value, int) else value for value in values])
    for network in found.networks:
        if network.name == row:
            shown = {each.key: each for each in COLUMNS}[column]
            return shown.format(shown.value(network))
    differences = _table(found, "differences")
    rows = {cells[0]: dict(zip(differences.columns, cells, strict=True)) for cells in differences.rows}
    return rows[row][column]


def _table(found: Findings, key: str) -> Table:
    table = sections_of(found)[key].table
    if table is None:
        raise KeyError(key)
    return table


def report_table(found: Findings, key: str, headings: Sequence[str]) -> Table:
    """A table of the report, or the columns of it that are named."""
    whole = _table(found, key)
    shown = [whole.columns.index(heading) for heading in headings or whole.columns]
    return replace(
        whole,
        columns=[whole.columns[index] for index in shown],
        rows=[[row[index] for index in shown] for row in whole.rows],
    )


def pairs(found: Findings, network: str, headings: Sequence[str]) -> Table:
    """A network's rows of the table of differences, with some of its columns."""
    table = report_table(found, "differences", headings)
    return replace(table, rows=[cells for cells in table.rows if network in cells[0].split(" − ")])


def drawn(page: str, found_in: Callable[[str], Findings]) -> str:
    """A page's text with all its marks filled anew; ``found_in`` a comparison's name."""

    def content(mark: re.Match[str]) -> str:
        name, *words = shlex.split(mark["words"])
        found = found_in(name)
        match mark["kind"]:
            case "figure":
                return f"{mark[1]}{figure(found, *words)}{mark[4]}"
            case "table":
                shown = [column for column in columns(found, "table") if not words or column.key in words]
                table = table_of(found, shown)
            case "pairs":
                table = pairs(found, words[0], words[1:])
            case key:
                table = report_table(found, key, words)
        return f"{mark[1]}\n\n{markdown_table(table)}\n\n{mark[4]}"

    return MARK.sub(content, page)


def fill_pages(check: bool) -> list[str]:
    """Names of the pages that were stale; written anew unless they are only to be checked."""
    found_in = cache(lambda name: Findings(find_runs(LOGS / name)))
    stale = []
    for name in PAGES:
        before = (ROOT / name).read_text(encoding="utf-8")
        after = drawn(before, found_in)
        if after != before:
            stale.append(name)
            if not check:
                write_text(ROOT / name, after)
    return stale


def _small(array: np.ndarray) -> np.ndarray:
    integer = np.issubdtype(array.dtype, np.integer)
    return array.astype(np.min_scalar_type(int(array.max())) if integer else np.float16)


def _has_pictures(events: bytes) -> bool:
    return len(events) > LARGEST_EVENTS and b"test/confusion" in events


def slim(folder: Path) -> None:
    """Keep each answer's probability instead of those of all classes, one file of events a run, and no pictures."""
    unpack(folder)
    if pictures := ReportPictures.load(folder):
        replace(pictures, pictures={}, heat_maps={}).save(folder)
    for path in folder.rglob("predictions.npz"):
        with np.load(path, allow_pickle=False) as stored:
            if "probabilities" not in stored.files:
                continue
            arrays = dict(stored)
        probabilities = arrays.pop("probabilities")
        found = doubts(arrays["labels"], arrays["predictions"], probabilities)
        arrays |= {"confidence": probabilities.max(1), "instead": found.instead, "margin": found.margin}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: _small(array) for name, array in arrays.items()})
        write_bytes(path, buffer.getvalue())
    for run in run_folders(folder, RunFolder.RESULT):
        run.code.unlink(missing_ok=True)  # It says whether a stopped run may go on.
        events = sorted(run.path.glob("events.out.tfevents.*"))
        if len(events) > 1:  # Not slimmed yet. Files of records can be joined; TensorBoard reads them in this order.
            write_bytes(events[0], b"".join(each for each in map(Path.read_bytes, events) if not _has_pictures(each)))
        for path in events[1:]:
            path.unlink()


def main() -> None:
    """Run the command named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    slimmed = commands.add_parser("slim")
    slimmed.add_argument("folder", type=Path)
    slimmed.add_argument("--unpacked", action="store_true")
    commands.add_parser("tables").add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.command == "slim":
        slim(options.folder)
        if not options.unpacked:
            pack(options.folder)
        return
    stale = fill_pages(options.check)
    for name in stale:
        print(f"{name}: {'stale' if options.check else 'drawn anew'}")
    sys.exit(1 if stale and options.check else 0)


if __name__ == "__main__":
    main()
