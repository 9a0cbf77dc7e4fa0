"""Code on the pages is run while they are built, so that no output on them can be stale.

The code of a page runs in its order, in a folder that is empty at the page's beginning but for `configs/`::

    ```{file} my_nets.py
    ```                           writes a file, and shows it

    ```{run}
    :status: 2                    the exit status that is expected; 0 by default
    :fold: all options            show the output under this heading, closed
    :first: 20                    show so many lines of the output
    :stored: subset_5k            copy this comparison to `lightning_logs/` first
    :env: PYTHONPATH=.            set this variable
    :silent:                      show nothing
    :one_process:                 all lines are commands of ours: import torch once for all of them
    cnn-compare fit ...           lines for bash; a line that ends in a backslash goes on
    ```

Another exit status is a warning, which `make docs` turns into an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
WIDTH = 88
LIMIT_S = 300
# The last command's status is the status of all.
ONE_PROCESS = """
import shlex, sys
from cnn_compare.cli import main
status = 0
for line in sys.argv[1].splitlines():
    print("$", line, flush=True)
    try:
        main(shlex.split(line)[1:])
        status = 0
    except SystemExit as end:
        status = end.code
    print(flush=True)
sys.exit(status)
"""
logger = logging.getLogger(__name__)


class PageDirective(SphinxDirective):
    """A directive that works in the page's folder."""

    def folder(self) -> Path:
        """The page's folder, emptied when a page asks for it for the first time in a build."""
        folder = Path(self.env.doctreedir, "pages", self.env.docname)
        if not self.env.temp_data.get("folder_is_empty"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "configs").symlink_to(ROOT / "configs")
            self.env.temp_data["folder_is_empty"] = True
        return folder

    def shown(self, text: str, language: str) -> nodes.literal_block:
        """A block of code."""
        block = nodes.literal_block(text, text, language=language, force=True)
        self.set_source_info(block)
        return block


class File(PageDirective):
    """Write a file into the page's folder, and show it."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A caption with the name, and the content."""
        text, path = "\n".join(self.content) + "\n", self.folder() / self.arguments[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        language = {".py": "python", ".yaml": "yaml", ".patch": "diff"}.get(path.suffix, "text")
        caption = nodes.caption("", "", nodes.literal(text=self.arguments[0]))
        return [nodes.container("", caption, self.shown(text, language), literal_block=True)]


class Run(PageDirective):
    """Run lines of bash in the page's folder, and show them with their output."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "status": directives.nonnegative_int,
        "fold": directives.unchanged_required,
        "first": directives.positive_int,
        "stored": directives.unchanged_required,
        "env": directives.unchanged_required,
        "silent": directives.flag,
        "one_process": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """The lines, and what they print."""
        folder = self.folder()
        if stored := self.options.get("stored"):
            shutil.copytree(ROOT / "lightning_logs" / stored, folder / "lightning_logs" / stored)
        code, expected = "\n".join(self.content), self.options.get("status", 0)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", ONE_PROCESS, code] if "one_process" in self.options else ["bash", "-euc", code],
            cwd=folder,
            env=environment(folder) | dict([self.options["env"].split("=")] if "env" in self.options else []),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
        )
        logger.info("%5.1f s  %s", time.monotonic() - began, code.partition("\n")[0])
        output = done.stdout.replace(f"{folder}/", "").replace(str(folder), ".").rstrip()
        if done.returncode != expected:
            logger.warning(
                "status %d instead of %d:\n%s\n%s",
                done.returncode,
                expected,
                code,
                output[-2000:],
                location=self.get_location(),
            )
        if "silent" in self.options:
            return []
        lines = output.splitlines()
        if (first := self.options.get("first", len(lines))) < len(lines):
            lines = [*lines[:first], "…"]
        if "one_process" in self.options:  # The output has the commands in it.
            return [self.shown("\n".join(lines), "console")]
        commands = re.sub(r"^(?!\s)", "$ ", code, flags=re.MULTILINE)
        if "fold" not in self.options:
            return [self.shown("\n".join([commands, *lines]), "console")]
        heading = nodes.raw("", f"<details><summary>{self.options['fold']}</summary>", format="html")
        output_block = self.shown("\n".join(lines), "text")
        return [self.shown(commands, "console"), heading, output_block, nodes.raw("", "</details>", format="html")]


def environment(folder: Path) -> dict[str, str]:
    """Of a page's commands: this code, whatever is installed; no colours; decoded pictures stay in the folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    packages = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {"PATH": path, "PYTHONPATH": packages, "CNN_COMPARE_CACHE_DIR": str(folder / ".cache")}
    return {**os.environ, **variables, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("file", File)
    app.add_directive("run", Run)
    return {"parallel_read_safe": True}
