from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats.power import TTestPower
from torchmetrics.classification import MulticlassCalibrationError

from cnn_compare.report import statistics


def answers(right, images):
    return np.array([[index < right for index in range(images)]])


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, score method.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_one_seed_is_wilsons(right, images, low, high):
    estimate = statistics.accuracy_estimate(answers(right, images))
    assert estimate.value == pytest.approx(right / images)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)
    assert statistics.accuracy_from_shares([right / images], images) == estimate


def test_the_t_interval_over_seeds_is_the_one_worked_out_by_hand():
    # Mean 82, deviation 2, t(0.975, 2) = 4.3027: 4.3027 * 2 / sqrt(3) = 4.968.
    estimate = statistics.seed_interval([80, 82, 84])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((82, 77.032, 86.968), abs=1e-3)


def test_the_paired_t_test_is_the_one_worked_out_by_hand():
    # Differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.4641, two degrees of freedom.
    assert statistics.paired_t_p([81, 84, 87], [80, 82, 84]) == pytest.approx(0.07418, abs=1e-5)
    assert statistics.paired_t_p([81, 82], [80, 81]) == 0.0
    assert statistics.paired_t_p([81, 82], [81, 82]) == 1.0


def test_crossed_means_are_the_analysis_of_variance_worked_out_by_hand():
    # Mean squares: seeds 16, images 4, rest 1, of 2 x 2 values.
    crossed = statistics.CrossedMean.of(np.array([[2.0, 3.0], [5.0, 8.0]]))
    assert (crossed.mean, crossed.freedom) == (4.5, 1)
    assert crossed.seed_error == pytest.approx(math.sqrt(16 / 4))
    assert crossed.image_error == pytest.approx(math.sqrt((4 - 1) / 4))


def test_images_that_are_all_alike_leave_students_test_over_seeds():
    seeds = np.array([0.1, 0.4, 0.2])
    crossed = statistics.CrossedMean.of(np.tile(seeds[:, None], 500))
    assert crossed.p(abs(crossed.mean)) == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue, rel=1e-4)
    low, high = stats.t.interval(0.95, 2, seeds.mean(), seeds.std(ddof=1) / math.sqrt(3))
    assert (crossed.estimate.low, crossed.estimate.high) == pytest.approx((low, high), rel=1e-4)


def test_seeds_that_are_all_alike_leave_the_normal_error_of_their_images():
    images = np.random.default_rng(0).normal(size=2000)
    estimate = statistics.CrossedMean.of(np.stack([images, images, images])).estimate
    half = 1.959964 * images.std(ddof=1) / math.sqrt(2000)
    assert (estimate.low, estimate.high) == pytest.approx((images.mean() - half, images.mean() + half), rel=1e-4)


@pytest.mark.parametrize("image_error", [0.01, 0.3, 1.0, 5.0])
def test_both_errors_together_are_those_of_a_t_and_a_normal_draw_added(image_error):
    crossed = statistics.CrossedMean(0.0, 1.0, image_error, 3)
    draw = np.random.default_rng(0)
    sums = draw.standard_t(3, 400_000) + image_error * draw.normal(size=400_000)
    for distance in (0.5, 2.0, 5.0):
        share = (abs(sums) >= distance).mean()
        assert crossed.p(distance) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 400_000))


def test_one_seed_is_compared_by_mcnemars_exact_test_and_agresti_and_mins_interval():
    # 50 images: 8 right in the first network alone, 1 in the second alone. p = 2 * (1 + 9) / 2^9.
    first = np.array([[True] * 8 + [False] + [True] * 41])
    second = np.array([[False] * 8 + [True] + [True] * 41])
    difference = statistics.paired_difference(first, second)
    assert difference.p == pytest.approx(20 / 512)
    assert difference.share.value == pytest.approx(7 / 50)
    # Half an image more in each cell: 8.5 and 1.5 of 52.
    middle, spread = 7 / 52, math.sqrt((10 / 52 - (7 / 52) ** 2) / 52)
    assert (difference.share.low, difference.share.high) == pytest.approx(
        (middle - 1.959964 * spread, middle + 1.959964 * spread)
    )
    assert difference.seeds_needed is None


def test_the_sign_of_a_difference_turns_with_the_order():
    draw = np.random.default_rng(1)
    first, second = draw.random((3, 400)) < 0.8, draw.random((3, 400)) < 0.7
    there, back = statistics.paired_difference(first, second), statistics.paired_difference(second, first)
    assert there.p == pytest.approx(back.p)
    assert (there.share.value, there.share.low) == pytest.approx((-back.share.value, -back.share.high))
    assert there.share.low < 0.1 < there.share.high


def test_equal_answers_do_not_differ():
    same = np.random.default_rng(0).random((3, 50)) < 0.5
    difference = statistics.paired_difference(same, same)
    assert (difference.share.value, difference.p, difference.seeds_needed) == (0.0, 1.0, math.inf)


def test_without_answers_two_proportions_are_compared():
    # (0.80 - 0.75) / sqrt(0.8 * 0.2 / 1000 + 0.75 * 0.25 / 1000) = 2.6822
    difference = statistics.difference_of_shares([0.80], [0.75], 1000, paired=True)
    assert difference.p == pytest.approx(2 * stats.norm.sf(2.6822), rel=1e-3)
    assert difference.share.low == pytest.approx(0.05 - 1.959964 * 0.018641, abs=1e-5)


@pytest.mark.parametrize("paired", [True, False])
def test_accuracies_of_few_seeds_are_compared_by_students_t(paired):
    first, second = [0.83, 0.80, 0.84], [0.78, 0.79, 0.76]
    difference = statistics.difference_of_shares(first, second, 10**9, paired)  # So many images add nothing.
    if paired:
        oracle = stats.ttest_rel(first, second).pvalue
    else:
        error = math.sqrt((stats.sem(first)) ** 2 + stats.sem(second) ** 2)
        oracle = 2 * stats.t.sf((np.mean(first) - np.mean(second)) / error, 2)
    assert difference.p == pytest.approx(oracle, rel=1e-3)
    assert statistics.accuracy_from_shares(first, 10**9).low == pytest.approx(
        stats.t.interval(0.95, 2, np.mean(first), stats.sem(first))[0], abs=1e-4
    )


def test_accuracies_alone_never_say_more_than_the_answers_behind_them():
    draw = np.random.default_rng(0)
    for _ in range(100):
        chance = np.clip(0.7 + draw.normal(0, 0.2, 500), 0, 1)
        first, second = (
            draw.random((3, 500)) < np.clip(chance + draw.normal(shift, 0.02, (3, 1)), 0, 1) for shift in (0.03, 0)
        )
        whole = statistics.paired_difference(first, second)
        less = statistics.difference_of_shares(first.mean(1), second.mean(1), 500, paired=True)
        assert less.p >= whole.p - 1e-6
        assert less.share.high - less.share.low >= whole.share.high - whole.share.low - 1e-6


def test_the_seeds_needed_are_those_of_the_paired_t_test_where_images_do_not_matter():
    luck = np.array([0.02, -0.01, 0.03, 0.0])
    needed = statistics.seeds_needed(np.tile(luck[:, None], 5000))
    effect = luck.mean() / luck.std(ddof=1)
    assert needed == math.ceil(TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8))


def test_no_number_of_seeds_settles_what_the_test_images_leave_open():
    images = np.where(np.arange(100) % 20 == 0, 1.0, 0.0) - np.where(np.arange(100) % 25 == 1, 1.0, 0.0)
    assert statistics.seeds_needed(np.stack([images, images])) == math.inf


def test_holms_correction_is_the_one_worked_out_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([]) == []


def test_the_pareto_front_is_what_nothing_beats_in_both():
    #           slow and best, fast and worst, beaten by the first, beaten by both others, equal to the first
    accuracies, seconds = [90, 70, 85, 60, 90], [10, 1, 11, 12, 10]
    assert statistics.dominated_by(accuracies, seconds) == [None, None, 0, 0, None]


def test_calibration_is_that_of_torchmetrics():
    draw = np.random.default_rng(0)
    probabilities = draw.dirichlet(np.full(4, 0.5), 2000).astype(np.float32)
    labels = draw.integers(0, 4, 2000)
    found = statistics.calibration(probabilities.max(1), probabilities.argmax(1) == labels)
    oracle = MulticlassCalibrationError(4, n_bins=15, norm="l1")
    assert found.ece == pytest.approx(float(oracle(torch.tensor(probabilities), torch.tensor(labels))), abs=1e-5)
    assert sum(found.images) == 2000


def test_a_network_that_is_always_right_when_it_says_so_has_no_calibration_error():
    found = statistics.calibration(np.array([1.0, 1.0, 0.5, 0.5], np.float32), np.array([True, True, True, False]))
    assert found.ece == 0
    assert (found.confidence, found.accuracy, found.images) == ([0.5, 1.0], [0.5, 1.0], [2, 2])


def test_a_clear_ranking_is_stable_and_a_tie_is_not():
    draw = np.random.default_rng(0)
    good, tied, also_tied = (draw.random((3, 2000)) < share for share in (0.9, 0.6, 0.6))
    also_tied[:, :] = tied[:, ::-1]
    shares = statistics.rank_probabilities([good, tied, also_tied])
    assert shares[0, 0] == 1
    assert shares[1, 1] == pytest.approx(0.5, abs=0.06)
    np.testing.assert_allclose(shares.sum(0), 1)
    np.testing.assert_allclose(shares.sum(1), 1)


def test_networks_that_never_differ_share_every_rank():
    same = np.ones((1, 30), bool)
    assert statistics.rank_probabilities([same, same])[0, 0] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("seeds", [1, 3])
def test_over_many_draws_of_the_same_truth_few_differences_are_found_and_most_intervals_hold(seeds):
    # A short form of benchmarks/false_positives.py; bounds are four binomial deviations wide.
    draw = np.random.default_rng(seeds)
    found = held = 0
    for _ in range(400):
        chance = 0.8 + draw.uniform(-0.15, 0.15, 2000)
        luck = 0.0 if seeds == 1 else draw.uniform(-0.02, 0.02, (2, seeds, 1))
        first, second = draw.random((2, seeds, 2000)) < chance + luck
        difference = statistics.paired_difference(first, second)
        found += difference.p < 0.05
        held += difference.share.low <= 0 <= difference.share.high
    assert found / 400 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)
    assert held / 400 >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 400)
