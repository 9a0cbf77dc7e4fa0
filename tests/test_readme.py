"""Every command and the Python example of README.md run as written, shortened only by what this file declares."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import run_command
from PIL import Image

from cnn_compare import CIFAR10DataModule

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

FEW_DIGITS = ["--data=DigitsDataModule", "--data.train_subset=40", "--data.val_size=20", "--data.image_size=32"]
# No weights that are downloaded, and no compilation, which takes minutes.
NETWORK = ["--model.pretrained=false", "--model.compile=false"]
SHORT = [*FEW_DIGITS, "--data.batch_size=20", "--trainer.max_epochs=1", *NETWORK]
ONE_SMALL = [*SHORT, "--backbones=[lenet]", "--seeds=[0]"]
APPENDED = {
    "fit": SHORT,
    "compare": ONE_SMALL,
    "report": ["--baseline=lenet"],
    "predict": [],
    "backbones": [],
    "recipes": [],
    "data": [],
}
"""What is appended to a command, so that it ends soon and needs no data set."""

APPENDED_TO_LINES = {
    "--seeds_until_decided": ["--seeds=[0,1]"],
}
"""The same for lines with these words, after the others."""

SHORTER = {"max_epochs=10": "max_epochs=1"}
"""What is replaced in the Python example."""

SKIPPED = {"make ": "installs the package, or runs these tests"}
"""Lines with these words do not run here."""


def blocks(language: str, text: str = README) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [text for of_language, text in found if of_language == language]


def command_lines() -> list[str]:
    """The lines of the blocks without a language, and the commands in the text."""
    lines = [line for block in blocks("") for line in block.replace("\\\n", " ").splitlines()]
    return [*filter(None, lines), *re.findall(r"`(cnn-compare [^`]+)`", README)]


def reason_to_skip(line: str) -> str | None:
    return next((reason for words, reason in SKIPPED.items() if words in line), None)


RUNNING = [line for line in command_lines() if reason_to_skip(line) is None]


def write_photos(folder: Path) -> None:
    """Noise of two classes, by ten persons, in folders and in a table."""
    draw, rows = np.random.default_rng(0), ["path,label,person"]
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(30):
            path = f"{label}/{number}.png"
            Image.fromarray(draw.integers(0, 256, (40, 32, 3), dtype=np.uint8)).save(folder / path)
            rows.append(f"{path},{label},person {number % 10}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """The working folder: the configurations of a clone, some photos, and no results."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    write_photos(tmp_path / "photos")
    shutil.copytree(tmp_path / "photos" / "cat", tmp_path / "new_pictures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# One test, because a line can need what a line before it has written.
@pytest.mark.filterwarnings("default")
def test_every_command_of_the_readme_runs_as_written(clone, capsys):
    failures = {}
    for line in RUNNING:
        program, command, *options = shlex.split(line, comments=True)
        assert program == "cnn-compare"
        appended = APPENDED[command]
        if any("=photos/" in option for option in options):
            appended = [option for option in appended if option not in FEW_DIGITS]
        more = [option for words, options in APPENDED_TO_LINES.items() if words in line for option in options]
        status, _, errors = run_command([command, *options, *appended, *more], capsys)
        if status:
            failures[line] = errors.splitlines()[-1]
    assert failures == {}


def test_most_commands_of_the_readme_run_here_and_every_skipped_one_has_a_line():
    assert len(RUNNING) >= 10
    assert all(any(words in line for line in command_lines()) for words in SKIPPED)


@pytest.mark.filterwarnings("default")
def test_the_python_example_of_the_readme_runs_as_written(tiny_cifar10, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNN_COMPARE_DATA_DIR", str(tiny_cifar10))
    monkeypatch.setattr(CIFAR10DataModule, "usual_val_size", 150)
    (example,) = blocks("python")
    for written, shorter in SHORTER.items():
        assert written in example
        example = example.replace(written, shorter)
    exec(compile(example, "README.md", "exec"), {})


def without_comments(text: str) -> list[str]:
    """Code without its comments, which are translated, and without the space before them."""
    return [re.sub(r"\s+#\s.*", "", line).rstrip() for line in text.splitlines()]


def test_the_korean_readme_has_the_same_code_figures_and_links():
    korean = (ROOT / "README.ko.md").read_text(encoding="utf-8")
    assert [without_comments(block) for block in blocks("", korean)] == [
        without_comments(block) for block in blocks("")
    ]
    assert [without_comments(block) for block in blocks("python", korean)] == [
        without_comments(block) for block in blocks("python")
    ]
    for same in (r"<!-- (?:table|figure|growth) .*?<!-- end -->", r"`cnn-compare [^`]+`"):
        found, expected = (re.findall(same, text, re.DOTALL) for text in (korean, README))
        assert expected
        assert sorted(found) == sorted(expected)
    files, of_english = (set(re.findall(r"\]\(([^)#]+)\)", text)) for text in (korean, README))
    own = {"README.md", "docs/first_comparison.ko.md", "notebooks/01_first_comparison.ko.ipynb"}
    assert files - of_english == own
    assert of_english - files == {"README.ko.md", "docs/first_comparison.md"}
    assert [path for path in files if not (ROOT / path).exists()] == []
