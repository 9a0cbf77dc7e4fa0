"""The pages of the documentation. Their code is run by `make docs`, which `make test` calls."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from helpers import run_command

from cnn_compare import build_backbone, errors, list_backbones
from cnn_compare.commands import COMMANDS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
# Pages that are older than the site show commands that need a cluster or several GPUs.
NOT_RUN = {"scaling"}


@pytest.fixture
def drawings(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module("drawings")


@pytest.fixture
def outputs(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module("outputs")


def blocks_of(outputs, page):
    """The blocks of commands on a page that show an output."""
    kinds = ("{run}", "") if page.endswith(".ko") else ("{run}",)
    found = [block for block in outputs.BLOCK.finditer(PAGES[page]) if block["kind"] in kinds]
    return [block for block in found if ":silent:" not in block["options"]]


def stages(drawings, name, stem, size):
    with torch.device("meta"):
        network = build_backbone(name, stem=stem)
    return [(stage.channels, stage.size, dict(stage.parts)) for stage in drawings.stages(network, size)]


def test_every_backbone_is_drawn_once():
    drawn = re.findall(r"\{drawings\} (.*)", PAGES["networks"])
    names = [name for line in drawn for name in line.split() if "/" not in name]
    assert {entry.name for entry in list_backbones()} == set(names)


def test_every_command_has_a_section_and_its_options():
    headings = re.findall(r"^## (.*)$", PAGES["commands"], re.MULTILINE)
    assert {name for heading in headings for name in heading.split(", ")} == set(COMMANDS)
    for name in set(COMMANDS) - {"validate", "test"}:  # They have the options of `fit`.
        assert f"cnn-compare {name} --help" in PAGES["commands"]


def test_errors_that_the_page_names_exist():
    named = set(re.findall(r"`(\w+Error)`", PAGES["errors"]))
    assert named
    assert named - set(vars(errors)) == set()


@pytest.mark.parametrize("page", sorted(set(PAGES) - NOT_RUN))
def test_every_command_on_a_page_has_its_own_output_below_it(outputs, page):
    for block in blocks_of(outputs, page):
        if block["code"].startswith("cnn-compare "):
            assert block["number"] == outputs.number_of(block["code"]), f"`make docs` stores: {block['code']}"


def test_stored_help_is_what_the_commands_print(outputs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "88")
    blocks = [block for block in blocks_of(outputs, "commands") if block["code"].endswith(" --help")]
    assert len(blocks) >= 8
    for block in blocks:
        status, help, _ = run_command(block["code"].split()[1:], capsys)
        assert status == 0
        assert help.strip() in block["output"], f"`make docs` stores: {block['code']}"


def test_an_output_that_differs_in_numbers_alone_is_kept_and_one_of_another_form_is_replaced(outputs):
    page = outputs.with_outputs("```{run}\nls\n```\nafter\n", {outputs.number_of("ls"): "1.5 s │ 90.1 %"})
    number = outputs.number_of("ls")
    assert page == f"```{{run}}\nls\n```\n\n<!-- output {number} -->\n1.5 s │ 90.1 %\n<!-- end output -->\nafter\n"
    assert outputs.with_outputs(page, {number: "12.5 s │ 8 %"}) == page
    assert "12 min" in outputs.with_outputs(page, {number: "12 min │ 8 %"})
    assert outputs.without_outputs(page) == "```{run}\nls\n```\nafter\n"


def test_the_korean_page_has_the_commands_and_outputs_of_the_english_one(outputs):
    korean, english = (
        [(block["code"], block["output"]) for block in blocks_of(outputs, page)]
        for page in ("first_comparison.ko", "first_comparison")
    )
    assert len(english) >= 5
    assert korean == english


@pytest.mark.parametrize("page", sorted(page for page in set(PAGES) - NOT_RUN if not page.endswith(".ko")))
def test_code_on_a_page_is_run_when_it_is_built(page):
    kinds = set(re.findall(r"^\s*(?:[*-] )*(?:- )?`{3,}([^\s`]+)", PAGES[page], re.MULTILINE))
    assert kinds <= {"{run}", "{file}", "{drawings}", "{toctree}", "{eval-rst}", "{raw}", "text"}


def test_a_drawing_has_the_stages_of_table_1_of_the_resnet_paper(drawings):
    found = stages(drawings, "resnet34", "imagenet", 224)
    blocks = [(channels, size, parts["residual block"]) for channels, size, parts in found if "residual block" in parts]
    assert blocks == [(64, 56, 3), (128, 28, 4), (256, 14, 6), (512, 7, 3)]
    assert found[1] == (64, 112, {"7×7 convolution": 1})
    assert found[-1] == (10, 0, {"fully connected": 1})


def test_a_drawing_has_the_channels_that_dense_layers_add_up_to(drawings):
    # Table 1 of arXiv:1608.06993: growth rate 32, compression 0.5.
    found = stages(drawings, "densenet121", "imagenet", 224)
    blocks = [(channels, size, parts["dense layer"]) for channels, size, parts in found if "dense layer" in parts]
    assert blocks == [(256, 56, 6), (512, 28, 12), (1024, 14, 24), (1024, 7, 16)]


def test_the_stem_for_small_images_keeps_their_size(drawings):
    assert stages(drawings, "resnet18", "cifar", 32)[1] == (64, 32, {"3×3 convolution": 1, "residual block": 2})
