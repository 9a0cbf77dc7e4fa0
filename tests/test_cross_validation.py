"""Comparisons with folds: what is planned, refused, resumed and reported."""

from __future__ import annotations

import pytest
from helpers import DATA, small_comparison

from cnn_compare.comparison.plan import Comparison, plan_runs, repeated, until_decided
from cnn_compare.configs import differences, merge_config
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import resolve_config


def planned(**options):
    config = resolve_config({"data": DATA, "model": {"num_classes": 10}, "trainer": {"max_epochs": 1}})
    settings = {"name": "small", "backbones": ["lenet", "resnet20"], "seeds": [0, 1], "config": config, "folds": 3}
    return Comparison(**{**settings, **options})


def test_a_plan_has_one_run_for_each_network_seed_and_fold_with_the_same_folds_for_all_networks():
    specs = plan_runs(planned())
    assert len(specs) == 2 * 2 * 3
    assert [(spec.seed, spec.fold) for spec in specs[::2]] == [(s, f) for s in (0, 1) for f in (0, 1, 2)]
    assert {spec.backbone for spec in specs[:2]} == {"lenet", "resnet20"}
    for spec in specs:
        assert spec.folder.path.parts[-3:] == (spec.backbone, f"seed_{spec.seed}", f"fold_{spec.fold}")
        options = spec.config["data"]["init_args"]
        assert (options["fold"], options["split_seed"]) == ([spec.fold, 3], spec.seed)
    varied = {"model.backbone", "seed_everything", "data.init_args.fold", "data.init_args.split_seed"}
    assert set(differences([spec.config for spec in specs])) == varied


def test_a_repeat_is_a_seed():
    assert repeated([0], 5, 3) == [0, 1, 2]
    assert repeated([4, 7], 5, None) == [4, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, r"folds must be at least 2"),
        ({"repeats": 2}, r"repeats must be left out without folds"),
        ({"folds": 2, "repeats": 0}, r"repeats must be at least 1"),
        ({"folds": 2, "repeats": 2, "seeds": [0, 1]}, r"repeats must be left out with seeds"),
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
        until_decided(planned(), 5)
