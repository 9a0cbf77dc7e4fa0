"""Comparisons with folds: what is planned, refused, resumed and reported."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from helpers import DATA, Shown, run_command, small_comparison
from PIL import Image

from cnn_compare import load_results, write_report
from cnn_compare.comparison.plan import Comparison, plan_runs, until_decided
from cnn_compare.configs import differing_settings, merge_config
from cnn_compare.errors import ComparisonExistsError, DataError, InvalidValueError
from cnn_compare.experiment import resolve_config
from cnn_compare.results import MANIFEST, SPLITS_FILE


def planned(**options):
    config = resolve_config({"data": DATA, "model": {"num_classes": 10}, "trainer": {"max_epochs": 1}})
    settings = {"name": "small", "backbones": ["lenet", "resnet20"], "seeds": [0, 1], "config": config, "folds": 3}
    return Comparison(**{**settings, **options})


def test_a_plan_has_one_run_for_each_network_seed_and_fold_with_the_same_folds_for_all_networks():
    specs = plan_runs(planned())
    assert len(specs) == 2 * 2 * 3
    assert [(spec.key.seed, spec.key.fold) for spec in specs[::2]] == [(s, f) for s in (0, 1) for f in (0, 1, 2)]
    assert {spec.key.backbone for spec in specs[:2]} == {"lenet", "resnet20"}
    for spec in specs:
        assert spec.folder.path.parts[-3:] == spec.key.path.parts
        options = spec.config["data"]["init_args"]
        assert (options["fold"], options["split_seed"]) == ([spec.key.fold, 3], spec.key.seed)
    varied = {"model.backbone", "seed_everything", "data.init_args.fold", "data.init_args.split_seed"}
    assert set(differing_settings([spec.config for spec in specs])) == varied


def test_a_repeat_is_a_seed():
    assert planned(seeds=0, folds=5).all_seeds == [0]
    assert planned(seeds=[4, 7], folds=5).all_seeds == [4, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, r"folds must be at least 2"),
        ({"folds": 2, "data": merge_config(DATA, {"init_args": {"fold": [0, 2]}})}, r"data\.fold must be left out"),
        ({"folds": 2, "data": merge_config(DATA, {"init_args": {"split_seed": 1}})}, r"data\.split_seed must be left"),
    ],
)
def test_folds_that_cannot_work_are_refused_before_anything_runs(tmp_path, options, message):
    with pytest.raises(InvalidValueError, match=message):
        small_comparison(tmp_path, **options)
    assert not [*tmp_path.iterdir()]


def test_looks_at_more_and_more_repeats_are_refused():
    with pytest.raises(InvalidValueError, match="seeds_until_decided must be left out with folds"):
        until_decided(planned(seeds_until_decided=5))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of pictures by eight persons, one of each class a person, in a table."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["path,label,group"]
    for number in range(16):
        name = f"picture {number:02}.png"
        Image.new("RGB", (8, 8), (255 * (number % 2), 15 * number, 0)).save(folder / name)
        lines.append(f"{name},{'ab'[number % 2]},person {number // 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return {
        "class_path": "FolderDataModule",
        "init_args": {"labels": str(folder / "labels.csv"), "val_size": 2, "batch_size": 4, "image_size": 32},
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pictures):
    """Two folds, then a second repeat."""
    logs = tmp_path_factory.mktemp("logs")
    once = {"data": pictures, "folds": 2, "trainer": {"max_epochs": 1}, "model": {"stem": "cifar"}}
    small_comparison(logs, **once)
    first = {path: path.stat().st_mtime_ns for path in logs.rglob("result.json")}
    folder = small_comparison(logs, **once, seeds=[0, 1])
    return folder, first, once


def test_a_second_repeat_leaves_the_first_as_it_was(finished):
    folder, first, _ = finished
    names = [f"seed_{seed}/fold_{fold}" for seed in (0, 1) for fold in (0, 1)]
    assert sorted(path.parent.relative_to(folder / "lenet").as_posix() for path in folder.rglob("result.json")) == names
    assert len(first) == 2
    assert {path: path.stat().st_mtime_ns for path in first} == first
    manifest = json.loads((folder / MANIFEST).read_text())
    assert (manifest["folds"], manifest["seeds"]) == (2, [0, 1])
    assert [(run["seed"], run["fold"]) for run in manifest["runs"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert manifest["ended"]


def test_every_picture_is_tested_once_a_repeat_with_its_group(finished):
    folder, _, _ = finished
    for seed in (0, 1):
        stored = [np.load(path) for path in sorted(folder.glob(f"lenet/seed_{seed}/fold_*/predictions.npz"))]
        assert sorted(np.concatenate([each["rows"] for each in stored]).tolist()) == list(range(16))
        for each in stored:
            assert each["labels"].tolist() == (each["rows"] % 2).tolist()
            assert each["groups"].tolist() == (each["rows"] // 2).tolist()
        assert not set(stored[0]["groups"]) & set(stored[1]["groups"])


def test_each_repeat_has_a_table_of_its_folds(finished):
    folder, _, _ = finished
    for seed, name in ((0, SPLITS_FILE), (1, "splits+seed_1.csv")):
        with (folder / name).open(newline="") as file:
            fold_of = {
                int(row["path"].split()[1].removesuffix(".png")): int(row["fold"]) for row in csv.DictReader(file)
            }
        for fold in (0, 1):
            rows = np.load(folder / "lenet" / f"seed_{seed}" / f"fold_{fold}" / "predictions.npz")["rows"]
            assert sorted(rows.tolist()) == [number for number, where in fold_of.items() if where == fold]


def test_the_report_has_folds_and_repeats(finished):
    folder, _, _ = finished
    assert load_results(folder).fold.tolist() == [0, 1, 0, 1]
    summary = Shown(write_report(folder))
    assert summary.json["folds"] == "2 folds × 2 repeats"
    assert summary.unfinished is None
    assert not [warning for warning in summary.warnings if "mixed" in warning]
    assert (summary.test_images, summary.test_groups) == (16, 8)


def test_a_lost_manifest_is_rebuilt_from_the_folds_and_other_folds_are_refused(finished, capfd):
    folder, _, once = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    (folder / MANIFEST).unlink()
    small_comparison(folder.parent, **once, seeds=[0, 1])
    assert "is rebuilt from the runs' configurations" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == before
    for folds, told in ((4, "folds is 2 there and 4 now"), (None, "folds is 2 there and None now")):
        with pytest.raises(ComparisonExistsError, match=told):
            small_comparison(folder.parent, **{**once, "folds": folds})


def test_one_fold_of_a_run_is_named_in_rerun_and_in_a_dry_run(finished, capsys):
    folder, _, once = finished
    options = [f"--data.{name}={value}" for name, value in once["data"]["init_args"].items()]
    given = ["compare", "--name=small", f"--log_dir={folder.parent}", "--backbones=lenet", "--trainer.max_epochs=1"]
    given += ["--model.stem=cifar", "--folds=2", "--times=never", "--data=FolderDataModule", *options, "--dry_run"]
    status, shown, told = run_command([*given, "--rerun=[lenet/0/1]"], capsys)
    assert status == 0, told
    rows = [line for line in shown.splitlines() if "lenet" in line and "│" in line]
    assert ["finished" in row for row in rows] == [True, False]
    status, _, told = run_command([*given, "--rerun=[lenet/0]"], capsys)
    assert status == 2
    assert "a run of this command: lenet/0/0, lenet/0/1" in told


def test_a_class_of_fewer_persons_than_folds_is_refused_before_anything_runs(tmp_path, pictures):
    with pytest.raises(DataError, match="2 classes cannot be in each of 9 folds: 'a' has 8 groups"):
        small_comparison(tmp_path, data=pictures, folds=9)
    assert not [*tmp_path.rglob("result.json")]
