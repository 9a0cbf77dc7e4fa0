"""Random search: equal trials for all networks, chosen by validation, never tested."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import yaml
from helpers import DATA, Shown, shown, small_comparison, stored_comparison

from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.comparison.search import Search, read_search, trials_of
from cnn_compare.configs import flatten
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import resolve_config
from cnn_compare.report import write_report
from cnn_compare.report.load import find_runs
from cnn_compare.report.sections.search import expected_best, searched_of
from cnn_compare.results import RunResult

LR, SMOOTHING = "model.optimizer.init_args.lr", "model.label_smoothing"
SPACE = {LR: {"log_uniform": [0.0001, 0.1]}, SMOOTHING: {"choice": [0.0, 0.1]}}


@pytest.fixture(scope="module")
def resolved_config():
    return resolve_config({"data": DATA, "model": {"num_classes": 10}})


def test_more_trials_keep_those_before_them_and_another_seed_draws_others():
    few, many = Search(SPACE, trials=3), Search(SPACE, trials=9)
    assert [few.settings(trial, 0) for trial in range(3)] == [many.settings(trial, 0) for trial in range(3)]
    assert few.settings(0, 0) != few.settings(0, 1)


def test_draws_are_those_of_the_distributions():
    search = Search({**SPACE, "model.x": {"uniform": [-1, 3]}})
    drawn = [flatten(search.settings(trial, 0)) for trial in range(2000)]
    rates = np.log10([settings[LR] for settings in drawn])
    assert rates.min() >= -4
    assert rates.max() <= -1
    np.testing.assert_allclose(np.quantile(rates, [0.25, 0.5, 0.75]), [-3.25, -2.5, -1.75], atol=0.1)
    assert abs(np.mean([settings[SMOOTHING] == 0.1 for settings in drawn]) - 0.5) < 0.05
    assert abs(np.mean([settings["model.x"] for settings in drawn]) - 1) < 0.1


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (lambda: Search({}), "search must be settings"),
        (lambda: Search({LR: {"normal": [0, 1]}}), r"must be one of \{uniform"),
        (lambda: Search({LR: 0.1}), r"must be one of \{uniform"),
        (lambda: Search({LR: {"uniform": [1]}}), "two numbers, the lower one first"),
        (lambda: Search({LR: {"uniform": [1, "x"]}}), "two numbers, the lower one first"),
        (lambda: Search({LR: {"uniform": [2, 1]}}), "two numbers, the lower one first"),
        (lambda: Search({LR: {"log_uniform": [0, 1]}}), "two numbers above 0"),
        (lambda: Search({LR: {"uniform": [0, math.inf]}}), "two numbers, the lower one first"),
        (lambda: Search({LR: {"choice": []}}), r"must be one of \{uniform"),
        (lambda: Search(SPACE, trials=1), "trials must be at least 2"),
        (lambda: Search(SPACE, budget_s=0), "search_budget_s must be more than 0"),
    ],
)
def test_an_impossible_search_is_refused(search, message):
    with pytest.raises(InvalidValueError, match=message):
        search()


def test_a_search_is_read_from_a_file_by_its_path_or_name(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(f"{LR}: {{log_uniform: [1e-5, 1]}}\n{SMOOTHING}: {{choice: [0, 0.1]}}\n")
    expected = {LR: {"log_uniform": [0.00001, 1]}, SMOOTHING: {"choice": [0, 0.1]}}
    assert read_search(str(path)).space == expected
    assert LR in read_search("sgd").space
    with pytest.raises(InvalidValueError, match="search must be a file, or one of sgd"):
        read_search("adam")
    path.write_text("a: [")
    with pytest.raises(InvalidValueError, match="a YAML file of settings and distributions"):
        read_search(str(path))


def test_trials_differ_in_what_is_searched_alone_and_are_the_same_for_all_networks(resolved_config):
    comparison = Comparison("c", ["lenet", "resnet20"], [3, 4], config=resolved_config)
    specs = plan_runs(trials_of(comparison, Search(SPACE, trials=4)))
    assert len(specs) == 8
    assert {spec.key.seed for spec in specs} == {3}
    assert not any(spec.tested for spec in specs)
    by_trial = {}
    for spec in specs:
        by_trial.setdefault(spec.key.variant, []).append(spec.declared_changes)
    assert all(first == second for first, second in by_trial.values())
    assert {name for changes in by_trial.values() for name in changes[0]} == {LR, SMOOTHING}


@pytest.mark.parametrize("options", [{"variants": {"a": {}}}, {"folds": 3}, {"train_subsets": [20, 40]}])
def test_a_search_beside_variants_folds_or_subsets_is_refused(resolved_config, options):
    with pytest.raises(InvalidValueError, match="search must be left out with"):
        trials_of(Comparison("c", ["lenet"], [0], config=resolved_config, **options), Search(SPACE))


def test_a_search_is_refused_where_the_own_recipe_would_replace_what_is_tried(resolved_config):
    with pytest.raises(InvalidValueError, match="own_recipe must be false with search"):
        trials_of(Comparison("c", ["lenet"], [0], config={**resolved_config, "own_recipe": True}), Search(SPACE))


def test_a_variant_for_a_backbone_that_is_not_compared_is_refused(resolved_config):
    variants = {"a": {"backbones": {"lenett": {"model": {"label_smoothing": 0.1}}}}}
    with pytest.raises(
        InvalidValueError, match=r"variants\.a\.backbones must be one of the compared lenet, .*'lenett'"
    ):
        plan_runs(Comparison("c", ["lenet"], [0], config=resolved_config, variants=variants))


def test_validation_chooses_the_settings_which_alone_are_trained_with_all_seeds_and_tested(tmp_path):
    options = {"backbones": ["lenet_relu"], "seeds": [0, 1], "search": SPACE, "trials": 3}
    folder = small_comparison(tmp_path, **options)
    trials = {path.parts[-3]: json.loads(path.read_text()) for path in folder.glob("search/*/seed_*/result.json")}
    assert len(trials) == 3
    accuracies = {name: trial["metrics"]["best_val_acc_pct"]["value"] for name, trial in trials.items()}
    for name, trial in trials.items():
        assert not any(metric.startswith("test_") for metric in trial["metrics"])
        assert not (folder / "search" / name / "seed_0" / "predictions.npz").exists()
    best = max(accuracies, key=accuracies.get)
    chosen = yaml.safe_load((folder / "search" / best / "seed_0" / "config.yaml").read_text())
    for seed in (0, 1):
        tuned = yaml.safe_load((folder / "lenet_relu+tuned_3" / f"seed_{seed}" / "config.yaml").read_text())
        assert tuned["model"] == chosen["model"]
    summary = Shown(write_report(folder))
    assert {network.name for network in summary.networks} == {"lenet_relu (common)", "lenet_relu (tuned_3)"}
    (searched,) = summary.searched
    assert searched.trials == 3
    assert searched.expected_pct[0] == pytest.approx(np.mean([*accuracies.values()]))
    assert "## Search" in (folder / "report.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    small_comparison(tmp_path, **options)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == before


def test_a_network_begins_no_trial_after_its_time_is_spent(tmp_path):
    folder = small_comparison(
        tmp_path, backbones=["lenet"], search=SPACE, trials=4, search_budget_s=1e-6, on_existing="overwrite"
    )
    assert [path.name for path in (folder / "search").iterdir() if path.is_dir()] == ["lenet+trial_0"]


def test_expected_best_is_the_mean_over_all_draws_without_replacement_and_ends_at_the_best():
    values = [61.0, 70.5, 58.0, 66.0, 66.0]
    for draws in range(1, 6):
        every = [max(some) for some in itertools.combinations(values, draws)]
        assert expected_best(values)[draws - 1] == pytest.approx(np.mean(every))
    assert expected_best(values)[-1] == 70.5
    assert expected_best([]) == []


def test_the_table_of_a_search_sets_what_validation_promised_beside_other_seeds_and_the_common_settings(tmp_path):
    folder = stored_comparison("tuned", tmp_path)
    found = searched_of(find_runs(folder))
    for each in found:
        best = f"{each.backbone}+tuned_8"
        results = {
            (name, seed): RunResult.load(folder / name / f"seed_{seed}" / "result.json")
            for name in (best, f"{each.backbone}+common")
            for seed in (0, 1, 2)
        }
        validated = {key: result.value("best_val_acc_pct") for key, result in results.items()}
        assert each.expected_pct[-1] == pytest.approx(validated[best, 0])  # The chosen trial is that run.
        assert each.retest_pct == pytest.approx(np.mean([validated[best, 1], validated[best, 2]]))
        assert each.common_pct == validated[f"{each.backbone}+common", 0]
    table = shown(folder).tables["search"]
    assert len(table.rows) == 2 * len(found)
    assert table.rows[0][-1] == "the common settings"
    assert f"{found[0].expected_pct[-1]:.2f}" in table.rows[1]
