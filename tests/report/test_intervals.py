from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.classification import MulticlassCalibrationError

from cnn_compare.report import intervals
from cnn_compare.report.intervals import Sample


def answers(right, images):
    return np.array([[index < right for index in range(images)]])


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, score method.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_one_seed_is_wilsons(right, images, low, high):
    for sample in (Sample.of(answers(right, images)), Sample([right / images], images)):
        (estimate,) = intervals.accuracy_estimates([sample])
        assert estimate.value == pytest.approx(right / images)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


def test_noise_is_the_rest_of_the_analysis_of_variance_worked_out_by_hand():
    correct = np.array([[1, 1, 0, 1, 1, 0], [1, 0, 0, 1, 0, 1]], bool)
    mean, seeds, images = correct.mean(), correct.mean(1), correct.mean(0)
    rest = ((correct - seeds[:, None] - images[None] + mean) ** 2).sum()
    # Five degrees of freedom; the estimate divides by all six images, which matters little where there are many.
    assert rest / 6 <= Sample.of(correct).noise <= rest / 5


def test_equal_accuracies_of_all_seeds_do_not_hide_the_noise_of_answers():
    # Every seed answers another image wrong: no variance between accuracies, and much chance in each.
    correct = np.ones((3, 360), bool)
    correct[[0, 1, 2], [0, 1, 2]] = False
    (variance,) = intervals.seed_variances([Sample.of(correct)])
    assert variance.variance == pytest.approx((1 / 360) / 360, rel=0.02)


def test_alike_variances_are_shrunken_towards_their_mean_and_unlike_ones_are_not():
    # Two degrees of freedom of one's own and four of all: (2 * own + 4 * mean) / 6.
    deviations = [0.008, 0.01, 0.012, 0.009, 0.011]
    alike = [Sample([0.8 - deviation, 0.8, 0.8 + deviation], 10**9) for deviation in deviations]
    own = np.square(deviations)
    found = intervals.seed_variances(alike)
    np.testing.assert_allclose([each.variance for each in found], (2 * own + 4 * own.mean()) / 6, rtol=1e-6)
    assert {each.freedom for each in found} == {6.0}
    unlike = [Sample([0.8 - d, 0.8, 0.8 + d], 10**9) for d in np.geomspace(1e-5, 0.05, 8)]
    assert {each.freedom for each in intervals.seed_variances(unlike)} == {2.0}
    one_out = [*alike, *alike, Sample([0.75, 0.8, 0.85], 10**9)]
    assert [each.freedom for each in intervals.seed_variances(one_out)] == [6.0] * 10 + [2.0]


def test_two_seeds_share_no_variance():
    draw = np.random.default_rng(0)
    samples = [Sample(draw.normal(0.8, 0.01, 2).tolist(), 1000) for _ in range(20)]
    assert {each.freedom for each in intervals.seed_variances(samples)} == {1.0}


def test_one_network_with_two_seeds_takes_nothing_from_the_others():
    alike = [Sample([0.8 - deviation, 0.8, 0.8 + deviation], 10**9) for deviation in (0.008, 0.01, 0.012, 0.009, 0.011)]
    alone = intervals.seed_variances(alike)
    assert intervals.seed_variances([*alike, Sample([0.8, 0.81], 10**9)]) == [
        *alone,
        intervals.SeedVariance(pytest.approx(0.00005), 1.0),
    ]


def test_a_network_with_fewer_seeds_is_shrunken_less():
    draw = np.random.default_rng(1)
    samples = [Sample(draw.normal(0.8, 0.01, seeds).tolist(), 10**9) for seeds in (5, 5, 5, 3)]
    assert [each.freedom for each in intervals.seed_variances(samples)] == [4 + 4, 4 + 4, 4 + 4, 2 + 4 / 2]


def sums_of_errors(seeds, draw, count):
    """Errors of each network drawn and added. Of two, that with the smaller variance mostly gains two degrees."""
    if len(seeds) < 2 or min(freedom for _, freedom in seeds) < 2:
        return sum((error * draw.standard_t(freedom, count) for error, freedom in seeds), np.zeros(count))
    (a, of_a), (b, of_b) = seeds

    def with_more(error, freedom):
        return error * math.sqrt(freedom / (freedom + 2)) * draw.standard_t(freedom + 2, count)

    first_gains = draw.random(count) < b**2 / (a**2 + b**2)
    gained = with_more(a, of_a) + b * draw.standard_t(of_b, count)
    return np.where(first_gains, gained, a * draw.standard_t(of_a, count) + with_more(b, of_b))


@pytest.mark.parametrize("seeds", [(), ((1.0, 1),), ((1.0, 2), (0.3, 6)), ((1.0, 2), (1.0, 4)), ((2.0, 3), (1.0, 1))])
@pytest.mark.parametrize("freedom", [math.inf, 5])
def test_an_error_is_that_of_t_and_normal_draws_added(seeds, freedom):
    error, draw = intervals.Error(seeds, 0.7, freedom), np.random.default_rng(0)
    of_images = draw.normal(size=400_000) if freedom == math.inf else draw.standard_t(freedom, 400_000)
    sums = 0.7 * of_images + sums_of_errors(seeds, draw, 400_000)
    for distance in (0.5, 2.0, 5.0):
        share = (abs(sums) >= distance).mean()
        assert error.p(distance) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 400_000) + 1e-9)
    assert error.p(error.half_width(0.01)) == pytest.approx(0.01, rel=1e-4)


def test_errors_with_one_degree_of_freedom_each_add_up_as_cauchys_do():
    error = intervals.Error(((1.0, 1), (0.3, 1)), 0.3, 1)
    for distance in (0.5, 2.0, 40.0):
        assert error.p(distance) == pytest.approx(2 * stats.cauchy.sf(distance, scale=1.6), abs=1e-4)


@pytest.mark.parametrize(("deviations", "wrong"), [((0.006, 0.006), 0.02), ((0.006, 0.018), 0.05)])
def test_two_networks_with_three_seeds_find_two_points_in_two_cases_of_three(deviations, wrong):
    # With accuracies drawn instead of answers; the bounds are three binomial deviations wide.
    draw, found = np.random.default_rng(0), {0.0: 0, 0.02: 0}
    for gain in found:
        for _ in range(600):
            accuracies = draw.normal([[0.8], [0.8 + gain]], np.array(deviations)[:, None], (2, 3))
            errors = [(math.sqrt(np.var(each, ddof=1) / 3), 2.0) for each in accuracies]
            p = intervals.Error(tuple(errors), 0.0006).p(float(np.subtract(*accuracies.mean(1))))
            found[gain] += p <= 0.05
    assert found[0.0] / 600 <= wrong + 3 * math.sqrt(wrong * (1 - wrong) / 600)
    if deviations == (0.006, 0.006):
        assert found[0.02] / 600 > 0.66 - 3 * math.sqrt(0.66 * 0.34 / 600)


def test_an_error_over_seeds_alone_is_students():
    error = intervals.Error(((0.2, 2),), 0.0)
    for level in (0.05, 1e-4, 1e-7):
        assert error.half_width(level) == pytest.approx(0.2 * stats.t.isf(level / 2, 2), rel=1e-4)


def test_many_pairs_of_alike_networks_are_corrected_as_by_tukey():
    # The same values in each network, shifted: equal variances, as Tukey assumes, and no images to speak of. There are
    # many, because Tukey pools the variances of all networks, and this test those of two with a little of the others.
    values = np.random.default_rng(3).normal(0, 0.01, 300)
    accuracies = 0.8 + values + np.array([0, 0.0006, 0.0012, 0.0018, 0.0036])[:, None]
    samples = [Sample(each.tolist(), 10**9) for each in accuracies]
    pairs = list(itertools.combinations(range(5), 2))
    found = intervals.sample_differences(samples, pairs)
    tukey = stats.tukey_hsd(*accuracies).pvalue
    for each, (first, second) in zip(found, pairs, strict=True):
        assert each.p_corrected == pytest.approx(tukey[first, second], abs=0.02)
        assert (each.share.low > 0 or each.share.high < 0) == (each.p_corrected <= 0.05)
        assert each.p <= each.p_corrected <= 10 * each.p + 1e-12


def test_one_network_against_all_others_is_corrected_as_by_dunnett():
    values = np.random.default_rng(5).normal(0, 0.01, 30)
    accuracies = 0.8 + values + np.array([0, 0.002, 0.004, 0.006, 0.0, 0.008])[:, None]
    found = intervals.sample_differences(
        [Sample(each.tolist(), 10**9) for each in accuracies], [(k, 0) for k in range(1, 6)]
    )
    dunnett = stats.dunnett(*accuracies[1:], control=accuracies[0], random_state=0).pvalue
    np.testing.assert_allclose([each.p_corrected for each in found], dunnett, atol=0.03)


def test_one_seed_each_is_compared_by_the_images_that_tell_two_networks_apart():
    # 50 images: 8 right in the first network alone, 1 in the second alone; Agresti and Min's form adds one.
    first = np.array([[True] * 8 + [False] + [True] * 41])
    second = np.array([[False] * 8 + [True] + [True] * 41])
    (difference,) = intervals.sample_differences([Sample.of(first), Sample.of(second)], [(0, 1)])
    error = math.sqrt((9 / 50 - (7 / 50) ** 2 + 1 / 50) / 50)
    assert difference.share.value == pytest.approx(7 / 50)
    assert difference.p == pytest.approx(2 * stats.norm.sf(7 / 50 / error), rel=1e-3)
    mcnemar = stats.binomtest(8, 9).pvalue
    assert mcnemar / 2 < difference.p < 2 * mcnemar


def test_a_difference_of_one_image_in_every_seed_is_not_certain():
    # All seeds wrong by 3 and by 4 of 360 images: equal differences are no proof of a difference.
    first, second = np.ones((2, 3, 360), bool)
    first[:, :3], second[:, :4] = False, False
    (difference,) = intervals.sample_differences([Sample.of(first), Sample.of(second)], [(0, 1)])
    assert difference.p > 0.2
    assert difference.share.low < 0 < difference.share.high


def test_all_right_answers_of_three_seeds_are_no_more_certain_than_those_of_one():
    one, three = intervals.accuracy_estimates([Sample.of(np.ones((1, 360), bool)), Sample.of(np.ones((3, 360), bool))])
    assert three.low == pytest.approx(one.low)
    assert (one.high, three.high) == pytest.approx((1.0, 1.0))


def test_the_sign_of_a_difference_turns_with_the_order():
    draw = np.random.default_rng(1)
    samples = [Sample.of(draw.random((3, 400)) < share) for share in (0.8, 0.7)]
    there, back = intervals.sample_differences(samples, [(0, 1), (1, 0)])
    assert there.p == pytest.approx(back.p)
    assert (there.share.value, there.share.low) == pytest.approx((-back.share.value, -back.share.high))
    assert there.share.low < 0.1 < there.share.high


def test_equal_answers_do_not_differ():
    same = Sample.of(np.random.default_rng(0).random((3, 50)) < 0.5)
    (difference,) = intervals.sample_differences([same, same], [(0, 1)])
    assert (difference.share.value, difference.p, difference.p_corrected) == (0.0, 1.0, 1.0)


def test_accuracies_alone_never_say_more_than_the_answers_behind_them():
    draw = np.random.default_rng(0)
    for _ in range(50):
        chance = np.clip(0.7 + draw.normal(0, 0.2, 500), 0, 1)
        answered = [
            draw.random((3, 500)) < np.clip(chance + draw.normal(shift, 0.02, (3, 1)), 0, 1) for shift in (0.03, 0)
        ]
        (whole,) = intervals.sample_differences([Sample.of(each) for each in answered], [(0, 1)])
        (less,) = intervals.sample_differences([Sample(each.mean(1).tolist(), 500) for each in answered], [(0, 1)])
        assert less.p >= whole.p - 1e-6
        assert less.share.high - less.share.low >= whole.share.high - whole.share.low - 1e-6


@pytest.mark.parametrize("seeds", [4, 8])
def test_the_smallest_difference_is_found_in_four_comparisons_of_five(seeds):
    draw, difference = np.random.default_rng(0), intervals.smallest_difference(seeds, 0.01, 0.0)
    samples = draw.normal([[difference], [0.0]], 0.01, (4000, 2, seeds))
    found = stats.ttest_ind(samples[:, 0], samples[:, 1], axis=1, equal_var=False).pvalue <= 0.05
    assert 0.75 < found.mean() < 0.9


def test_unlike_deviations_of_few_seeds_are_told():
    assert intervals.deviations_differ([0.1, 0.7], [3, 3])
    assert intervals.deviations_differ([0.1, 0.1, 0.7], [5, 5, 5])
    assert not intervals.deviations_differ([0.3, 0.7], [3, 3])
    assert not intervals.deviations_differ(
        [0.1, 0.3, 0.4, 0.4, 0.5, 0.55], [3] * 6
    )  # As far apart as equal ones are by chance.
    assert not intervals.deviations_differ([0.1, 0.7], [8, 8])
    assert not intervals.deviations_differ([0.1], [3])


def test_calibration_is_that_of_torchmetrics():
    draw = np.random.default_rng(0)
    probabilities = draw.dirichlet(np.full(4, 0.5), 2000).astype(np.float32)
    labels = draw.integers(0, 4, 2000)
    halves = np.split(probabilities, 2), np.split(labels, 2)
    found = intervals.calibration(
        np.stack([each.max(1) for each in halves[0]]),
        np.stack([each.argmax(1) == of for each, of in zip(*halves, strict=True)]),
    )
    errors = [
        float(MulticlassCalibrationError(4, n_bins=15, norm="l1")(torch.tensor(each), torch.tensor(of)))
        for each, of in zip(*halves, strict=True)
    ]
    assert found.ece == pytest.approx(np.mean(errors), abs=1e-5)
    assert sum(found.images) == 2000


def test_a_network_that_is_always_right_when_it_says_so_has_no_calibration_error():
    found = intervals.calibration(np.array([[1.0, 1.0, 0.5, 0.5]], np.float32), np.array([[True, True, True, False]]))
    assert found.ece == 0
    assert (found.confidence, found.accuracy, found.images) == ([0.5, 1.0], [0.5, 1.0], [2, 2])


@pytest.mark.parametrize(("seeds", "copies"), [(1, 1), (3, 1), (10, 1), (3, 10)])
def test_a_calibrated_network_has_the_error_that_chance_gives(seeds, copies):
    # Seeds are right on the same images, and copies of an image are one group: neither is more evidence.
    draw, exceeded = np.random.default_rng(0), []
    for _ in range(200):
        confidence = np.clip(draw.uniform(0.5, 1, 600) + draw.normal(0, 0.01, (seeds, 600)), 0, 1).repeat(
            copies, axis=1
        )
        right = draw.random(600).repeat(copies) < confidence
        found = intervals.calibration(confidence.astype(np.float32), right, np.arange(600).repeat(copies))
        exceeded.append(found.ece > found.ece_by_chance)
    assert np.mean(exceeded) == pytest.approx(0.05, abs=0.06)


@pytest.mark.parametrize("seeds", [1, 3])
def test_over_many_draws_of_the_same_truth_few_comparisons_find_a_difference(seeds):
    # A short form of benchmarks/false_positives.py; bounds are four binomial deviations wide.
    draw = np.random.default_rng(seeds)
    pairs = [(0, 1), (0, 2), (1, 2)]
    found = 0
    for _ in range(150):
        chance = 0.8 + draw.uniform(-0.15, 0.15, 2000)
        luck = 0.0 if seeds == 1 else draw.uniform(-0.02, 0.02, (3, seeds, 1))
        samples = [Sample.of(each) for each in draw.random((3, seeds, 2000)) < chance + luck]
        found += any(each.p_corrected <= 0.05 for each in intervals.sample_differences(samples, pairs))
    assert found / 150 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 150)


def test_groups_of_one_image_each_count_as_images():
    draw = np.random.default_rng(0)
    correct = draw.random((2, 3, 500)) < 0.8
    alone = [Sample.of(each, draw.permutation(500)) for each in correct]
    (found,), (expected,) = (
        intervals.sample_differences(samples, [(0, 1)]) for samples in (alone, [Sample.of(each) for each in correct])
    )
    assert found.share.high == pytest.approx(expected.share.high, rel=0.01)
    for each, same in zip(
        *map(intervals.accuracy_estimates, (alone, [Sample.of(each) for each in correct])), strict=True
    ):
        assert (each.low, each.high) == pytest.approx((same.low, same.high), abs=1e-3)


@pytest.mark.parametrize("seeds", [1, 3])
def test_tenfold_copies_say_no_more_than_the_images_alone(seeds):
    distinct = np.random.default_rng(seeds).random((3, seeds, 300)) < 0.7
    copies = [Sample.of(np.repeat(each, 10, axis=1), np.repeat(np.arange(300), 10)) for each in distinct]
    alone = [Sample.of(each) for each in distinct]
    pairs = [(0, 1), (0, 2), (1, 2)]
    for found, expected in zip(*(intervals.sample_differences(each, pairs) for each in (copies, alone)), strict=True):
        assert found.share.value == pytest.approx(expected.share.value)
        assert found.share.high - found.share.low == pytest.approx(expected.share.high - expected.share.low, rel=0.02)
    for found, expected in zip(*map(intervals.accuracy_estimates, (copies, alone)), strict=True):
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=2e-3)


def test_the_error_by_groups_is_that_of_resampled_groups():
    draw = np.random.default_rng(1)
    sizes = draw.integers(2, 15, 120)
    groups = np.repeat(np.arange(120), sizes)
    correct = draw.random((1, len(groups))) < np.repeat(draw.uniform(0.4, 1, 120), sizes)
    right, all_of = np.bincount(groups, correct[0]), np.bincount(groups)
    chosen = draw.integers(0, 120, (20_000, 120))
    deviation = (right[chosen].sum(1) / all_of[chosen].sum(1)).std()
    sample = Sample.of(correct, groups)
    share = correct.mean()
    assert math.sqrt(share * (1 - share) / sample.effective_size) == pytest.approx(deviation, rel=0.03)
    assert sample.effective_size < len(groups)


def test_few_groups_have_students_interval():
    draw = np.random.default_rng(2)
    groups = np.repeat(np.arange(8), 50)
    correct = draw.random((2, 1, 400)) < np.repeat(draw.uniform(0.3, 0.9, 8), 50)
    (found,) = intervals.sample_differences([Sample.of(each, groups) for each in correct], [(0, 1)])
    means = (correct[0, 0].astype(float) - correct[1, 0]).reshape(8, 50).mean(1)
    error = stats.sem(means)
    expected = stats.t(7).isf(0.025) * error
    # Wider by the one image more that tells them apart.
    assert expected < found.share.high - found.share.value < 1.15 * expected


def test_a_single_group_says_nothing_of_others_and_is_none():
    correct = np.random.default_rng(3).random((2, 100)) < 0.8
    assert intervals.accuracy_estimates([Sample.of(correct, np.zeros(100, int))]) == intervals.accuracy_estimates(
        [Sample.of(correct)]
    )


@pytest.mark.parametrize("right", [0, 100])
def test_groups_that_are_all_right_or_all_wrong_count_as_one_image_each(right):
    correct = np.arange(100)[None] < right
    (found,) = intervals.accuracy_estimates([Sample.of(correct, np.arange(100) // 10)])
    (expected,) = intervals.accuracy_estimates([Sample.of(answers(right // 10, 10))])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("seeds", "groups"), [(1, 200), (1, 20), (3, 20)])
def test_over_many_draws_copies_of_test_images_find_few_differences(seeds, groups):
    # A short form of benchmarks/false_positives.py; the bound is four binomial deviations wide.
    draw, found, numbers = np.random.default_rng(seeds), 0, np.repeat(np.arange(groups), 10)
    for _ in range(100):
        right = draw.random((2, seeds, groups)) < 0.8 + draw.uniform(-0.15, 0.15, groups)
        samples = [Sample.of(np.repeat(each, 10, axis=1), numbers) for each in right]
        (difference,) = intervals.sample_differences(samples, [(0, 1)])
        found += difference.p <= 0.05
    assert found / 100 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 100)


def test_an_error_of_two_networks_and_few_groups_is_that_of_draws_added():
    error = intervals.Error(((0.01, 2.0), (0.02, 6.0)), 0.015, 9.0)
    draw = np.random.default_rng(4)
    drawn = sums_of_errors(error.seeds, draw, 10**6) + 0.015 * draw.standard_t(9, 10**6)
    assert error.half_width() == pytest.approx(np.quantile(abs(drawn), 0.95), rel=0.01)
    assert error.p(0.06) == pytest.approx(np.mean(abs(drawn) > 0.06), rel=0.02)


def test_balanced_accuracy_varies_with_groups_of_all_classes_as_resampled_groups_do():
    draw = np.random.default_rng(5)
    groups, labels = np.repeat(np.arange(150), 8), np.tile([0, 0, 0, 0, 1, 1, 1, 2], 150)
    right = draw.random(1200) < np.repeat(draw.uniform(0.3, 1, 150), 8)
    recalls = [right[labels == label].mean() for label in range(3)]
    samples = [Sample.of(right[None, labels == label], groups[labels == label]) for label in range(3)]
    estimates = [
        intervals.share_estimate(recall, sample.effective_size, sample.image_freedom)
        for recall, sample in zip(recalls, samples, strict=True)
    ]
    together = intervals.variance_together(right, labels, groups)
    found = intervals.balanced_estimate(estimates, together)
    by_group = np.stack([np.bincount(groups[labels == label], right[labels == label]) for label in range(3)])
    chosen = draw.integers(0, 150, (20_000, 150))
    resampled = (by_group[:, chosen].sum(2) / np.array([[600], [450], [150]])).mean(0)
    assert together > 1.2
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * resampled.std(), rel=0.05)
    # Classes of which every group has one image alone are independent.
    assert intervals.variance_together(right, labels, np.arange(1200)) == pytest.approx(1)
