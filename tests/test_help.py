"""What the command says of itself: help of one screen, help on a topic, versions, completion."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import platform
import shutil
import subprocess
from importlib import metadata

import pytest
from helpers import run_command
from lightning import Trainer

from cnn_compare import ClassifierModule, FolderDataModule
from cnn_compare.cli import main
from cnn_compare.commands import COMMANDS, EXAMPLES

SETTINGS = ("fit", "compare", "data")
"""Commands with the settings of trainer, model and data."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_fits_a_screen_and_holds_its_examples(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, text, errors = run_command([command, "--help"], capsys)
    lines = text.splitlines()
    examples = EXAMPLES[command].strip().splitlines()
    assert (status, errors) == (0, "")
    assert len(lines) <= 50
    assert [line for line in lines if line.startswith("  cnn-compare")] == [f"  {example}" for example in examples]
    assert all(len(line) <= 80 or line.strip() in examples for line in lines)


@pytest.mark.parametrize("command", SETTINGS)
def test_help_of_a_command_with_settings_begins_with_examples_and_lists_no_settings(command, capsys):
    _, text, _ = run_command([command, "--help"], capsys)
    assert text.index("\n  cnn-compare") < text.index("\noptions:")
    assert "--trainer." not in text[text.index("\noptions:") :]


@pytest.mark.parametrize(
    ("command", "topic", "cls"),
    [("fit", "trainer", Trainer), ("compare", "model", ClassifierModule), ("data", "data", FolderDataModule)],
)
def test_help_on_a_topic_lists_every_setting_of_it(command, topic, cls, capsys):
    _, text, _ = run_command([command, f"--help={topic}"], capsys)
    listed = {line.strip().split(",")[0] for line in text.splitlines() if line.startswith("  --")}
    expected = {name for name in inspect.signature(cls).parameters if name not in ("backbone", "options")}
    assert {f"--{topic}.{name}" for name in expected} <= listed
    _, everything, _ = run_command([command, "--help=all"], capsys)
    assert text in everything


def test_help_keeps_to_a_terminal_of_40_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _, text, _ = run_command(["compare", "--help"], capsys)
    options = text[text.index("\noptions:") :].splitlines()
    assert "…" not in "".join(options)  # Nothing is cut off.
    assert max(map(len, options)) <= 40


def test_an_unknown_topic_of_help_is_refused(capsys):
    status, _, errors = run_command(["fit", "--help=nothing"], capsys)
    assert status == 2
    assert "--help must be all, trainer, model or data, and is 'nothing'" in errors


def test_version_names_those_of_python_torch_and_lightning(capsys):
    status, text, _ = run_command(["--version"], capsys)
    versions = {name: metadata.version(name) for name in ("cnn-compare", "torch", "lightning")}
    expected = {"Python": platform.python_version(), **versions}
    assert status == 0
    assert dict(part.split() for line in text.splitlines() for part in line.split(", ")) == expected


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    """A function that completes a command line as bash would."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    with contextlib.redirect_stdout(io.StringIO()) as script, pytest.raises(SystemExit):
        main(["--print_completion", "bash"])
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(
        f'{script.getvalue()}\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n_shtab_cnn_compare\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )

    def complete(line: str) -> list[str]:
        done = subprocess.run(["bash", path, *line.split(" ")], capture_output=True, text=True, check=True)
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cnn-compare pro", ["profile"]),
        ("cnn-compare fit --model.stem ", ["imagenet", "cifar"]),
        ("cnn-compare fit --data.batch", ["--data.batch_size"]),
        ("cnn-compare fit --data.group", ["--data.group", "--data.group_pattern"]),
        ("cnn-compare fit --trainer.max_ep", ["--trainer.max_epochs"]),
        ("cnn-compare test --ckpt", ["--ckpt_path"]),
        ("cnn-compare compare --recipe mod", ["modern"]),
        ("cnn-compare compare --config quick", ["quickstart"]),
        ("cnn-compare report --measure", ["--measure_times"]),
    ],
)
def test_a_shell_completes_commands_options_and_names(completion, line, expected):
    assert completion(line) == expected


def test_piped_output_without_colour_is_plain_text(capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    status, text, _ = run_command(["backbones", "--filter=resnet*"], capsys)
    assert status == 0
    assert "\x1b" not in text
    assert "resnet152" in text
    assert json.loads(run_command(["backbones", "--format=json"], capsys)[1])
