from __future__ import annotations

import json
import re

import numpy as np
import pytest
from helpers import Shown

from cnn_compare import write_report
from cnn_compare.report.learning_curve import LearningCurve, fit_learning_curve

SIZES = (250, 500, 1000, 2000)


def errors_of(curve, sizes=SIZES, seeds=3, deviation=0.004, seed=0):
    """Errors of seeds about a true curve; their means lie on it exactly where ``seed`` is None."""
    if seed is None:
        return {size: (curve(size) + deviation * np.linspace(-1, 1, seeds)).tolist() for size in sizes}
    rng = np.random.default_rng(seed)
    return {size: (curve(size) + rng.normal(0, deviation, seeds)).tolist() for size in sizes}


def power(size):
    return 4 * size**-0.35


def with_floor(size):
    return 8 * size**-0.5 + 0.1


def bent(size):
    """Flat at first, as near chance."""
    return 0.9 / (1 + (size / 1500) ** 0.6)


def easy(size):
    """Saturates: nearly nothing is left to learn."""
    return 0.012 + 30 * size**-1.1


def ending(size):
    """Falls as a power, and hardly beyond the data."""
    return power(min(size, 2200)) * (max(size, 2200) / 2200) ** -0.05


def test_a_true_power_law_is_found_again():
    law = fit_learning_curve(errors_of(power, seed=None, deviation=0.002), test_images=10**6)
    assert law.exponent == pytest.approx(0.35, abs=0.04)
    assert law.accuracy(2000).value == pytest.approx(1 - power(2000), abs=0.003)
    assert law.accuracy(4000).value == pytest.approx(1 - power(4000), abs=0.02)
    assert (law.smallest, law.largest, law.furthest) == (250, 2000, 8000)


@pytest.mark.parametrize("curve", [power, with_floor, bent, easy, ending])
def test_intervals_hold_what_is_measured_later_whatever_the_curve(curve):
    held = []
    for seed in range(30):
        errors = errors_of(curve, deviation=0.02 * (curve(2000) * (1 - curve(2000))) ** 0.5, seed=seed)
        law = fit_learning_curve(errors, test_images=10_000)
        if isinstance(law, LearningCurve) and law.furthest == 8000:
            draw = np.random.default_rng(1000 + seed)
            expected = [law.accuracy(factor * 2000) for factor in (2, 4)]
            later = [
                1 - draw.normal(error, 0.02 * (error * (1 - error) / 3) ** 0.5) for error in map(curve, (4000, 8000))
            ]
            held.append([each.low <= value <= each.high for each, value in zip(expected, later, strict=True)])
    assert len(held) > 20
    assert (np.mean(held, axis=0) > 0.8).all()


@pytest.mark.parametrize("first", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("last", [0.0, 1e-4, 0.5, 1.0])
def test_every_degenerate_curve_ends_in_an_interval_or_a_reason(first, last):
    for sizes in ((100, 200, 400), (1, 10, 100, 1000, 10_000)):
        for errors in (np.linspace(first, last, len(sizes)), np.r_[[first] * (len(sizes) - 1), last]):
            found = fit_learning_curve({size: [error] * 2 for size, error in zip(sizes, errors, strict=True)}, 100)
            if isinstance(found, LearningCurve):
                estimate = found.accuracy(2 * found.largest)
                assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_intervals_grow_with_the_distance_and_with_fewer_test_images():
    errors = errors_of(power)
    law = fit_learning_curve(errors, test_images=10_000)
    widths = [estimate.high - estimate.low for estimate in map(law.accuracy, (2000, 4000, 8000))]
    assert widths == sorted(widths)
    few = fit_learning_curve(errors, test_images=100).accuracy(4000)
    assert few.high - few.low > 2 * widths[1]
    assert 0 <= few.low < few.value < few.high <= 1


def test_nothing_is_extrapolated_beyond_fourfold_nor_beyond_twofold_from_three_sizes():
    for sizes, furthest in ((SIZES, 8000), (SIZES[1:], 4000)):
        law = fit_learning_curve(errors_of(power, sizes), test_images=10_000)
        with pytest.raises(ValueError, match=f"{furthest + 1} training images are outside {sizes[0]} … {furthest}"):
            law.accuracy(furthest + 1)


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ({100: [0.5, 0.4], 200: [0.3, 0.3]}, "at least 3 numbers of training images, and there are 2"),
        ({100: [0.5], 200: [0.4], 400: [0.3]}, "one seed with 100 training images"),
        ({100: [0.5, 0.5], 200: [0.3, 0.3], 400: [0.31, 0.3]}, "does not rise from 200 to 400 training images"),
        ({100: [0.5, 0.4], 200: [0.3, 0.2], 400: [0.0, 0.0]}, "every test image is answered right"),
        ({100: [0.5, 0.3], 200: [0.4, 0.3], 400: [0.3, 0.2]}, "its seeds differ too much: for twice as many, all that"),
        (
            {100: [0.500, 0.501], 200: [0.499, 0.498], 400: [0.1, 0.101]},
            r"no usual curve goes through 100, 200, 400 training images: its means are up to \d+\.\d points beside",
        ),
        (
            {250: [0.795, 0.796], 500: [0.767, 0.794], 1000: [0.398, 0.405]},
            "its error falls much faster from 500 to 1,000 than before: where that ends is not known",
        ),
    ],
)
def test_a_poor_fit_is_refused_with_its_reason(errors, reason):
    refused = fit_learning_curve(errors, test_images=10_000)
    assert isinstance(refused, str)
    assert re.search(reason, refused)


def test_sizes_at_which_a_network_learns_nothing_yet_are_left_out():
    errors = {50: [0.9, 0.9], 100: [0.9, 0.9], **errors_of(power, seed=2)}
    assert fit_learning_curve(errors, test_images=10_000).smallest == 250


@pytest.fixture
def growing(tmp_path, store_run):
    """Two networks with four sizes and two seeds; ``slow`` hardly gains."""
    right = {"quick": (500, 600, 680, 744), "slow": (300, 310, 305, 320)}
    for backbone, counts in right.items():
        for size, count in zip(SIZES, counts, strict=True):
            for seed in (0, 1):
                config = {"data": {"init_args": {"train_subset": size}}}
                fields = {"train_subset": size, "train_images": size, "data_fingerprint": f"{size} {seed}"}
                run = store_run(backbone, seed, range(count + 4 * seed), config=config, **fields)
                (tmp_path / backbone / f"train_{size}").mkdir(exist_ok=True)
                run.rename(tmp_path / backbone / f"train_{size}" / run.name)
    planned = [
        {"backbone": backbone, "variant": None, "train_subset": size, "seed": seed}
        for backbone in right
        for size in SIZES
        for seed in (0, 1)
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "growing", "runs": planned}))
    return tmp_path


def test_the_comparison_is_about_the_largest_subset_and_the_others_are_in_the_curve(growing):
    summary = Shown(write_report(growing))
    assert {network.name: network.test_acc_pct for network in summary.networks} == {
        "quick": [74.4, 74.8],
        "slow": [32.0, 32.4],
    }
    assert [pair.differs for pair in summary.pairs] == [True]
    assert (summary.warnings, summary.unfinished, summary.without_result) == ([], None, None)
    quick, slow = summary.growth
    assert quick.test_acc_pct == {250: [50.0, 50.4], 500: [60.0, 60.4], 1000: [68.0, 68.4], 2000: [74.4, 74.8]}
    # The error falls to 0.8 of itself with each doubling.
    assert quick.law.accuracy(4000).value == pytest.approx(1 - 0.8 * 0.254, abs=0.02)
    assert slow.law is None
    assert len((growing / "results.csv").read_text().splitlines()) == 1 + 16
    text = (growing / "report.md").read_text()
    assert re.search(
        r"With twice as many training images \(4,000\), quick would reach about [\d.]+ % .* instead of 74.6 %", text
    )
    reason = "its mean accuracy does not rise from 500 to 1,000 training images"
    assert f"slow: no extrapolation beyond 2,000 training images: {reason}." in text
    assert "| quick | 50.20 ± 0.28 | 60.20 ± 0.28 | 68.20 ± 0.28 | 74.60 ± 0.28 |" in text
    assert "Accuracy over training images" in (growing / "report.html").read_text()


def test_runs_of_smaller_subsets_that_are_missing_are_counted(growing):
    missing = growing / "quick" / "train_500" / "seed_1"
    (missing / "result.json").unlink()
    summary = Shown(write_report(growing))
    assert summary.unfinished.startswith("15 of 16 runs are finished (1 not finished)")
    assert [entry["run"] for entry in summary.without_result] == ["quick/train_500/seed_1"]
    assert summary.growth[0].law is None
    assert "one seed with 500 training images" in summary.growth[0].without_law


def test_a_run_on_other_data_than_that_of_its_size_is_a_warning(growing):
    path = growing / "slow" / "train_250" / "seed_0" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data_fingerprint": "other"}))
    assert any("mixed data" in warning for warning in Shown(write_report(growing)).warnings)


def test_a_comparison_with_one_number_of_images_has_no_such_part(tmp_path, store_run):
    store_run(train_images=800)
    assert Shown(write_report(tmp_path)).growth is None
    assert "## Accuracy over training images" not in (tmp_path / "report.md").read_text()
