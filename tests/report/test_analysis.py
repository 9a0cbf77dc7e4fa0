from __future__ import annotations

import io
import json
import math
import re
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from helpers import Payload, Shown, run_command, run_result, shown, stored_comparison
from rich.console import Console
from scipy.stats import norm, sem, t
from statsmodels.stats.proportion import proportion_confint

from cnn_compare import load_results, write_report
from cnn_compare.cli import main
from cnn_compare.errors import InvalidValueError, NoTrainedNetworkError
from cnn_compare.inference.classifier import find_checkpoints
from cnn_compare.report.intervals import balanced_estimate, share_estimate
from cnn_compare.report.planning import what_seeds_establish
from cnn_compare.report.tables import terminal_table
from cnn_compare.results import RunFolder
from cnn_compare.run_key import RunKey
from cnn_compare.times import Times


@pytest.fixture
def summary(tmp_path):
    return lambda: shown(tmp_path)


def text(summary):
    return "\n".join(summary.verdict)


def test_networks_stand_in_the_order_of_their_accuracy_with_every_pair_compared(store_run, summary):
    store_run("lenet", right=range(600))
    store_run("resnet18", right=range(800))
    store_run("googlenet", right=range(790))
    found = summary()
    assert [network.name for network in found.networks] == ["resnet18", "googlenet", "lenet"]
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        *(("resnet18", "googlenet"), ("resnet18", "lenet"), ("googlenet", "lenet"))
    ]
    assert [round(pair.points.value, 6) for pair in found.pairs] == [1, 20, 19]


def test_the_ensemble_is_right_where_most_seeds_are_and_known_where_all_have_probabilities(
    store_run, summary, tmp_path
):
    # Equally certain, and each wrong in the same way: the mean probability is the majority's answer.
    seeds = [range(500), range(250, 700), [*range(100), *range(600, 900)]]
    for seed, right in enumerate(seeds):
        store_run("resnet18", seed=seed, right=right)
    (network,) = summary().networks
    majority = sum(sum(image in right for right in seeds) >= 2 for image in range(1000))
    assert network.ensemble_acc_pct == pytest.approx(majority / 10)
    store_run("lenet", right=range(600))
    assert {network.name: network.ensemble_acc_pct for network in summary().networks}["lenet"] is None
    path = tmp_path / "resnet18" / "seed_1" / "predictions.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "labels": arrays["labels"][::-1].copy()})
    assert all(network.ensemble_acc_pct is None for network in summary().networks)  # Of other images.
    confidence = arrays.pop("probabilities").max(1)
    np.savez(path, **arrays, confidence=confidence)
    assert all(network.ensemble_acc_pct is None for network in summary().networks)


def test_the_verdict_says_what_is_established_and_what_is_not(store_run, summary):
    store_run("resnet18", right=range(800), train_epoch_s=5.0)
    store_run("googlenet", right=[*range(1, 799), 999], train_epoch_s=6.0)
    store_run("lenet", right=range(600), train_epoch_s=1.0)
    found = summary()
    answer, order, cost, settle, not_covered = found.verdict
    best = "resnet18 has the highest accuracy: 80.00 % (95 % 77.41 … 82.36) on one seed"
    assert answer == f"{best}; googlenet cannot be told apart from it."
    groups = "resnet18, googlenet; then lenet"
    assert order == f"In order of accuracy: {groups}; every difference between these tiers is established."
    assert cost.startswith("No network is established as faster than resnet18")  # One epoch each: nothing tells.
    assert settle.startswith("More test images would narrow the intervals")
    assert not_covered.startswith("The intervals do not cover other seeds, other training images")
    assert "googlenet" in order
    assert len(found.tables["differences"].rows) == 3


def test_several_seeds_tell_what_more_would_show(store_run, summary):
    draw = np.random.default_rng(0)
    for seed in range(3):
        for name, share in (("a", 0.800), ("b", 0.790)):
            shift = draw.normal(0, 0.01)
            store_run(name, seed, right=np.flatnonzero(draw.random(1000) < share + shift))
    found = summary()
    (pair,) = found.pairs
    assert pair.seeds == (3, 3)
    assert not pair.differs
    now, twice, four_times = pair.detects_points.values()
    assert list(pair.detects_points) == [3, 6, 12]
    assert four_times < twice < now
    likely = f"With 6 seeds, a true difference of about {twice:.1f} points would be established in four cases of five"
    assert f"{likely} (with 3, one of {now:.1f})" in text(found)
    assert "b has the highest mean accuracy" in text(found)
    assert "on 3 seeds" in text(found)
    assert "this seed" not in text(found)
    network = found.networks[0]
    assert network.sd_points == pytest.approx(np.std(network.test_acc_pct, ddof=1))


def test_no_more_than_100_points_are_promised_of_two_seeds_of_many_networks(tmp_path):
    likely = what_seeds_establish(tmp_path, networks=8, seeds=2)
    assert "2 seeds of 8 networks: even the largest difference is not established" in likely
    assert all(float(points) < 100 for points in re.findall(r"one of ([\d.]+)", likely))


def test_all_seeds_of_both_networks_count_where_some_differ(store_run, summary):
    for seed in (0, 1, 2):
        store_run("a", seed, right=range(800 + seed))
    for seed in (1, 2, 5, 6):
        store_run("b", seed, right=range(700 + seed))
    assert summary().pairs[0].seeds == (3, 4)
    assert summary().pairs[0].points.value == pytest.approx(80.1 - 70.35)


def test_a_network_that_lost_its_seeds_is_compared_as_trained_and_claims_no_architecture(tmp_path):
    folder = stored_comparison("subset_5k", tmp_path)
    whole = shown(folder)
    for seed in (1, 2):
        shutil.rmtree(folder / "vgg16_bn" / f"seed_{seed}")
    less = shown(folder)
    lost = [pair for pair in less.pairs if "vgg16_bn" in (pair.first, pair.second)]
    assert len(lost) == 5
    assert all(pair.of_trained for pair in lost)
    assert {pair.first for pair in less.pairs if not pair.of_trained} == {"resnet18", "googlenet", "lenet", "alexnet"}

    def architectures(summary):
        return {(pair.first, pair.second) for pair in summary.pairs if pair.differs and not pair.of_trained}

    assert architectures(less) <= architectures(whole)
    assert "is the most accurate" not in text(less)


def test_seeds_that_failed_are_said_beside_the_figures_of_the_others(store_run, tmp_path):
    for seed in range(3):
        store_run("a", seed, right=range(700 + seed))
        store_run("b", seed, right=range(600 + seed))
    store_run("b", 2, status="diverged", reason="the loss became NaN", test_acc_pct=None)
    found = Shown(write_report(tmp_path))
    assert "runs that failed: b (1 of 3); accuracies are those of the others, and may be" in "".join(found.warnings)
    assert "| b | 2 of 3 |" in (tmp_path / "report.md").read_text()


def test_each_look_at_the_results_has_its_part_of_the_level_and_what_it_established_remains(store_run, tmp_path):
    # The first look was at seeds 7, 8 and 9, although 0 is the smallest.
    for seed, (first, second) in zip((7, 8, 9, 0), [(800, 600), (801, 601), (800, 600), (500, 900)], strict=True):
        store_run("a", seed, right=range(first))
        store_run("b", seed, right=range(second))
    once = shown(tmp_path).pairs[0]
    assert not once.differs
    (tmp_path / "manifest.json").write_text(json.dumps({"seeds": [7, 8, 9, 0], "looks": [3, 4]}))
    looked = shown(tmp_path).pairs[0]
    assert looked.differs
    assert looked.points.high > once.points.high
    assert looked.p_corrected == pytest.approx(min(1.0, 2 * once.p_corrected))
    (tmp_path / "manifest.json").write_text(json.dumps({"seeds": [0, 7, 8, 9], "looks": [3, 4]}))
    assert not shown(tmp_path).pairs[0].differs


@pytest.mark.parametrize("damage", [{"looks": 3, "seeds": [0]}, {"margin": [1]}, {"looks": ["x"], "seeds": [0]}])
def test_damaged_questions_and_looks_do_not_stop_the_report(store_run, tmp_path, damage):
    store_run("a")
    store_run("b", right=range(600))
    (tmp_path / "manifest.json").write_text(json.dumps(damage))
    assert write_report(tmp_path).pairs[0].differs


def test_a_margin_of_nothing_is_refused_and_not_taken_for_none(store_run, tmp_path):
    store_run("a")
    with pytest.raises(InvalidValueError, match="margin must be more than 0 points, up to 100, and is 0"):
        shown(tmp_path, margin=0)


def test_a_baseline_is_compared_with_each_other_network_and_nothing_else_is(store_run, tmp_path):
    for name, right in (("a", 900), ("base", 800), ("c", 700), ("d", 799)):
        store_run(name, right=range(right))
    found = shown(tmp_path, baseline="base")
    assert {frozenset((pair.first, pair.second)) for pair in found.pairs} == {
        frozenset((name, "base")) for name in ("a", "c", "d")
    }
    assert found.verdict[0].startswith("Compared with the baseline base (80.00 %")
    assert found.verdict[0].endswith("more accurate: a; less accurate: c; not established: d.")
    with pytest.raises(InvalidValueError, match="baseline must be a network with finished runs: a, base, c, d, and is"):
        shown(tmp_path, baseline="resnet18")


def test_networks_within_the_margin_are_the_same_and_the_faster_one_is_advised(store_run, tmp_path):
    store_run("slow", right=range(800), train_epoch_s=10.0, train_epochs_s=[11, 10.0, 10.1, 9.9])
    store_run("fast", right=[*range(799), 900], train_epoch_s=2.0, train_epochs_s=[3, 2.0, 2.1, 1.9])
    found = shown(tmp_path, margin=1.0)
    (pair,) = found.pairs
    assert (pair.same, pair.differs) == (True, False)
    assert found.verdict[0].endswith("; slow the same within 1 point.")
    assert len(found.verdict) == 3  # Nothing is left that more runs would settle.
    slower = shown(tmp_path, margin=1.0, baseline="slow").verdict[1]
    assert slower.startswith("slow takes 5.0")
    assert "as long as fast, and their accuracies are the same within 1 point: where time counts, take fast" in slower
    assert shown(tmp_path, margin=0.1).pairs[0].same is False


def test_limits_leave_the_best_network_within_them_and_say_how_sure_that_is(store_run, tmp_path):
    store_run("large", right=range(900), params=20e6)
    store_run("medium", right=range(800), params=9e6)
    store_run("other", right=[*range(799), 999], params=8e6)
    store_run("small", right=range(700), params=1e6)
    said = text(shown(tmp_path, limits={"params": 10e6}))
    assert "With params at most" in said
    assert "medium is the best of 3" in said
    assert "its lead is not established over other." in said
    assert "No network has" in text(shown(tmp_path, limits={"params": 10}))
    with pytest.raises(InvalidValueError, match="limit must be one of"):
        shown(tmp_path, limits={"parameters": 10})


def test_times_measured_apart_are_ranked_though_the_trainings_were_disturbed(store_run, summary, tmp_path):
    store_run("slow", right=range(800), train_epoch_s=13.0, contended=True)
    store_run("fast", right=[*range(799)], train_epoch_s=1.0, contended=True, device="cpu: another one")
    # Three rounds; the machine was twice as fast in the second one, which the ratios 2.0, 2.1 and 2.0 do not see.
    rounds = {"slow": [8.0, 4.2, 8.0], "fast": [4.0, 2.0, 4.0]}
    Times(rounds, "cpu: this one", False, "2026-01-02T03:04:05+00:00").save(tmp_path)
    found = summary()
    assert found.timings_ranked
    assert not any("contended" in warning for warning in found.warnings)
    logs = [math.log(ratio) for ratio in (2.0, 2.1, 2.0)]
    low, high = np.exp(np.mean(logs) + np.array(t.interval(0.95, 2)) * sem(logs))
    expected = f"slow takes 2.03 times (95 % {low:.2f} … {high:.2f}) as long as fast, and their accuracies cannot"
    assert expected in text(found)
    figures = found.tables["results"]
    slow = dict(zip(figures.columns, figures.rows[0], strict=True))
    assert slow["s / epoch"].startswith("6.45 (")
    assert slow["× fastest"] == f"2.03 ({low:.2f} … {high:.2f})"
    assert slow["s / epoch in training"] == "13"
    assert "ms / prediction" not in figures.columns  # As earlier versions left it.
    milliseconds = {"slow": [2.0, 2.1, 1.9], "fast": [4.0, 4.0, 4.1]}
    Times(rounds, "cpu: this one", True, "2026-01-02T03:04:05+00:00", milliseconds).save(tmp_path)
    logs = np.log(milliseconds["slow"])
    low, high = np.exp(logs.mean() + np.array(t.interval(0.95, 2)) * sem(logs))
    figures = summary().tables["results"]
    slow = dict(zip(figures.columns, figures.rows[0], strict=True))
    assert slow["ms / prediction"] == f"2 ({low:.3g} … {high:.3g})"
    assert summary().timings_ranked
    assert (
        summary().warnings[-1].startswith("contended: other processes used the machine while the networks took turns")
    )


def test_times_that_lack_a_network_or_cannot_be_read_are_listed_and_not_used(store_run, summary, tmp_path):
    store_run("slow", contended=True)
    store_run("fast", contended=True)
    file = tmp_path / "times.json"
    Times({"slow": [1.0, 1.1]}, "cpu: this one", False, "").save(tmp_path)
    contents = [file.read_text(), "{", '{"schema": 1, "epoch_s": {"slow": [1, 0], "fast": [1, 1]}}', "[]"]
    contents.append(contents[0].replace("1.1", "-1.1"))
    for content in contents:
        file.write_text(content)
        found = summary()
        assert not found.timings_ranked
        assert [entry["run"] for entry in found.without_result] == ["times.json"]
    file.write_text(contents[0])
    assert "fast did not take part" in summary().without_result[0]["reason"]


def test_a_setting_that_came_later_than_a_run_mixes_no_recipes_and_another_schedule_does(store_run, summary):
    older, later = {"model": {"lr_scheduler": None}}, {"model": {"lr_scheduler": None, "class_weights": "none"}}
    store_run("lenet", config=older)
    store_run("resnet18", config={**later, "monitor": "val/acc"})
    assert not summary().warnings
    store_run("googlenet", config={"model": {"lr_scheduler": {"class_path": "cnn_compare.WarmupCosine"}}})
    assert "mixed recipes: model.lr_scheduler" in summary().warnings[0]


@pytest.mark.parametrize(
    ("second", "label"),
    [
        ({"device": "cuda: that one"}, "mixed devices: cpu: this one; cuda: that one"),
        ({"precision": "bf16-mixed"}, "mixed precisions: 32-true; bf16-mixed"),
        ({"versions": {"torch": "2.11.0"}}, "mixed versions: torch 2.11.0; torch 2.15.0"),
        ({"recipe": "modern"}, "mixed recipes: modern; report"),
        ({"config": {"trainer": {"max_epochs": 9}}}, "mixed recipes: trainer.max_epochs is 3 or 9"),
        ({"data_fingerprint": "other"}, "mixed data"),
        ({"contended": True}, "contended: other processes used the machine while lenet trained"),
        ({"train_epoch_s": None}, "no time per epoch: lenet did not reach the end of one"),
    ],
)
def test_a_comparison_that_is_not_controlled_says_so_and_ranks_no_times(store_run, summary, second, label):
    store_run("resnet18", recipe="report")
    store_run("lenet", right=range(500), **second)
    found = summary()
    assert any(warning.startswith(label) for warning in found.warnings)
    assert not found.timings_ranked
    assert all(network.on_front is None for network in found.networks)
    assert "Pareto" not in text(found)
    assert "not ranked" in text(found)


def test_other_folders_for_the_same_data_are_no_other_recipe(store_run, summary):
    for name, folder in (("a", "/one"), ("b", "/two")):
        store_run(name, config={"data": {"init_args": {"data_dir": folder}}})
    assert summary().warnings == []
    assert summary().varied.keys() == {"model.backbone"}


def test_without_predictions_the_accuracies_alone_are_compared(store_run, summary, tmp_path):
    store_run("a", right=range(800))
    folder = store_run("b", right=range(700))
    (folder / "predictions.npz").unlink()
    (pair,) = summary().pairs
    assert pair.differs
    # (0.8 - 0.7) / sqrt(0.8 * 0.2 / 1000 + 0.7 * 0.3 / 1000 + one image) = 5.19
    assert pair.p == pytest.approx(2 * norm.sf(0.1 / math.sqrt((0.37 + 0.001) / 1000)), rel=0.01)
    assert summary().networks[1].calibration is None


def test_without_some_predictions_a_stored_comparison_establishes_no_more_and_names_the_files(tmp_path):
    folder = stored_comparison("subset_5k", tmp_path)
    whole = shown(folder)
    deleted = [next((folder / network.name).glob("*/predictions.npz")) for network in whole.networks]
    for path in deleted:
        path.unlink()
    less = shown(folder)

    def established(summary):
        return {(pair.first, pair.second) for pair in summary.pairs if pair.differs}

    assert established(less) <= established(whole)
    for before, after in zip(whole.networks, less.networks, strict=True):
        assert after.accuracy_pct.low <= before.accuracy_pct.low + 1e-6
    assert {entry["run"] for entry in less.without_result} == {path.relative_to(folder).as_posix() for path in deleted}


@pytest.mark.parametrize("file", ["predictions.npz", "metrics.csv", "config.yaml"])
def test_a_missing_file_of_a_finished_run_is_named_with_what_the_report_lacks(store_run, tmp_path, file):
    store_run("a")
    (store_run("b", right=range(700)) / file).unlink()
    found = Shown(write_report(tmp_path))
    assert [entry["run"] for entry in found.without_result] == [f"b/seed_0/{file}"]
    assert f"| b/seed_0/{file} | the file is missing: " in (tmp_path / "report.md").read_text()


def test_an_unfinished_comparison_says_so_first_and_claims_nothing_of_what_is_missing(store_run, tmp_path):
    planned = [asdict(RunKey(backbone, seed=seed)) for backbone in "abcd" for seed in (0, 1)]
    (tmp_path / "manifest.json").write_text(json.dumps({"runs": planned}))
    store_run("a", right=range(900))
    store_run("a", seed=1, right=range(905))
    store_run("b", right=range(600))
    (store_run("c") / "result.json").unlink()
    found = Shown(write_report(tmp_path))
    first = "3 of 8 runs are finished (1 not finished, 4 not begun); networks without a finished run: c and d."
    assert found.unfinished == first
    assert (tmp_path / "report.md").read_text().splitlines()[2] == f"> **{first}**"
    assert first in (tmp_path / "report.html").read_text()
    assert "a is the most accurate so far" in text(found)
    assert "its lead over every other network with finished runs is established" in text(found)
    assert "one is established" not in text(found)
    (entry,) = found.without_result
    assert entry["run"] == "c/seed_0"
    assert entry["reason"] == "not finished; the same command again goes on with it"


def test_the_runs_of_a_manifest_are_what_was_planned_not_all_combinations(store_run, tmp_path):
    runs = [{"backbone": name, "variant": None, "seed": seed} for name, seed in (("a", 0), ("a", 1), ("b", 0))]
    planned = {"backbones": ["a", "b"], "seeds": [0, 1], "variants": {}, "runs": runs}
    (tmp_path / "manifest.json").write_text(json.dumps(planned))
    for run in runs:
        store_run(run["backbone"], run["seed"])
    assert Shown(write_report(tmp_path)).unfinished is None


@pytest.mark.parametrize("runs", [5, [5], [{"backbone": 1}], [{"backbone": "a", "variant": None, "seed": "x"}]])
def test_a_damaged_plan_does_not_stop_the_report(store_run, tmp_path, runs):
    store_run("a")
    (tmp_path / "manifest.json").write_text(json.dumps({"runs": runs}))
    assert [network.name for network in write_report(tmp_path).networks] == ["a"]


def test_answers_to_other_test_images_are_not_paired(store_run, summary):
    store_run("a")
    store_run("b", right=range(800), labels=(np.arange(1000) + 3) % 10)
    # As if no image were shared: 0.2 * 0.8 twice, over 1,000.
    assert summary().pairs[0].points.high == pytest.approx(100 * 1.96 * math.sqrt(0.321 / 1000), rel=0.02)


def test_confusion_classes_and_hardest_images_are_counted(store_run, summary):
    for seed in (0, 1):
        store_run("a", seed, right=[index for index in range(1000) if index not in (13, 14)])
    store_run("b", right=[index for index in range(1000) if index != 13])
    found = summary()
    network = next(network for network in found.networks if network.name == "a")
    assert found.confusion["a"][3][4] == 2
    assert network.class_acc_pct[3].value == pytest.approx(99)
    hardest, next_ = found.hardest
    assert (hardest.image, hardest.label, hardest.answer, hardest.wrong_pct) == (13, "<d>", "<e>", 100.0)
    assert (next_.image, next_.wrong_pct) == (14, pytest.approx(200 / 3))
    assert {name: answer.answer for name, answer in next_.answers.items()} == {"a": "<f>", "b": "<e>"}
    assert next_.answers["a"].probability_pct == pytest.approx(82, abs=0.1)


def test_time_to_an_accuracy_is_counted_in_seconds_of_training(store_run, summary):
    store_run("a", right=range(900))  # 30 %, 60 %, 90 %, five seconds each
    assert summary().seconds_to_pct["a"] == {60: 10.0, 70: 15.0, 80: 15.0, 90: 15.0}


def test_two_comparisons_in_one_folder_keep_their_networks_apart(store_run, summary, tmp_path):
    store_run("resnet18", folder=tmp_path / "first")
    store_run("resnet18", folder=tmp_path / "second", right=range(700))
    assert [network.name for network in summary().networks] == ["first/resnet18", "second/resnet18"]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("predictions.npz", b"half", "cannot be read as predictions"),
        ("predictions.npz", b"PK\x03\x04 and no more", "cannot be read as predictions"),
        ("metrics.csv", b"epoch,val/acc\n0,x\n", "holds no curves"),
        ("metrics.csv", b"", "cannot be read as a table"),
        ("config.yaml", b"{a: ", "cannot be read as YAML"),
        ("config.yaml", b"- 1", "holds no configuration"),
        ("result.json", b'{"schema": 1, "backbone"', "cannot be read as JSON"),
        ("result.json", b'{"schema": 7}', "its schema is 7"),
        ("result.json", b"", "cannot be read as JSON"),
        ("result.json", b'{"schema": 2, "backbone": "x", "seed": 0, "status": "finished"}', "test_acc_pct"),
        ("result.json", b'{"schema": 2, "backbone": 5, "seed": "0", "status": "done"}', "backbone, seed, status"),
    ],
)
def test_a_damaged_file_is_listed_with_its_reason_and_the_rest_reported(store_run, tmp_path, file, content, reason):
    store_run("good")
    folder = store_run("bad", right=range(700))
    (folder / file).write_bytes(content)
    found = Shown(write_report(tmp_path))
    (problem,) = found.without_result
    assert problem["run"] == f"bad/seed_0/{file}"
    assert reason in problem["reason"]
    assert "good" in [network.name for network in found.networks]
    for form in ("report.md", "report.html", "results.json"):
        assert f"bad/seed_0/{file}" in (tmp_path / form).read_text()


def test_predictions_of_python_objects_are_refused_and_not_opened(store_run, tmp_path):
    folder, payload = store_run("bad"), np.array([Payload(tmp_path / "opened")], dtype=object)
    objects = dict.fromkeys(("labels", "predictions", "probabilities"), payload)
    np.savez(folder / "predictions.npz", **objects)
    found = Shown(write_report(tmp_path))
    assert "cannot be read as predictions" in found.without_result[0]["reason"]
    assert not (tmp_path / "opened").exists()


def test_results_json_holds_the_summary_and_no_number_that_json_lacks(store_run, tmp_path):
    store_run("a")
    store_run("b", test_images=None)
    write_report(tmp_path)

    def refuse(constant):
        raise AssertionError(constant)

    stored = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert stored["schema"] == 3
    assert {network["name"] for network in stored["networks"]} == {"a", "b"}
    assert math.isclose(stored["networks"][0]["accuracy_pct"]["value"], 80)


def test_nothing_finished_is_a_report_as_well(store_run, tmp_path):
    log = ["Traceback", "RuntimeError"]
    store_run("a", status="failed", reason="RuntimeError: out of\nmemory", test_acc_pct=None, log_tail=log)
    found = Shown(write_report(tmp_path))
    assert found.verdict == ["No run was finished: there is nothing to compare."]
    (failed,) = found.without_result
    assert (failed["run"], failed["status"]) == ("a/seed_0", "failed")
    assert (failed["reason"], failed["log"]) == ("RuntimeError: out of\nmemory", "Traceback\nRuntimeError")
    assert load_results(tmp_path).status.tolist() == ["failed"]


def test_a_lone_network_is_not_called_the_most_accurate(store_run, summary):
    store_run("resnet18", right=range(800))
    (said,) = summary().verdict
    assert said == "resnet18: 80.00 % (95 % 77.41 … 82.36) on one seed; there is no other network to compare it with."


def test_the_wide_intervals_of_two_seeds_stay_within_what_can_be(store_run, summary):
    for seed, (first, second) in enumerate([(950, 100), (500, 450)]):
        store_run("resnet18", seed, right=range(first))
        store_run("lenet", seed, right=range(second))
    found = summary()
    (pair,) = found.pairs
    assert (pair.points.low, pair.points.value, pair.points.high) == (-100, pytest.approx(45), 100)
    assert all(0 <= each.accuracy_pct.low < each.accuracy_pct.high <= 100 for each in found.networks)


def test_balanced_accuracy_and_recalls_are_shown_where_classes_are_unequal_and_nowhere_else(store_run, tmp_path):
    folder = tmp_path / "equal"
    store_run("lenet", folder=folder, test_balanced_acc_pct=81.25)
    write_report(folder)
    report = (folder / "report.md").read_text()
    assert "balanced" not in report
    assert "Recall by class" not in report
    folder, labels = tmp_path / "unequal", np.minimum(np.arange(1000) % 10, 8)
    right = np.flatnonzero((labels != 3) | (np.arange(1000) < 200))
    for seed in (0, 1):
        store_run("lenet", seed, folder=folder, labels=labels, right=right, test_balanced_acc_pct=91.11)
        store_run("old", seed, folder=folder, labels=labels)
    summary = Shown(write_report(folder))
    report = (folder / "report.md").read_text()
    low, high = proportion_confint(20, 100, method="wilson")
    assert f"| &lt;d> | 100 | 20.0 ({100 * low:.1f} … {100 * high:.1f}) | 80.0" in report
    assert "| &lt;i> | 200 | 100.0 (98.1 … 100.0)" in report
    assert "| balanced % | 95 % of balanced |" in report
    assert "| 91.11 | " in report
    balanced = next(network.balanced_pct for network in summary.networks if network.name == "lenet")
    assert balanced.low < balanced.value == pytest.approx(100 * (8 + 0.2) / 9)
    assert balanced.value < balanced.high <= 100
    page = (folder / "report.html").read_text()
    assert "Recall by class" in page
    assert "balanced" in console_text(terminal_table(summary))


def test_the_interval_of_balanced_accuracy_covers_it_in_95_of_100_test_sets():
    truth, images = np.array([0.99, 0.9, 0.6, 0.97]), np.array([400, 60, 15, 100])
    rng, covered = np.random.default_rng(0), 0
    for shares in rng.binomial(images, truth, (1000, 4)) / images:
        found = balanced_estimate([*map(share_estimate, shares.tolist(), images.tolist())])
        assert found.value == pytest.approx(shares.mean())
        covered += found.low <= truth.mean() <= found.high
    assert 0.93 < covered / 1000 < 0.975


def test_the_report_names_what_told_the_best_epoch_and_that_batch_norm_was_recomputed_in_how_many_seconds(
    store_run, tmp_path
):
    precise = {"class_path": "cnn_compare.PreciseBatchNorm", "init_args": {"images": 2048}}
    store_run("lenet", config={"monitor": "val/loss", "trainer": {"callbacks": [precise]}})
    store_run("resnet18", fit_s=60.0, precise_bn_s=12.5)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| best epoch by | val/acc, val/loss |" in text
    assert "| batch norm | before each validation, " in text
    assert "from at least 2,048 training images, or all there are |" in text
    assert "12.5" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_narrow_terminal_loses_other_columns_and_never_the_name(store_run, tmp_path, width):
    names = ["resnet18", "module_of_mine:" + "network" * 9]
    for name in names:
        store_run(name)
    output = Console(width=width, file=io.StringIO())
    output.print(terminal_table(shown(tmp_path), width))
    lines = output.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    cells = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert "".join(cells) in (names[0] + names[1], names[1] + names[0])
    assert sum("80.00" in line for line in lines) == 2


def test_an_ascii_terminal_gets_the_whole_report(store_run, tmp_path, monkeypatch):
    folder = tmp_path / "été"
    store_run("resnet18", folder=folder)
    store_run("lenet", folder=folder, right=range(795))
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr("sys.stdout", output)
    main(["report", str(folder)])
    printed = output.buffer.getvalue().decode("ascii")
    assert "80.00 +/- 2.4" in printed
    assert "lenet" in printed
    assert "ete" in printed
    assert "?" not in printed


def console_text(table):
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_known_groups_widen_intervals_and_are_said_and_results_without_them_are_as_before(store_run, tmp_path):
    groups = {"groups": np.arange(1000) // 50}
    for folder, arrays in ((tmp_path / "with", groups), (tmp_path / "without", None)):
        store_run("resnet18", right=range(860), folder=folder, arrays=arrays)
        store_run("lenet", right=range(800), folder=folder, arrays=arrays)
    grouped, plain = (shown(tmp_path / name) for name in ("with", "without"))
    assert (grouped.test_groups, plain.test_groups) == (20, None)
    assert [pair.differs for pair in plain.pairs] == [True]
    assert [pair.differs for pair in grouped.pairs] == [False]  # Sixty images, but of two groups of twenty.
    for with_groups, without in zip(grouped.networks, plain.networks, strict=True):
        assert with_groups.accuracy_pct.low < without.accuracy_pct.low - 5
        for recall, independent in zip(with_groups.class_acc_pct, without.class_acc_pct, strict=True):
            assert recall.low <= independent.low
    assert "20; intervals and tests take groups" in dict(grouped.tables["conditions"].rows)["test groups"]
    assert "test groups" not in dict(plain.tables["conditions"].rows)


def test_groups_that_differ_between_runs_are_not_used(store_run, tmp_path):
    store_run("resnet18", right=range(860), arrays={"groups": np.arange(1000) // 50})
    store_run("lenet", right=range(800), arrays={"groups": np.arange(1000) // 40})
    assert [pair.differs for pair in shown(tmp_path).pairs] == [True]


@pytest.mark.parametrize("below", [".", "lenet+trial_0", "lenet+trial_0/seed_0"])
@pytest.mark.parametrize("place", ["c/search", "a copy"])
def test_trials_of_a_search_are_refused_in_one_line_wherever_they_lie(store_run, tmp_path, capsys, place, below):
    folder = store_run("lenet+trial_0", folder=tmp_path / place)
    RunFolder(folder).save_result(run_result(seed=0, variant="trial_0", tested=False, best_val_acc_pct=50.0))
    asked = tmp_path / place / below
    status, _, errors = run_command(["report", str(asked)], capsys)
    assert (status, errors.count("\n")) == (2, 1)
    assert f"no run to report on in {asked}: it holds trials of a search" in errors
    with pytest.raises(NoTrainedNetworkError, match="neither a checkpoint nor a finished and tested run"):
        find_checkpoints(asked)


def test_a_comparison_may_be_called_search_and_a_run_is_reported_on_alone(store_run, tmp_path):
    run = store_run("lenet", folder=tmp_path / "search")
    for folder in (tmp_path, tmp_path / "search", run):
        assert [network.name for network in shown(folder).networks] == ["lenet"]
