"""The notebooks' code in this process; the first one runs in a kernel, where it trains in processes of its own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from cnn_compare.backbones import registry

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def code_of(name: str) -> list[str]:
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["02_add_a_backbone", "03_read_results"])
def test_a_notebook_runs_as_written(name, monkeypatch, tmp_path):
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(registry, "_entries", {**registry._entries})
    exec(compile("\n".join(code_of(name)), name, "exec"), {"__name__": name})


def test_the_korean_notebook_has_the_code_of_the_english_one():
    assert code_of("01_first_comparison.ko") == code_of("01_first_comparison")
