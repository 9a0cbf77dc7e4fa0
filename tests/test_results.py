from __future__ import annotations

import csv
import json
import math
import os
import re
from pathlib import Path

import pytest
from helpers import run_result

from cnn_compare.errors import ResultError
from cnn_compare.files import write_bytes, write_csv, write_text
from cnn_compare.results import RunResult, first_reached, training_s, usual_epoch_s, validation_lags

FINISHED = run_result(
    backbone="lenet",
    seed=3,
    status="finished",
    test_acc_pct=62.5,
    test_top5_pct=96.875,
    test_macro_f1_pct=61.0,
    test_loss=1.0625,
    best_val_acc_pct=63.2,
    best_epoch=1,
    train_acc_pct=70.1,
    train_images=1000,
    test_images=10_000,
    train_epochs_s=[9.0, 2.5],
    train_epoch_s=2.5,
    first_epoch_s=9.0,
    val_epochs_s=[0.5, 0.25],
    fit_s=13.0,
    images_per_s=400.0,
    params=62_006,
    macs=416_520,
    training_memory_bytes=2**33,
    device="cpu: a processor, 2 threads",
    precision="32-true",
    versions={"torch": "2.15.0"},
    data_fingerprint="0123456789abcdef",
)
FAILED = RunResult(backbone="my_pkg.nets:tiny_net", seed=0, status="failed", reason='out of memory: "größer"\n≥ 8 GiB')


@pytest.fixture
def path(tmp_path):
    return tmp_path / "resnet18/seed_0/result.json"


def refused(path, content, message):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ResultError, match=f"^{re.escape(str(path))} holds no readable result: .*{message}") as caught:
        RunResult.load(path)
    assert caught.value.path == path
    assert caught.value.exit_status == 1


# RunResult


@pytest.mark.parametrize("result", [FINISHED, FAILED], ids=["finished", "failed"])
def test_a_result_comes_back_from_its_file_as_it_was(path, result):
    result.save(path)
    assert RunResult.load(path) == result


def test_numbers_that_a_diverged_training_gives_come_back_too(path):
    run_result(test_acc_pct=10.0, test_loss=math.nan, fit_s=math.inf).save(path)
    loaded = RunResult.load(path)
    assert math.isnan(loaded.value("test_loss"))
    assert loaded.value("fit_s") == math.inf


def test_the_file_is_json_with_every_metrics_value_unit_and_direction(path):
    FINISHED.save(path)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert {"backbone", "seed", "status", "schema", "device", "precision", "versions", "data_fingerprint"} <= set(
        stored
    )
    assert (stored["schema"], stored["train_epochs_s"]) == (2, [9.0, 2.5])
    assert stored["metrics"]["test_acc_pct"] == {"value": 62.5, "unit": "%", "larger_is_better": True}
    assert stored["metrics"]["train_epoch_s"] == {"value": 2.5, "unit": "s", "larger_is_better": False}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([], None), ([9.0], 9.0), ([9.0, 2.0], 2.0), ([9.0, 2.0, 4.0], 3.0), ([9.0, 10.0, 1.0, 3.0, 2.0], 2.5)],
)
def test_a_usual_epoch_is_the_median_without_the_first(seconds, expected):
    assert usual_epoch_s(seconds) == expected


def test_a_level_is_reached_when_the_curve_first_gets_there():
    assert first_reached([10, 50, 40, 60], [2, 3, 4, 5], 50) == 5
    assert first_reached([10, 50, 40, 60], [2, 3, 4, 5], 60) == 14
    assert first_reached([10, 50], [2, 3], 60) is None


def test_a_missing_file_is_an_error_that_says_so(path):
    with pytest.raises(ResultError, match=r"result\.json holds no readable result: the file is missing\.$"):
        RunResult.load(path)


def test_a_file_cut_off_anywhere_is_an_error(path):
    FINISHED.save(path)
    whole = path.read_bytes().rstrip()
    for size in range(len(whole)):
        refused(path, whole[:size], "it cannot be read as JSON")


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"\x00" * 100, "backbone: lenet", "[" * 100_000, '{"seed": 1,}'],
    ids=["no UTF-8", "zeros", "YAML", "too deep", "almost JSON"],
)
def test_a_file_of_something_else_is_an_error(path, content):
    refused(path, content, "it cannot be read as JSON")


def test_a_folder_in_place_of_the_file_is_an_error(path):
    path.mkdir(parents=True)
    with pytest.raises(ResultError):
        RunResult.load(path)


@pytest.mark.parametrize(
    ("content", "found"), [("[]", "None"), ("null", "None"), ("1", "None"), ('"x"', "None"), ("{}", "None")]
)
def test_json_without_a_schema_is_an_error(path, content, found):
    refused(path, content, f"its schema is {found}, and this version reads 2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 1}, "its schema is 1, and this version reads 2"),
        ({"schema": "2"}, "its schema is '2', and"),
        ({"accuracy": 1.0}, r"its fields are not those of a RunResult \(accuracy\)"),
        ({"b": 1, "a": 2}, r"\(a, b\)"),
        ({"status": "running"}, r"\(status\)"),
        ({"status": ["finished"]}, r"\(status\)"),
        ({"status": None}, r"\(status\)"),
    ],
)
def test_another_schema_or_other_fields_are_errors(path, changes, message):
    FINISHED.save(path)
    refused(path, json.dumps({**json.loads(path.read_text()), **changes}), message)


@pytest.mark.parametrize("name", ["backbone", "seed", "status"])
def test_a_result_that_does_not_say_whose_it_is_is_an_error(path, name):
    FINISHED.save(path)
    stored = json.loads(path.read_text())
    del stored[name]
    refused(path, json.dumps(stored), rf"\({name}\)")


# Files that are whole or not there


@pytest.mark.parametrize("broken", [(os, "fsync"), (Path, "replace")], ids=["while writing", "while renaming"])
@pytest.mark.parametrize("old", [b"old", None], ids=["over an old file", "for the first time"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken, old):
    path = tmp_path / "file.txt"
    if old is not None:
        path.write_bytes(old)

    def no_space(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*broken, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ([] if old is None else ["file.txt"])
    assert old is None or path.read_bytes() == old


def test_a_file_gets_its_name_when_its_whole_content_is_on_the_disk(tmp_path, monkeypatch):
    path, events = tmp_path / "a/b/file.txt", []

    def fsync(descriptor):
        events.append(("on disk", os.fstat(descriptor).st_size, path.exists()))

    rename = Path.replace
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda *args: events.append(("renamed", args[0].parent)) or rename(*args))
    write_text(path, "größer")
    assert events == [("on disk", 8, False), ("renamed", path.parent)]
    assert path.read_bytes() == "größer".encode()
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def test_rows_may_name_different_columns_and_hold_any_text(tmp_path):
    rows = [{"a": 1, "b": 'say "no", twice\nor more'}, {"c": None, "a": 0.1}]
    write_csv(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open(newline="") as file:
        read = list(csv.reader(file, strict=True))
    assert read == [["a", "b", "c"], ["1", 'say "no", twice\nor more', ""], ["0.1", "", ""]]


def test_no_rows_are_a_file_without_columns(tmp_path):
    write_csv(tmp_path / "rows.csv", [])
    assert (tmp_path / "rows.csv").read_text() == "\n"


@pytest.mark.parametrize(
    ("train", "val", "lags"),
    [
        ([34.0, 50.0], [10.0, 45.0], True),
        ([20.0, 30.0, 50.0], [18.0, 20.0, 12.0], True),
        ([20.0, 30.0, 40.0, 90.0], [20.0, 30.0, 38.0, 40.0], False),  # Overfitting, later.
        ([15.0], [6.0], False),  # Both near chance.
        ([float("nan")], [10.0], False),
        ([], [], False),
    ],
)
def test_validation_far_below_training_is_said_of_the_first_three_epochs_only(train, val, lags):
    assert (validation_lags(train, val) is not None) == lags


def test_seconds_of_training_are_counted_once_where_an_epoch_has_several_rows():
    rows = [(0, 1.0), (0, 3.0), (1, 0.5), (1, math.nan), (1, 2.0), (2, 4.0)]
    assert training_s([{"epoch": epoch, "time/train_epoch_s": s} for epoch, s in rows]) == [1, 2, 0.5, 0, 1.5, 4]
    assert training_s([{"epoch": 0}]) == [0]
