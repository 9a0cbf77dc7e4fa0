"""Cross-validation in the report: corrected tests against their closed forms, and what a report says of folds."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from helpers import shown
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cnn_compare.files import write_json
from cnn_compare.report.cross_validation import Fold, accuracy_estimate, fold_differences, smallest_difference
from cnn_compare.results import RunFolder

IMAGES = 200


def network(accuracies, folds=5):
    """Results on all folds of as many repeats as there are accuracies for."""
    return {divmod(number, folds): Fold(float(share), IMAGES, folds) for number, share in enumerate(accuracies)}


def drawn(rng, networks, repeats=2, folds=5):
    return [network(rng.normal(0.8, 0.02, repeats * folds), folds) for _ in range(networks)]


@pytest.mark.parametrize(("repeats", "folds"), [(1, 5), (2, 5), (3, 10), (1, 2)])
def test_a_pair_has_nadeau_and_bengios_t_test_and_interval(repeats, folds):
    first, second = drawn(np.random.default_rng(folds), 2, repeats, folds)
    deltas = np.array([first[key].accuracy - second[key].accuracy for key in first])
    count = repeats * folds
    error = math.sqrt(deltas.var(ddof=1) * (1 / count + (1 / folds) / (1 - 1 / folds)))
    t = stats.t(count - 1)
    (found,) = fold_differences([first, second], [(0, 1)])
    assert found.p == pytest.approx(2 * t.sf(abs(deltas.mean()) / error), rel=1e-4)
    half = t.isf(0.025) * error
    assert (found.share.low, found.share.high) == pytest.approx((deltas.mean() - half, deltas.mean() + half), rel=1e-3)


def test_the_plain_interval_of_folds_is_that_of_the_mean_with_the_corrected_variance():
    results = network(np.random.default_rng(1).normal(0.5, 0.02, 10))
    accuracies = np.array([fold.accuracy for fold in results.values()])
    half = stats.t(9).isf(0.025) * math.sqrt(accuracies.var(ddof=1) * (1 / 10 + 1 / 4))
    found = accuracy_estimate(results)
    # At one half Wilson's form changes the width in second order only.
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.02)
    assert found.value == pytest.approx(accuracies.mean())


def test_p_values_of_several_pairs_are_holms_and_intervals_exclude_0_where_they_say_so():
    rng, pairs = np.random.default_rng(2), [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    established = 0
    for shift in np.linspace(0, 0.06, 8):
        networks = drawn(rng, 4)
        networks[0] = {key: Fold(fold.accuracy + shift, IMAGES, 5) for key, fold in networks[0].items()}
        found = fold_differences(networks, pairs)
        rejected, corrected, _, _ = multipletests([each.p for each in found], 0.05, "holm")
        assert [each.p_corrected for each in found] == pytest.approx(corrected)
        assert [each.share.low > 0 or each.share.high < 0 for each in found] == list(rejected)
        alone = [fold_differences(networks, [pair])[0].share for pair in pairs]
        for each, by_itself in zip(found, alone, strict=True):
            assert each.share.low <= each.share.value <= each.share.high
            if not rejected.any():
                assert each.share.high - each.share.value > by_itself.high - by_itself.value
        established += sum(rejected)
    assert 0 < established < 8 * 6


def test_only_folds_that_both_networks_have_count():
    first, second = drawn(np.random.default_rng(3), 2)
    fewer = {key: fold for key, fold in second.items() if key != (1, 4)}
    without = {key: fold for key, fold in first.items() if key != (1, 4)}
    assert fold_differences([first, fewer], [(0, 1)]) == fold_differences([without, fewer], [(0, 1)])


@pytest.mark.parametrize("second", [network([0.1]), network([0.1] * 4, folds=4), {}], ids=["one", "others", "none"])
def test_networks_that_share_no_two_folds_are_not_told_apart(second):
    first = network([0.9] * 5)
    second = second or {(7, 0): Fold(0.1, IMAGES, 5)}
    (found,) = fold_differences([first, second], [(0, 1)])
    assert (found.p, found.share.low, found.share.high) == (1.0, -1.0, 1.0)
    assert found.share.value == pytest.approx(0.8)


def test_the_same_difference_of_one_image_in_every_fold_is_not_certain():
    first, second = network([0.9] * 5), network([0.9 - 1 / IMAGES] * 5)
    (found,) = fold_differences([first, second], [(0, 1)])
    assert found.share.low < 0 < found.share.high


def test_one_fold_alone_and_perfect_folds_leave_an_interval():
    assert accuracy_estimate(network([0.9])).low == 0
    perfect = accuracy_estimate(network([1.0] * 10))
    # All of 1,000 images right: the interval of Wilson, as if one network had been tested on them.
    assert (perfect.low, perfect.high) == pytest.approx((1 / (1 + stats.norm.isf(0.025) ** 2 / 1_000), 1.0))


@pytest.fixture
def store_folds(store_run, tmp_path):
    """Store three folds in two repeats of 60 images; a network is right but for so many images of each fold."""

    def store(backbone, wrong, without=()):
        for seed in (0, 1):
            for fold in range(3):
                rows = np.flatnonzero((np.arange(60) + seed) % 3 == fold)
                if (seed, fold) not in without:
                    errors = wrong + (seed + fold) % 2
                    store_run(
                        backbone,
                        seed,
                        range(20 - errors),
                        labels=rows // 3 % 10,
                        fold=fold,
                        arrays={"rows": rows},
                        config={"data": {"init_args": {"fold": [fold, 3], "split_seed": seed}}},
                        data={"layout": "a table"},
                    )
        runs = [
            {"backbone": name, "variant": None, "seed": seed, "fold": fold}
            for name in ("good", "alike", "bad")
            for seed in (0, 1)
            for fold in range(3)
        ]
        write_json(tmp_path / "manifest.json", {"name": "cv", "runs": runs, "folds": 3})

    return store


def test_a_report_says_folds_and_repeats_and_what_its_intervals_include(store_folds, tmp_path):
    store_folds("good", 1)
    store_folds("alike", 1)
    store_folds("bad", 12)
    summary = shown(tmp_path)
    assert summary.unfinished is None
    (few,) = summary.warnings
    assert few.startswith("3 folds: every network was trained without 1/3 of the images")
    assert summary.test_images == 60
    assert summary.class_images == [6] * 10
    assert [network.folds for network in summary.networks] == [3, 3, 3]
    text = " ".join(summary.verdict)
    assert "on 3 folds × 2 repeats" in text
    assert "The intervals cover other training images, test images and seeds," in text
    assert re.search(r"With 4 repeats, a true difference of about \d+\.\d points would be established", text)
    assert {(pair.first, pair.second) for pair in summary.pairs if pair.differs} == {("alike", "bad"), ("good", "bad")}
    for pair in summary.pairs:
        two, four, eight = pair.detects_points.values()
        assert eight < four < two
    tables = summary.tables
    assert "folds" in tables["differences"].columns
    assert "s² (1/J + 1/(k − 1))" in tables["differences"].note
    assert dict(tables["conditions"].rows)["cross-validation"].startswith(
        "3 folds × 2 repeats, the same for all networks"
    )


def test_out_of_fold_answers_stand_together_by_image(store_folds, tmp_path):
    store_folds("good", 1)
    store_folds("bad", 12)
    summary = shown(tmp_path)
    # Image i is number i // 3 of 20 in its fold, of which the last one is always wrong, and one before it where seed
    # and fold are an odd number together: image 55 is, both times.
    assert [image.wrong_pct == 100 for image in summary.hardest] == [True] * 4 + [False] * 6
    assert {image.image for image in summary.hardest[:4]} == {55, 57, 58, 59}
    worst = next(network for network in summary.networks if network.name == "bad")
    assert sum(map(sum, summary.confusion[worst.name])) == 120
    assert sum(summary.confusion[worst.name][label][label] for label in range(10)) == 120 - 3 * 12 * 2 - 3


def test_missing_folds_are_said_and_pairs_are_compared_on_the_others(store_folds, tmp_path):
    store_folds("good", 1)
    store_folds("bad", 12, without=[(1, 2)])
    store_folds("alike", 1)
    summary = shown(tmp_path)
    assert summary.unfinished is not None
    assert {pair.seeds for pair in summary.pairs} == {(5, 5), (6, 6)}
    assert any(text.startswith("without a result on some folds: bad;") for text in summary.warnings)
    assert summary.networks[-1].runs_in_words == "5 of 6 folds"


def test_the_interval_of_balanced_accuracy_is_that_of_folds_too(store_run, tmp_path):
    shares = [80.0, 84.0, 79.0]
    for fold, share in enumerate(shares):
        rows = np.flatnonzero(np.arange(60) % 3 == fold)
        arrays = {"rows": rows}
        store_run("lenet", right=range(16), labels=rows % 7, fold=fold, arrays=arrays, test_balanced_acc_pct=share)
    (network,) = shown(tmp_path).networks
    expected = accuracy_estimate({(0, fold): Fold(share / 100, 20, 3) for fold, share in enumerate(shares)})
    assert network.balanced_pct.value == pytest.approx(81.0)
    assert (network.balanced_pct.low, network.balanced_pct.high) == pytest.approx(
        (100 * expected.low, 100 * expected.high)
    )


def test_a_baseline_and_a_margin_are_answered_with_folds_too(store_folds, tmp_path):
    for name, wrong in (("good", 1), ("alike", 1), ("bad", 12)):
        store_folds(name, wrong)
    summary = shown(tmp_path, baseline="good", margin=20.0)
    assert [{pair.first, pair.second} for pair in summary.pairs] == [{"good", "alike"}, {"good", "bad"}]
    assert [pair.same for pair in summary.pairs] == [True, False]
    assert "less accurate: bad" in summary.verdict[0]


def test_a_network_without_folds_beside_one_with_them_is_not_compared_with_it(store_folds, store_run, tmp_path):
    store_folds("good", 1)
    store_run("resnet18", right=range(100))
    summary = shown(tmp_path)
    assert not any(pair.differs for pair in summary.pairs)


def test_a_fold_without_its_rows_leaves_figures_by_class_out_and_nothing_else(store_folds, tmp_path):
    store_folds("good", 1)
    for path in tmp_path.rglob("predictions.npz"):
        with np.load(path) as stored:
            kept = {name: stored[name] for name in stored.files if name != "rows"}
        RunFolder(path.parent).save_predictions(**kept)
    summary = shown(tmp_path)
    assert summary.networks[0].class_acc_pct == []
    assert summary.networks[0].accuracy_pct.value == pytest.approx(100 * (1 - 1.5 / 20))


def test_three_repeats_narrow_as_bouckaert_and_frank_say():
    # By hand: s² (1/J + 1/(k − 1)), with 4 degrees of freedom and with 14.
    once, thrice = 0.02 * math.sqrt(1 / 5 + 1 / 4), 0.02 * math.sqrt(1 / 15 + 1 / 4)
    found = [smallest_difference(once, 5, 5, repeats) for repeats in (1, 3)]
    expected = [
        error * (stats.t(freedom).isf(0.025) + stats.norm.isf(0.2)) for error, freedom in ((once, 4), (thrice, 14))
    ]
    assert found == pytest.approx(expected, rel=1e-3)


def test_no_interval_of_a_difference_goes_beyond_all_and_none():
    folds = [{(0, fold): Fold(accuracy, 10, 2) for fold, accuracy in enumerate(each)} for each in ((1, 0.2), (0, 0.3))]
    (found,) = fold_differences(folds, [(0, 1)])
    assert (found.share.low, found.share.high) == (-1, 1)
