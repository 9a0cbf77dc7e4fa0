"""Comparisons over numbers of training images: what is planned, refused, resumed and reported."""

from __future__ import annotations

import pytest
import yaml
from helpers import DATA, Shown, run_command, small_comparison

from cnn_compare import load_results, write_report
from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.comparison.turns import _configs
from cnn_compare.configs import differing_settings, merge_config
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import resolve_config

ALL = merge_config(DATA, {"init_args": {"train_subset": None}})


def planned(**options):
    config = resolve_config({"data": ALL, "model": {"num_classes": 10}, "trainer": {"max_epochs": 1}})
    settings = {"name": "small", "backbones": ["lenet", "resnet20"], "seeds": [0, 1], "config": config}
    return plan_runs(Comparison(**{**settings, "train_subsets": [60, 120], **options}))


def test_a_plan_has_one_run_for_each_network_subset_and_seed_and_nothing_else_differs():
    specs = planned()
    assert len(specs) == 2 * 2 * 2
    assert [spec.key.seed for spec in specs] == [0] * 4 + [1] * 4
    assert [spec.key.train_subset for spec in specs if spec.key.backbone == "lenet"] == [120, 60, 120, 60]
    for spec in specs:
        assert spec.folder.path.parts[-3:] == (
            spec.key.backbone,
            f"train_{spec.key.train_subset}",
            f"seed_{spec.key.seed}",
        )
        assert spec.config["data"]["init_args"]["train_subset"] == spec.key.train_subset
        assert not spec.declared_changes
    varied = {"model.backbone", "seed_everything", "data.init_args.train_subset"}
    assert set(differing_settings([spec.config for spec in specs])) == varied


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_subsets": [100]}, "train_subsets must be two numbers of training images or more"),
        ({"train_subsets": [120, 60]}, "each larger than the one before, and is"),
        ({"train_subsets": [60, 60]}, "each larger than the one before, and is"),
        ({"train_subsets": [9, 60]}, "train_subsets must be numbers from 10, one image a class"),
        ({"train_subsets": [-5, 60]}, "train_subsets must be numbers from 10, one image a class"),
        ({"train_subsets": [60, 5000]}, "train_subsets must be from 10 .* to 1387 for this data, and is 5000"),
        ({"train_subsets": [60, 120], "data": DATA}, r"data\.train_subset must be left out with train_subsets"),
        ({"train_subsets": [60, 120], "folds": 2}, "train_subsets must be left out with folds"),
    ],
)
def test_subsets_that_cannot_work_are_refused_before_anything_runs(tmp_path, options, message):
    with pytest.raises(InvalidValueError, match=message):
        small_comparison(tmp_path, **{"data": ALL, **options})
    assert not [*tmp_path.rglob("result.json")]


def test_a_variant_must_not_change_the_number_of_images():
    with pytest.raises(InvalidValueError, match=r"data\.train_subset must be left out with train_subsets"):
        planned(variants={"few": {"data": {"init_args": {"train_subset": 50}}}})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return small_comparison(folder, data=ALL, trainer={"max_epochs": 1}, seeds=[0, 1], train_subsets=[60, 120])


def test_the_report_is_about_the_largest_subset(finished):
    table = load_results(finished)
    assert sorted(zip(table.train_subset, table.seed, strict=True)) == [(n, s) for n in (60, 120) for s in (0, 1)]
    assert (table.train_images == table.train_subset).all()
    summary = Shown(write_report(finished))
    (network,) = summary.networks
    largest = table[table.train_subset == 120].sort_values("seed").test_acc_pct.tolist()
    assert network.test_acc_pct == pytest.approx(largest)
    (growth,) = summary.growth
    assert {size: len(each) for size, each in growth.test_acc_pct.items()} == {60: 2, 120: 2}
    assert summary.unfinished is None
    assert not [text for text in summary.warnings if "mixed" in text]


def test_turns_are_taken_with_the_largest_subset(finished):
    assert {name: config["data"]["init_args"]["train_subset"] for name, config in _configs(finished).items()} == {
        "lenet": 120
    }


def test_the_same_call_repeats_nothing_and_another_size_is_added(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("result.json")}
    options = {"data": ALL, "trainer": {"max_epochs": 1}, "seeds": [0, 1]}
    small_comparison(finished.parent, **options, train_subsets=[60, 120])
    small_comparison(finished.parent, **options, train_subsets=[60, 120, 240])
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("result.json")}
    assert len(after) == len(before) + 2
    assert before.items() <= after.items()
    assert [*Shown(write_report(finished)).growth[0].test_acc_pct] == [60, 120, 240]


def test_the_command_takes_the_subsets_from_a_file_and_shows_the_plan(tmp_path, capsys):
    file = tmp_path / "growing.yaml"
    content = {"name": "growing", "backbones": ["lenet"], "train_subsets": [60, 120], "data": ALL}
    file.write_text(yaml.safe_dump({**content, "log_dir": str(tmp_path), "trainer": {"max_epochs": 1}}))
    status, shown, _ = run_command(["compare", "--config", str(file), "--dry_run"], capsys)
    assert status == 0
    assert "training images" in shown
    status, _, message = run_command(["compare", "--config", str(file), "--train_subsets=[120,60]"], capsys)
    assert status == 2
    assert "InvalidValueError: --train_subsets must be two numbers of training images or more" in message
