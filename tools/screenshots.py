"""Draw the pictures of the report that README and the documentation show, from stored comparisons.

python tools/screenshots.py            # all of them
python tools/screenshots.py report     # docs/report.png alone

Chromium is needed, and for `hardest` CIFAR-10 (`CNN_COMPARE_DATA_DIR`). Look at the pictures before you commit them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cnn_compare import write_report
from cnn_compare.archive import ARCHIVE, unpack
from cnn_compare.inference.collect import collect_pictures

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 1400, 900


@dataclass(frozen=True)
class Shot:
    """A picture of a report.

    Args:
        comparison: Its name, in `lightning_logs`.
        section: Key of the section that it shows; empty: the first screen.
        with_images: Whether the test images themselves are to be seen.
    """

    comparison: str
    section: str = ""
    with_images: bool = False


SHOTS = {
    "report": Shot("cpu_64px"),
    "hardest": Shot("cpu_64px", "hardest", with_images=True),
}
"""Picture in `docs/`, without its ending -> what it shows."""


def draw(names: list[str]) -> None:
    """Write `docs/NAME.png` for each name."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sys.exit("Chromium is needed; Debian's package is called chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name in names:
            shot = SHOTS[name]
            folder = Path(shutil.copytree(ROOT / "lightning_logs" / shot.comparison, Path(place, name)))
            if shot.with_images:
                unpack(folder)
                (folder / ARCHIVE).unlink()  # A report would read the archive, which is without pictures.
                collect_pictures(folder)
            write_report(folder)
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            page.goto((folder / "report.html").as_uri())
            page.wait_for_selector("html[data-drawn=true]")
            output = ROOT / "docs" / f"{name}.png"
            if shot.section:
                page.locator(f"#{shot.section}").screenshot(path=output)
            else:
                page.screenshot(path=output)
            print(output)
            page.close()
        browser.close()


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHOTS)}; none: all")
    names = parser.parse_args().names or list(SHOTS)
    if unknown := set(names) - set(SHOTS):
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    draw(names)


if __name__ == "__main__":
    main()
