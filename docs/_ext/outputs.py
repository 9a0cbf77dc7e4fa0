"""What a page's commands print, stored in the page below each of them, for those who read it in the repository.

    ```{run}
    cnn-compare backbones
    ```

    <!-- output 1a2b3c4d -->
    ...
    <!-- end output -->

The number stands for the lines of the block: another one says that they have changed since. `make docs` writes what
has changed in form; other seconds and accuracies are no such change. A page in another language, ``NAME.ko.md``, has
the same commands in blocks without ``{run}``, and gets the outputs of ``NAME.md``.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path

BLOCK = re.compile(
    r"^(?P<fence>```+)(?P<kind>[^\n]*)\n(?P<options>(?:^:[^\n]*\n)*)(?P<code>.*?)\n(?P=fence)\n"
    r"(?P<stored>\n<!-- output (?P<number>\w+) -->\n(?P<output>.*?)\n<!-- end output -->\n)?",
    re.MULTILINE | re.DOTALL,
)


def number_of(code: str) -> str:
    """What stands for the lines of a block."""
    return f"{zlib.crc32(code.encode()):08x}"


def form(output: str) -> str:
    """An output without its numbers and lines of progress, and without the spaces that their widths change."""
    return re.sub(r"[\d.,:\s─━═-]+", " ", re.sub(r"(?m)^run \d+ of .*\n", "", output))


def without_outputs(page: str) -> str:
    """A page as it is built: its commands show their outputs then."""
    return BLOCK.sub(lambda block: block[0].removesuffix(block["stored"] or ""), page)


def with_outputs(page: str, outputs: Mapping[str, str]) -> str:
    """A page with the outputs of its blocks, by the blocks' numbers.

    One that differs from what is stored in numbers only is left as it is.
    """

    def block_with_output(block: re.Match[str]) -> str:
        code, number = block[0].removesuffix(block["stored"] or ""), number_of(block["code"])
        output = outputs.get(number, "") if block["kind"] in ("", "{run}") else ""
        if not output:
            return code
        if block["number"] == number and form(block["output"]) == form(output):
            return block[0]
        return f"{code}\n<!-- output {number} -->\n{output}\n<!-- end output -->\n"

    return BLOCK.sub(block_with_output, page)


def as_markdown(output: str, heading: str = "") -> str:
    """An output as a block of text, closed below a heading if there is one."""
    block = f"\n```text\n{output}\n```\n"
    return f"<details><summary>{heading}</summary>\n{block}\n</details>" if heading else block.strip("\n")


def store(folder: Path, outputs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Write the outputs of pages, by their names, into the files of a folder; names of the files that changed."""
    changed = []
    for name in sorted(outputs):
        for path in sorted({folder / f"{name}.md", *folder.glob(f"{name}.*.md")}):
            before = path.read_text(encoding="utf-8")
            after = with_outputs(before, outputs[name])
            if after != before:
                path.write_text(after, encoding="utf-8")
                changed.append(path.name)
    return changed
