"""Code on the pages is run while they are built, so that no output on them can be stale.

The code of a page runs in its order, in a folder that is empty at the page's beginning but for `configs/`::

    ```{file} my_nets.py
    ```                           writes a file, and shows it

    ```{run}
    :status: 2                    the exit status that is expected; 0 by default
    :fold: all options            show the output under this heading, closed
    :first: 20                    show so many lines of the output
    :stored: subset_5k            copy this comparison to `lightning_logs/` first
    :silent:                      show nothing
    cnn-compare fit ...           lines for bash; a line that ends in a backslash goes on
    ```

Another exit status is a warning, which `make docs` turns into an error. Where all lines are `cnn-compare`, each is run
in a fork of this process, which has imported torch once for all of them, and shows its output below it. A page's
source keeps the outputs too: see `outputs`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from outputs import as_markdown, number_of, store, without_outputs
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import cnn_compare.comparison.compare
import cnn_compare.data_report
import cnn_compare.profiling  # noqa: F401, these three import all that a command needs
from cnn_compare.cli import main

ROOT = Path(__file__).parents[2]
WIDTH = 88
LIMIT_S = 300
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
            outputs_of(self.env.doctreedir, self.env.docname).unlink(missing_ok=True)
            self.env.temp_data["folder_is_empty"] = True
        return folder

    def shown(self, text: str, language: str) -> nodes.literal_block:
        """A block of code; what a command prints is wrapped to the page's width where there is no table in it."""
        classes = ["wrapped"] if language == "console" and "│" not in text else []
        block = nodes.literal_block(text, text, language=language, force=True, classes=classes)
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
        "silent": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """The lines, and what they print."""
        folder, code = self.folder(), "\n".join(self.content)
        if stored := self.options.get("stored"):
            shutil.copytree(ROOT / "lightning_logs" / stored, folder / "lightning_logs" / stored)
        lines = re.split(r"(?<!\\)\n", code)
        if all(line.startswith("cnn-compare ") for line in lines):
            ended = [(line, self.end(line, *run_command(line, folder))) for line in lines]
        else:
            ended = [("\n$ ".join(lines), self.end(code, *run_bash(code, folder)))]
        if "silent" in self.options:
            return []
        self.keep(code, ended)
        if "fold" not in self.options:
            text = "\n\n".join(f"$ {line}\n{output}".rstrip() for line, output in ended)
            return [self.shown(text, "console")]
        ((line, output),) = ended
        heading = nodes.raw("", f"<details><summary>{self.options['fold']}</summary>", format="html")
        end = nodes.raw("", "</details>", format="html")
        return [self.shown(f"$ {line}", "console"), heading, self.shown(output, "text"), end]

    def keep(self, code: str, ended: list[tuple[str, str]]) -> None:
        """Note what the lines print for the page's source; each line is shown too where there are several."""
        shown = [f"$ {line}\n{output}".rstrip() for line, output in ended]
        text = ended[0][1] if len(ended) == 1 else "\n\n".join(shown)
        path = outputs_of(self.env.doctreedir, self.env.docname)
        kept = json.loads(path.read_text()) if path.exists() else {}
        if text:
            kept[number_of(code)] = as_markdown(text, self.options.get("fold", ""))
        path.write_text(json.dumps(kept))

    def end(self, code: str, status: int, output: str, seconds: float) -> str:
        """The output as it is shown; warns of another status than the expected one."""
        logger.info("%5.1f s  %s", seconds, code.partition("\n")[0])
        folder, expected = self.folder(), self.options.get("status", 0)
        output = output.replace(f"{folder}/", "").replace(str(folder), ".").replace(f"{ROOT}/", "").rstrip()
        if status != expected:
            message = f"status {status} instead of {expected}:\n{code}\n{output[-2000:]}"
            logger.warning(message, location=self.get_location())
        lines = output.splitlines()
        if (first := self.options.get("first", len(lines))) < len(lines):
            lines = [*lines[:first], "…"]
        return "\n".join(lines)


def run_bash(code: str, folder: Path) -> tuple[int, str, float]:
    """Status, output and seconds of lines of bash."""
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-euc", code],  # noqa: S607, bash is where the user's PATH has it
        cwd=folder,
        env={**os.environ, **environment(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )
    return done.returncode, done.stdout, time.monotonic() - began


def run_command(line: str, folder: Path) -> tuple[int, str, float]:
    """Status, output and seconds of ``cnn-compare``, in a fork of this process."""
    began, log = time.monotonic(), folder / ".output"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(LIMIT_S)
            os.chdir(folder)
            os.environ.update(environment(folder))
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            sys.stdin, sys.stdout, sys.stderr = Path(os.devnull).open(), open(1, "w", 1), open(2, "w", 1)  # noqa: SIM115
            sys.modules["__main__"] = ModuleType("__main__")  # The processes of runs would import Sphinx's.
            main(shlex.split(line.replace("\\\n", " "))[1:])
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8"), time.monotonic() - began


def environment(folder: Path) -> dict[str, str]:
    """Of a page's commands: this code, whatever is installed; no colours; decoded pictures stay in the folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    packages = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {"PATH": path, "PYTHONPATH": packages, "CNN_COMPARE_CACHE_DIR": str(folder / ".cache")}
    return {**variables, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}


def outputs_of(doctrees: str | Path, page: str) -> Path:
    """The file with what a page's lines print."""
    return Path(doctrees, "pages", f"{page}.json")


def as_built(app: Sphinx, page: str, source: list[str]) -> None:
    """Take out the outputs of blocks that are run."""
    if not page.endswith(".ko"):
        source[0] = without_outputs(source[0])


def store_outputs(app: Sphinx, exception: Exception | None) -> None:
    """Write the outputs into the pages' sources."""
    if exception is None:
        kept = {path.stem: json.loads(path.read_text()) for path in Path(app.doctreedir, "pages").glob("*.json")}
        for name in store(Path(app.srcdir), kept):
            logger.info("%s: new outputs stored", name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives, and what keeps outputs in the pages' sources."""
    app.add_directive("file", File)
    app.add_directive("run", Run)
    app.connect("source-read", as_built)
    app.connect("build-finished", store_outputs)
    return {"parallel_read_safe": True}
