"""Single test images in the report: possible wrong labels, leaks, pictures."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from helpers import Shown
from statsmodels.stats.proportion import proportion_confint

from cnn_compare import write_report
from cnn_compare.files import write_bytes
from cnn_compare.pictures import HeatMap, Leaked, ReportPictures, labels_digest, small_picture
from cnn_compare.report.wrong_labels import doubts, flipped, suspicious, worth_a_look

LABELS = np.arange(1000) % 10
DOT = small_picture(np.zeros((8, 8, 3), np.uint8), 8)
PICTURES = ReportPictures(labels_digest(LABELS), {}, {13: DOT}, Leaked([], [], True))


def answers(seed):
    """Labels, a tenth of them wrong, and the probabilities of a network that is sometimes unsure."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 6, 800)
    labels = np.where(draw.random(800) < 0.1, draw.integers(0, 6, 800), truth)
    logits = 1.2 * draw.normal(size=(800, 6))
    logits[np.arange(800), truth] += draw.choice([1, 2.5, 5], 800)
    shares = np.exp(logits)
    return labels, shares / shares.sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_labels_in_doubt_and_their_order_are_those_of_cleanlab(seed):
    labels, shares = answers(seed)
    found = suspicious(labels, [[doubts(labels, shares.argmax(1), shares)]])
    expected = find_label_issues(
        labels, shares, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    assert len(found) > 20
    assert [each.image for each in found] == expected.tolist()
    assert [each.instead for each in found] == shares.argmax(1)[expected].tolist()


def test_with_the_probabilities_of_the_answers_alone_no_other_labels_are_in_doubt():
    labels, shares = answers(0)
    whole = {each.image for each in suspicious(labels, [[doubts(labels, shares.argmax(1), shares)]])}
    part = {each.image for each in suspicious(labels, [[doubts(labels, shares.argmax(1), shares.max(1))]])}
    assert part < whole
    assert len(part) > len(whole) / 3


def test_a_class_without_images_and_probabilities_that_are_no_numbers_are_no_reason_to_stop():
    labels = np.array([0, 0, 2])
    shares = np.array([[0.9, 0.1, 0], [np.nan, np.inf, np.inf], [0.1, 0.8, 0.1]], np.float16)
    assert doubts(labels, np.array([0, 1, 1]), shares).instead.tolist()[0] == 0


def store_answers(folder, labels, predictions, certain=0.9):
    """Predictions that are all equally certain."""
    shares = np.full((len(labels), 10), (1 - certain) / 9)
    shares[np.arange(len(labels)), predictions] = certain
    buffer = io.BytesIO()
    np.savez_compressed(buffer, labels=labels, predictions=predictions, probabilities=shares.astype(np.float16))
    write_bytes(folder / "predictions.npz", buffer.getvalue())


def test_a_label_is_listed_where_most_networks_contradict_it_however_many_seeds_they_have(store_run, tmp_path):
    # Image 13: all three networks say 7; image 25: two do; image 37: one does, which has three of the five runs.
    doubted = {"a": {13: 7, 25: 7, 37: 7}, "b": {13: 7, 25: 8}, "c": {13: 7}}
    for name, seeds in (("a", 3), ("b", 1), ("c", 1)):
        for seed in range(seeds):
            predictions = LABELS.copy()
            predictions[list(doubted[name])] = list(doubted[name].values())
            store_answers(store_run(name, seed), LABELS, predictions, certain=0.9 if name == "a" else 0.8)
    summary = Shown(write_report(tmp_path))
    assert [(each.image, each.label, each.instead) for each in summary.wrong_labels] == [
        (13, "<d>", "<h>"),
        (25, "<f>", "<h>"),
    ]
    assert [each.contradicted_pct for each in summary.wrong_labels] == pytest.approx([100, 200 / 3])
    # Two labels are fewer than ten, and are not said to hold none that is wrong.
    assert re.search("Of ten such labels, about [2-9] are wrong", summary.tables["wrong-labels"].note)
    # Means over the networks of (0.1 / 9 − 0.9) and (0.2 / 9 − 0.8).
    assert summary.wrong_labels[0].margin == pytest.approx((0.1 / 9 - 0.9 + 2 * (0.2 / 9 - 0.8)) / 3, abs=1e-3)
    with (tmp_path / "suspicious_labels.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["13", "25"]
    store_answers(tmp_path / "b" / "seed_0", LABELS, LABELS)
    store_answers(tmp_path / "c" / "seed_0", LABELS, LABELS)
    assert Shown(write_report(tmp_path)).wrong_labels == []
    assert not (tmp_path / "suspicious_labels.csv").exists()


def test_a_long_list_of_labels_is_shown_in_part_and_stored_whole(store_run, tmp_path):
    predictions = np.where(np.arange(1000) < 30, (LABELS + 1) % 10, LABELS)
    store_answers(store_run("a"), LABELS, predictions)
    table = Shown(write_report(tmp_path)).tables["wrong-labels"]
    assert len(table.rows) == 20
    assert "the 20 most suspicious of 30" in table.note
    assert "Of ten such labels, about 10 are wrong" in table.note
    assert len((tmp_path / "suspicious_labels.csv").read_text().splitlines()) == 31


def simulated(share_wrong, strength, seed=0, images=4000, classes=10):
    """Labels, which of them are wrong, and the probabilities of a network that learned right ones, some hard."""
    draw = np.random.default_rng(seed)
    truth, rows = draw.integers(0, classes, images), np.arange(images)
    wrong = draw.random(images) < share_wrong
    labels = np.where(wrong, (truth + draw.integers(1, classes, images)) % classes, truth)
    logits = draw.normal(0, 1, (images, classes))
    logits[rows, truth] += strength * draw.gamma(2, 1, images)
    seems = (truth + draw.integers(1, classes, images)) % classes  # What a hard image looks like instead.
    logits[rows, seems] += np.where(draw.random(images) < 0.1, strength * draw.gamma(2, 0.5, images), 0)
    shares = np.exp(logits)
    return labels, wrong, shares / shares.sum(1, keepdims=True)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("share_wrong", [0.0, 0.005, 0.02, 0.1])
def test_a_list_of_labels_ends_where_few_are_wrong_and_does_not_promise_more_than_it_holds(share_wrong, strength):
    said, true = [], []
    for seed in range(3):
        labels, wrong, shares = simulated(share_wrong, strength, seed)
        networks = [[doubts(labels, shares.argmax(1), shares)]]
        found, share = worth_a_look(suspicious(labels, networks), networks)
        assert len(found) <= 50
        assert share == 0 if not found else share > 0.2
        said += [share] * len(found)
        true += [wrong[each.image] for each in found]
    if not true:
        return
    # Something is always the most suspicious: with few wrong labels or none, most of the list is said to be right.
    assert np.mean(said) < np.mean(true) + (0.3 if share_wrong < 0.02 else 0.1)
    if share_wrong >= 0.02 and strength >= 2:
        assert len(true) >= 100
        assert np.mean(true) > 0.6


def test_without_a_label_worth_a_look_the_report_says_so(store_run, tmp_path):
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.ones(10), 1000)  # Of a network that guesses: it is as sure of wrong labels as of right.
    folder = store_run("a")
    with np.load(folder / "predictions.npz") as stored:
        np.savez(folder / "predictions.npz", **{**stored, "predictions": shares.argmax(1), "probabilities": shares})
    summary = Shown(write_report(tmp_path))
    assert (summary.wrong_labels, summary.wrong_labels_pct) == ([], 0)
    found = summary.tables
    assert dict(found["conditions"].rows)["possible wrong labels"].startswith("none listed: of ten")
    assert "wrong-labels" not in found


@pytest.mark.parametrize("strength", [0.5, 0.7, 1.0])
def test_networks_that_are_wrong_in_four_of_ten_images_and_more_list_no_right_labels(strength):
    for seed in range(3):
        labels, _, shares = simulated(0.0, strength, seed, images=10_000)
        networks = [[doubts(labels, shares.argmax(1), shares)]]
        found = suspicious(labels, networks)
        assert len(found) > 300
        assert worth_a_look(found, networks) == ([], 0.0)


def test_each_label_is_flipped_to_another_class_and_to_the_same_one_on_every_machine():
    drawn = [((place + 1) * 0x9E3779B97F4A7C15 % 2**64 >> 33) % 9 for place in range(8)]
    assert flipped(np.zeros(8, np.uint8), np.arange(8), 10).tolist() == [1 + each for each in drawn]
    places = np.arange(300)
    assert (flipped(places % 3, places, 3) != places % 3).all()
    assert flipped(np.array([0, 1]), np.arange(2), 2).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("exact", "near", "warned"),
    [
        (10, 40, []),  # Alike ones that change little are no warning, however many.
        (11, 0, ["11 of 1,000 test images have an exact copy"]),
        (1, 300, ["1 of 1,000 test images have an exact copy", "300 look alike", "accuracy of a and b is outside its"]),
    ],
)
def test_accuracy_is_counted_without_leaks_and_exact_or_harmful_ones_are_a_warning(
    store_run, tmp_path, exact, near, warned
):
    leaks = exact + near
    store_run("a", right=range(800))
    store_run("b", right=range(700, 1000))
    replace(PICTURES, leaked=Leaked([*range(exact)], [*range(exact, leaks)], True)).save(tmp_path)
    summary = Shown(write_report(tmp_path))
    assert (summary.leaks.exact, summary.leaks.near) == (exact, near)
    right = 800 - leaks
    without = summary.leaks.without_pct["a"]
    assert without.value == pytest.approx(100 * right / (1000 - leaks))
    low, high = proportion_confint(right, 1000 - leaks, method="wilson")
    assert (without.low, without.high) == pytest.approx((100 * low, 100 * high))
    assert summary.leaks.leaked_pct == {"a": 100.0, "b": 0.0}
    said = [text for text in summary.warnings if text.startswith("leaks: ")]
    assert len(said) == bool(warned)
    assert all(text in said[0] for text in warned)
    row = summary.tables["leaks"].rows[0]
    assert row[:3] == ["a", "80.00", f"{100 * right / (1000 - leaks):.2f}"]


def test_no_leaks_and_none_looked_for_are_told_apart(store_run, tmp_path):
    store_run("a")
    assert "leaks" not in dict(Shown(write_report(tmp_path)).tables["conditions"].rows)
    PICTURES.save(tmp_path)
    found = Shown(write_report(tmp_path)).tables
    assert dict(found["conditions"].rows)["leaks"] == "no test image has a copy among the training images"
    assert "leaks" not in found


def test_what_was_read_from_the_data_comes_back_from_its_file(tmp_path):
    heat = {"a": {13: HeatMap(DOT, 4)}}
    whole = replace(PICTURES, names={13: "나비.png"}, asked=[13, 2], heat_maps=heat, notes=["No heat map of b."])
    whole.save(tmp_path)
    assert ReportPictures.load(tmp_path) == whole


def damaged(**changes):
    return json.dumps({**json.loads(json.dumps(vars(PICTURES), default=vars)), "schema": 1, **changes})


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        damaged(schema=2),
        damaged(pictures={"13": "https://example.org/a.png"}),
        damaged(pictures={"x": DOT}),
        damaged(pictures={"1": "data:image/png;base64," + 900_000 * "A"}),
        damaged(leaked=None),
        damaged(asked=[-1]),
        damaged(test_labels="of other images"),
    ],
)
def test_a_damaged_file_of_pictures_is_listed_and_the_report_is_as_without_it(store_run, tmp_path, content):
    store_run("a")
    write_report(tmp_path)
    before = (tmp_path / "results.json").read_text()
    (tmp_path / "pictures.json").write_text(content)
    summary = Shown(write_report(tmp_path))
    assert [entry["run"] for entry in summary.without_result] == ["pictures.json"]
    after = json.loads((tmp_path / "results.json").read_text())
    assert after.pop("without_result")
    assert after == json.loads(before)


def test_the_page_alone_has_pictures_and_results_json_none(store_run, tmp_path):
    store_run("a", right=range(900))
    replace(PICTURES, pictures={900: DOT}, names={900: "<b>.png"}, notes=["<i>"]).save(tmp_path)
    write_report(tmp_path)
    assert DOT in (tmp_path / "report.html").read_text()
    assert "<b>.png" not in (tmp_path / "report.html").read_text()
    for name in ("results.json", "report.md"):
        assert "data:image" not in (tmp_path / name).read_text()
    assert "&lt;b>.png" in (tmp_path / "report.md").read_text()
