"""The reference comparisons and the pages that show them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import run_result, shown

from cnn_compare.pictures import HeatMap, Leaked, ReportPictures
from cnn_compare.results import RunFolder

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def reference(script, tmp_path, monkeypatch):
    """The script, with its pages and comparisons in a folder of its own."""
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "LOGS", tmp_path)
    monkeypatch.setattr(script, "PAGES", ("page.md",))
    return script


def store(folder, accuracy, **fields):
    result = run_result(test_acc_pct=accuracy, test_images=1000, train_epoch_s=1.0, **fields)
    RunFolder(folder).save_result(result)


def test_no_table_or_figure_of_a_page_is_stale(script):
    assert script.fill_pages(check=True) == []


def test_a_changed_result_makes_the_page_stale_until_it_is_drawn_anew(reference, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- table mine network test_acc_pct -->\n<!-- end -->\nafter <!-- variants mine -->\n<!-- end -->\n"
    )
    store(tmp_path / "mine" / "lenet" / "seed_0", 61.0, backbone="lenet", variant="own")
    assert reference.fill_pages(check=True) == ["page.md"]
    assert "lenet" not in page.read_text()
    assert reference.fill_pages(check=False) == ["page.md"]
    assert reference.fill_pages(check=True) == []
    text = page.read_text()
    assert text.startswith("before\n")
    assert "\nafter " in text
    assert "| lenet (own) | 61.00 ± 3.02 |" in text
    assert "| lenet | 61.00 ± 3.02 |" in text
    store(tmp_path / "mine" / "lenet" / "seed_0", 62.0, backbone="lenet", variant="own")
    assert reference.fill_pages(check=True) == ["page.md"]


def test_a_sentence_takes_its_figures_from_the_runs(reference, tmp_path):
    page = tmp_path / "page.md"
    marks = ('mine "lenet (own)" last_val_acc_pct', 'mine "resnet18 − lenet (own)" points', "mine established")
    sentence = " and ".join(f"<!-- figure {mark} -->?<!-- end -->" for mark in marks)
    page.write_text(f"It is {sentence}.\n")
    store(tmp_path / "mine" / "lenet" / "seed_0", 61.0, backbone="lenet", variant="own", last_val_acc_pct=60.504)
    store(tmp_path / "mine" / "resnet18" / "seed_0", 73.5, backbone="resnet18")
    reference.fill_pages(check=False)
    assert re.sub("<!--.*?-->", "", page.read_text()) == "It is 60.50 and +12.50 and 1 of 1.\n"
    page.write_text("<!-- figure mine test_images -->?<!-- end --> images, seed <!-- figure mine seed --><!-- end -->")
    reference.fill_pages(check=False)
    assert re.sub("<!--.*?-->", "", page.read_text()) == "1,000 images, seed 0"
    page.write_text("<!-- figure mine vgg16 test_acc_pct --><!-- end -->")
    with pytest.raises(KeyError, match="vgg16"):
        reference.fill_pages(check=False)


def test_a_slim_comparison_reports_the_same(reference, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        labels, probabilities = rng.integers(0, 10, 500), rng.dirichlet(np.ones(10), 500).astype(np.float16)
        predictions = probabilities.argmax(1)
        store(tmp_path / name / "seed_0", 100 * float((predictions == labels).mean()), backbone=name)
        path = tmp_path / name / "seed_0" / "predictions.npz"
        np.savez_compressed(path, labels=labels, predictions=predictions, probabilities=probabilities)
    events = [path.parent / f"events.out.tfevents.1.{number}" for number in (0, 1)]
    for number, event in enumerate(events):
        event.write_bytes(bytes([number]))
    before, size = shown(tmp_path).json, path.stat().st_size
    reference.slim(tmp_path)
    reference.slim(tmp_path)
    assert shown(tmp_path).json == before
    assert path.stat().st_size < size / 2
    assert [each.read_bytes() for each in tmp_path.rglob("events*")] == [b"\x00\x01"]


def test_slimming_keeps_which_images_leaked_and_no_picture(reference, tmp_path):
    leaked, heat = Leaked([1], [2, 3], True), {"lenet": {5: HeatMap("data:image/webp;base64,AA==", 0)}}
    ReportPictures("digest", {}, {5: "data:image/webp;base64,AA=="}, leaked, [], heat).save(tmp_path)
    reference.slim(tmp_path)
    assert ReportPictures.load(tmp_path) == ReportPictures("digest", {}, {}, leaked)
