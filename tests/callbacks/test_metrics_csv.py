from __future__ import annotations

import csv

import pytest

from cnn_compare.callbacks import EpochTimer, MetricsCsv

# As the training of conftest.py logs them, three steps an epoch.
ROWS = [
    {"epoch": 0, "step": 3, "train/loss": 9.1037, "train/acc": 0.156, "val/loss": 11.9101, "val/acc": 0.1925},
    {"epoch": 1, "step": 6, "train/loss": 2.25, "train/acc": 0.25, "val/loss": 2.5, "val/acc": 0.449057},
    {"epoch": 2, "step": 9, "train/loss": 1.5, "train/acc": 0.5, "val/loss": 1.75, "val/acc": 0.4375},
]


def rows_of(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    return [{name: float(cell) for name, cell in row.items() if cell != ""} for row in rows]


def test_every_epoch_is_a_row_of_everything_logged(train, tmp_path):
    train(MetricsCsv(tmp_path / "run/metrics.csv"))
    assert rows_of(tmp_path / "run/metrics.csv") == [pytest.approx(row) for row in ROWS]


def test_values_that_other_callbacks_log_are_there_too(train, tmp_path):
    train(EpochTimer(), MetricsCsv(tmp_path / "metrics.csv"), seconds={"step": 0.25, "validation": 2.0})
    rows = rows_of(tmp_path / "metrics.csv")
    assert [row["time/train_epoch_s"] for row in rows] == [0.75, 1.5, 2.25]
    assert [row["time/val_epoch_s"] for row in rows] == [6.0] * 3


def test_a_killed_training_leaves_the_rows_of_its_whole_epochs(train, tmp_path):
    train(MetricsCsv(tmp_path / "metrics.csv"), killed_in=2)
    assert rows_of(tmp_path / "metrics.csv") == [pytest.approx(row) for row in ROWS[:2]]


@pytest.mark.parametrize("left", ["whole", "nothing"])
def test_a_resumed_training_leaves_the_file_of_an_uninterrupted_one(train, tmp_path, left):
    train(MetricsCsv(tmp_path / "whole.csv"))
    train(MetricsCsv(tmp_path / "metrics.csv"), killed_in=2)
    if left == "nothing":
        (tmp_path / "metrics.csv").unlink()
    train(MetricsCsv(tmp_path / "metrics.csv"), resume=True)
    assert (tmp_path / "metrics.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_epoch_without_validation_leaves_its_cells_empty(train, tmp_path):
    train(EpochTimer(), MetricsCsv(tmp_path / "metrics.csv"), check_val_every_n_epoch=2, seconds={"step": 1.0})
    rows = rows_of(tmp_path / "metrics.csv")
    assert [row.get("val/acc") for row in rows] == [None, pytest.approx(0.449057), None]
    assert ["time/val_epoch_s" in row for row in rows] == [False, True, False]
    assert [row["train/loss"] for row in rows] == [pytest.approx(9.1037), 2.25, 1.5]
