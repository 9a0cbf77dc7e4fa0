"""Whatever comes in: properties that hold for generated values."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import runpy
import string
import sys
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_compare import CIFAR10DataModule, files
from cnn_compare.backbones import find_backbone
from cnn_compare.configs import differing_settings, flatten, merge_config
from cnn_compare.errors import (
    ConfigurationError,
    DataUnavailableError,
    ResultError,
    UnknownBackboneError,
)
from cnn_compare.experiment import resolve_config
from cnn_compare.files import csv_cell, csv_text, plain_text
from cnn_compare.report.load import find_runs
from cnn_compare.results import RunResult, metrics_of
from cnn_compare.run_key import path_name

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["a", "b", "c", "model", "lr"])
CONFIGS = st.recursive(
    st.dictionaries(KEYS, st.integers() | st.text(max_size=3), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | st.integers(), max_size=3),
    max_leaves=8,
)


# Files


def finished_result() -> RunResult:
    return RunResult(backbone="lenet", seed=0, status="finished", metrics=metrics_of({"test_acc_pct": 50.0}))


@settings(max_examples=400)
@given(JSON)
def test_any_json_is_a_result_or_refused_as_one(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError):
        RunResult.load(path)


@settings(max_examples=300)
@given(st.sampled_from(sorted(RunResult.__dataclass_fields__)), JSON)
def test_a_result_with_any_value_in_any_field_is_read_unchanged_or_refused(tmp_path, field, value):
    path = tmp_path / "result.json"
    finished_result().save(path)
    stored = json.loads(path.read_text()) | {field: value}
    path.write_text(json.dumps(stored))
    try:
        result = RunResult.load(path)
    except ResultError:
        return
    assert json.loads(json.dumps(getattr(result, field))) == json.loads(json.dumps(value)) or value != value


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 5000), st.booleans())
def test_damaged_predictions_are_listed_and_the_run_is_kept(tmp_path, noise, position, cut):
    finished_result().save(tmp_path / "result.json")
    buffer = io.BytesIO()
    labels = np.arange(50) % 10
    np.savez_compressed(buffer, labels=labels, predictions=labels, probabilities=np.eye(10, dtype=np.float16)[labels])
    content = bytearray(buffer.getvalue())
    position %= len(content)
    content[position : position + len(noise)] = noise
    (tmp_path / "predictions.npz").write_bytes(bytes(content[:position] if cut else content))
    stored = find_runs(tmp_path)
    assert len(stored.runs) == 1
    (run,) = stored.runs
    assert (run.predictions is None) == any(error.path.name == "predictions.npz" for error in stored.problems)


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_no_bytes_but_the_published_ones_are_taken_for_a_batch(tiny_cifar10, content):
    (tiny_cifar10 / "cifar-10-batches-py" / "data_batch_2").write_bytes(content)
    with pytest.raises(DataUnavailableError):
        CIFAR10DataModule(str(tiny_cifar10)).load("train")


# Names and settings


@settings(max_examples=300)
@given(st.text(max_size=20) | st.text(string.ascii_lowercase + string.digits + "_:./", max_size=12))
def test_a_name_is_a_backbone_or_unknown_and_always_one_folder(name):
    with contextlib.suppress(UnknownBackboneError):
        find_backbone(name)
    folder = path_name(name or "x")
    assert len(PurePosixPath("a", folder).parts) <= 2
    assert ".." not in PurePosixPath("a", folder).parts


@settings(max_examples=200)
@given(CONFIGS, CONFIGS)
def test_a_merged_configuration_has_every_change_and_all_else(config, changes):
    before = json.dumps(config)
    merged = merge_config(config, changes)
    assert json.dumps(config) == before
    assert merge_config(merged, changes) == merged
    for name, value in flatten(changes).items():
        assert flatten(merged)[name] == value
    assert set(differing_settings([config, merged])) <= {
        name for source in (flatten(config), flatten(changes)) for name in source
    }


SETTINGS = ["model.stem", "model.label_smoothing", "trainer.max_epochs", "data.init_args.batch_size", "target_acc"]


@settings(max_examples=150)
@given(st.sampled_from(SETTINGS), JSON)
def test_a_setting_of_any_value_is_taken_or_refused_with_its_name(setting, value):
    section: object = value
    for part in reversed(setting.split(".")):
        section = {part: section}
    message = ""
    try:
        assert flatten(resolve_config(section))["model.backbone"] == "resnet18"
    except ConfigurationError as error:
        message = str(error)
    assert not message or setting.split(".")[0] in message


@given(
    st.lists(
        st.text("'=+-@\t\n\r ;,\"\uff1d\uff0da1", max_size=6) | st.integers() | st.floats(allow_nan=False), min_size=2
    )
)
def test_no_cell_of_a_csv_file_is_a_formula_and_every_text_and_number_is_read_back(row):
    text = csv_text([row])
    (cells,) = csv.reader(io.StringIO(text, newline=""))
    for value, cell in zip(row, cells, strict=True):
        if isinstance(value, str):
            assert plain_text(cell) == value
            assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0d"))
            assert not cell.startswith(("\t", "\r", "\n"))
        else:
            assert type(value)(cell) == value


def test_the_program_beside_an_onnx_file_writes_cells_as_the_package_does(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    program = runpy.run_path(str(Path(files.__file__).with_name("inference") / "predict_onnx.py"))
    for text in ("=1+1.png", "'=1", " -2", "\tx", "plain", "'quoted", "a=1", ""):
        assert program["cell"](text) == csv_cell(text)
