"""A comparison whose runs are in one file."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers import run_result

from cnn_compare import write_report
from cnn_compare.archive import ARCHIVE, KEPT_BESIDE, pack, unpack
from cnn_compare.report.load import find_runs
from cnn_compare.results import MANIFEST, SEARCH, RunFolder


@pytest.fixture
def comparison(tmp_path):
    """Two networks, one of them with a damaged file, and a trial of a search; each with curves."""
    folder = tmp_path / "mine"
    for number, backbone in enumerate(("lenet", "resnet18")):
        run = RunFolder(folder / backbone / "seed_0")
        run.save_result(run_result(backbone=backbone, test_acc_pct=60.0 + 9 * number, test_images=1000))
        run.save_config({"model": {"backbone": backbone}, "trainer": {}, "data": {}})
        run.curves.write_text("epoch,val/acc\n0,0.5\n1,0.6\n" if number else "no curves")
    RunFolder(folder / SEARCH / "lenet+trial_0" / "seed_0").save_result(run_result(best_val_acc_pct=40.0))
    (folder / MANIFEST).write_text(json.dumps({"name": "mine", "runs": []}))
    return folder


def test_an_archived_comparison_is_reported_byte_for_byte_as_its_folder(comparison):
    written = ("report.md", "results.json", "results.csv")
    write_report(comparison)
    before = [(comparison / name).read_bytes() for name in written]
    trials = find_runs(comparison).trials
    (comparison / "report.html").unlink()
    pack(comparison)
    assert sorted(path.name for path in comparison.iterdir()) == sorted([*KEPT_BESIDE, ARCHIVE])
    assert find_runs(comparison).trials == trials
    write_report(comparison)
    assert [(comparison / name).read_bytes() for name in written] == before
    assert b"it holds no curves" in before[0]


def test_a_folder_of_archived_and_other_comparisons_is_read_whole(comparison, tmp_path):
    shutil.copytree(comparison, tmp_path / "other")
    pack(comparison)
    networks = {run.network for run in find_runs(tmp_path).finished}
    assert networks == {"mine/lenet", "mine/resnet18", "other/lenet", "other/resnet18"}


def test_the_same_files_give_the_same_archive_and_come_back_unchanged(comparison, tmp_path):
    def files(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    shutil.copytree(comparison, tmp_path / "other")
    before = files(comparison)
    pack(comparison)
    pack(tmp_path / "other")
    archive = (comparison / ARCHIVE).read_bytes()
    assert (tmp_path / "other" / ARCHIVE).read_bytes() == archive
    unpack(comparison)
    assert files(comparison) == {**before, (comparison / ARCHIVE).relative_to(comparison): archive}
