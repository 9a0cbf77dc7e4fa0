"""The stored reports are what the program draws from their runs today, so that a change that moves a figure shows."""

from __future__ import annotations

import shutil

import pytest
from helpers import LOGS

from cnn_compare import write_report


@pytest.mark.parametrize("name", ["subset_5k", "pretrained", "sign_language_folds", "tuned"])
def test_a_stored_report_is_drawn_byte_for_byte_as_it_is_stored(name, tmp_path):
    copy = shutil.copytree(LOGS / name, tmp_path / name)
    write_report(copy)
    for file in ("report.md", "results.json", "results.csv"):
        assert (copy / file).read_bytes() == (LOGS / name / file).read_bytes(), file
