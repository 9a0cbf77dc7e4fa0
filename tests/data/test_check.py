"""What `cnn-compare data` finds: copies that were planted, counts by hand, and nothing written to the user's folder."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import run_command
from PIL import Image, ImageOps

from cnn_compare import DigitsDataModule, FolderDataModule
from cnn_compare.data import check
from cnn_compare.data.check import NumberedImages, copies, leaked_images, near_pairs, sizes
from cnn_compare.errors import DataError, FolderError
from cnn_compare.report.planning import NETWORKS_CORRELATE, smallest_on

COUNTS = {"train": {"[cat]": 12, "나비": 6}, "val": {"[cat]": 3, "나비": 3}, "test": {"[cat]": 5, "나비": 4}}


@pytest.fixture
def photos(tmp_path):
    """Pictures of soft random blots, three times as wide as high, in given splits; no two are alike."""
    draw = np.random.default_rng(0)
    for split, classes in COUNTS.items():
        for name, count in classes.items():
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                blots = Image.fromarray(draw.integers(0, 256, (4, 12, 3), np.uint8))
                blots.resize((192, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return tmp_path / "photos"


def folder(path, **options) -> FolderDataModule:
    return FolderDataModule(str(path), batch_size=4, **options)


def found_pairs(path, exact: bool) -> set[tuple[str, str]]:
    return {
        (pair["first"]["name"], pair["second"]["name"])
        for pair in copies(NumberedImages(folder(path)))["pairs"]
        if pair["exact"] == exact
    }


def test_pictures_that_are_no_copies_are_not_taken_for_copies(photos):
    found = copies(NumberedImages(folder(photos)))
    assert {**found, "shared": None} == {"shared": None, "pairs": [], "found": 0, "two_labels": 0, "complete": True}
    assert all(each["exact"] == each["near"] == 0 for each in found["shared"])


def test_planted_copies_are_found_and_a_mirrored_picture_is_none(photos):
    cats = photos / "train" / "[cat]"
    shutil.copy(cats / "0.png", photos / "test" / "[cat]" / "bytes.png")
    Image.open(cats / "1.png").save(photos / "test" / "[cat]" / "format.bmp")
    Image.open(cats / "2.png").save(photos / "test" / "[cat]" / "quality.jpg", quality=30)
    Image.open(cats / "3.png").resize((96, 32)).save(photos / "val" / "[cat]" / "smaller.png")
    Image.open(cats / "4.png").point(lambda value: value * 0.8).save(cats / "darker.png")
    shutil.copy(cats / "5.png", photos / "train" / "나비" / "label.png")
    ImageOps.mirror(Image.open(cats / "6.png")).save(photos / "test" / "[cat]" / "mirrored.png")
    assert found_pairs(photos, exact=True) == {
        ("test/[cat]/bytes.png", "train/[cat]/0.png"),
        ("test/[cat]/format.bmp", "train/[cat]/1.png"),
        ("train/[cat]/5.png", "train/나비/label.png"),
    }
    assert found_pairs(photos, exact=False) == {
        ("test/[cat]/quality.jpg", "train/[cat]/2.png"),
        ("val/[cat]/smaller.png", "train/[cat]/3.png"),
        ("train/[cat]/4.png", "train/[cat]/darker.png"),
    }
    found = copies(NumberedImages(folder(photos)))
    assert {(each["split"], each["other"]): (each["exact"], each["near"]) for each in found["shared"]} == {
        ("test", "test"): (0, 0),
        ("test", "val"): (0, 0),
        ("test", "train"): (2, 1),
        ("val", "val"): (0, 0),
        ("val", "train"): (0, 1),
        ("train", "train"): (2, 2),
    }
    assert found["two_labels"] == 1
    assert {found["pairs"][0][place]["label"] for place in ("first", "second")} == {"[cat]", "나비"}


def test_leaks_are_the_test_images_with_a_copy_in_training_and_are_searched_for_once(photos, monkeypatch):
    cats = photos / "train" / "[cat]"
    shutil.copy(cats / "0.png", photos / "test" / "[cat]" / "bytes.png")
    Image.open(cats / "2.png").save(photos / "test" / "나비" / "quality.jpg", quality=30)
    shutil.copy(photos / "val" / "[cat]" / "0.png", photos / "test" / "[cat]" / "of_validation.png")

    def leaks():
        images = NumberedImages(folder(photos))
        exact, near, complete = leaked_images(images)
        assert complete
        return tuple([images.named(image)["name"] for image in numbers] for numbers in (exact, near))

    expected = ["test/[cat]/bytes.png"], ["test/나비/quality.jpg"]
    assert leaks() == expected
    with monkeypatch.context() as patch:
        patch.setattr(check, "near_pairs", None)
        assert leaks() == expected
        assert copies(NumberedImages(folder(photos)))["found"] == 3
    (photos / "test" / "[cat]" / "bytes.png").unlink()
    assert leaks() == ([], expected[1])


def test_a_picture_in_many_copies_is_counted_once_for_each_image(photos):
    for name in ("a", "b"):
        shutil.copy(photos / "train" / "[cat]" / "0.png", photos / "test" / "[cat]" / f"{name}.png")
    found = copies(NumberedImages(folder(photos)))
    exact = {(each["split"], each["other"]): each["exact"] for each in found["shared"]}
    assert (exact["test", "train"], exact["test", "test"], exact["train", "train"]) == (2, 2, 0)
    assert found["found"] == 2


def test_the_search_among_many_alike_ends_and_says_so(monkeypatch):
    monkeypatch.setattr(check, "MOST_COMPARED", 1000)
    draw = np.random.default_rng(0)
    picture = draw.integers(40, 200, (1, 16, 16, 3))
    alike = (picture + draw.integers(-2, 3, (300, 16, 16, 3))).astype(np.uint8)
    pairs, complete = near_pairs(alike)
    assert not complete
    assert 1000 < len(pairs) < 300 * 299 / 2


def test_what_fit_loses_is_that_of_the_pictures_shape(photos):
    Image.new("RGB", (50, 40)).save(photos / "train" / "[cat]" / "small.png")
    found = sizes(NumberedImages(folder(photos, image_size=48)))
    # 33 pictures of 192 x 64 and one of 50 x 40.
    assert found["most_frequent"][0] == {"width": 192, "height": 64, "images": 33}
    assert found["aspect"] == {"min": 1.25, "median": 3.0, "max": 3.0}
    assert found["fit"]["lost"] == pytest.approx({"min": 1 - 40 / 50, "median": 2 / 3, "max": 2 / 3})
    assert (found["fit"]["lost_over_a_third"], found["fit"]["changed"], found["fit"]["enlarged"]) == (33, 34, 1)
    assert [each["images"] for each in found["by_shorter_side"]] == [1, 33]


def test_pictures_of_a_single_colour_are_alike_only_if_they_are_equal():
    colours = np.random.default_rng(0).integers(0, 256, (50, 1, 1, 3), np.uint8)
    assert len(near_pairs(colours.repeat(16, 1).repeat(16, 2))[0]) == 0


def test_data_without_files_is_checked_as_well():
    found = copies(NumberedImages(DigitsDataModule()))
    images = NumberedImages(DigitsDataModule())
    assert len(images) == 1797
    assert check.describe(images)["splits"]["test"]["images"] == 360
    assert [each["exact"] for each in found["shared"]] == [0] * 6


@pytest.mark.parametrize("accuracy", [0.5, 0.85, 0.99])
def test_the_smallest_difference_of_one_seed_is_found_in_four_cases_of_five_at_any_accuracy(accuracy):
    """Drawn: 1,000 test images, and two networks whose answers correlate."""
    images, draw = 1000, np.random.default_rng(0)
    difference = smallest_on(images, 1, 2, accuracy) / 100
    better, worse = accuracy + difference / 2, accuracy - difference / 2
    covariance = NETWORKS_CORRELATE * math.sqrt(better * (1 - better) * worse * (1 - worse))
    both = min(better * worse + covariance, worse)
    shares = [better - both, worse - both, 1 - better - worse + 2 * both]
    first, second, _ = draw.multinomial(images, shares, 20_000).T
    established = np.abs(first - second) / np.sqrt(np.maximum(first + second, 1)) > 1.96  # McNemar's test
    assert np.mean(established) == pytest.approx(0.8, abs=0.07)
    assert smallest_on(images, 5, 2, accuracy) < smallest_on(images, 3, 2, accuracy)


# The command


def run(photos, capsys, *arguments) -> tuple[dict, str, str]:
    """``data.json``, ``data.html`` and the output."""
    output = photos.parent / "report"
    status, shown, errors = run_command(["data", str(photos), f"--output={output}", *arguments], capsys)
    assert status == 0, errors
    return json.loads((output / "data.json").read_text()), (output / "data.html").read_text(), shown


def test_the_report_counts_as_by_hand_and_leaves_the_folder_as_it_is(photos, capsys):
    (photos / "train" / "[cat]" / "broken.png").write_bytes(b"no picture")
    shutil.copy(photos / "train" / "[cat]" / "0.png", photos / "test" / "[cat]" / "<i>.png")
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    found, page, shown = run(photos, capsys)
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*")} == before
    counts = {name: split["classes"] for name, split in found["understood"]["splits"].items()}
    assert counts == {**COUNTS, "test": {"[cat]": 6, "나비": 4}}
    assert list(found["understood"]["bad_files"]) == ["train/[cat]/broken.png"]
    assert len(found["findings"]) == 4  # A copy, a bad file, unequal classes, and what crop cuts off.
    assert "1 of 10 (10.0 %), 1 of them exact" in found["findings"][0]
    assert found["can_show"]["test_images"] == 10
    assert found["can_show"]["most_frequent_share"] == 0.6
    assert "[cat]" in shown
    assert max(len(line) for line in shown.splitlines() if str(photos.parent) not in line) <= 80
    assert "&lt;i&gt;.png" in page
    assert "<i>" not in page
    # Four of each class, and one pair.
    assert page.count("<img ") == 2 * 4 + 2
    assert "http" not in page


def test_classes_that_are_too_small_are_all_told_first_and_all_others_shown(photos, capsys):
    """For a folder, for one in which no class is large enough, and for groups."""
    for name in ("하나", "둘 "):
        (photos / "train" / name).mkdir()
    shutil.copy(photos / "train" / "[cat]" / "0.png", photos / "train" / "하나")
    shutil.rmtree(photos / "val")
    with pytest.raises(DataError) as refused:
        folder(photos).setup("fit")
    found, _, shown = run(photos, capsys)
    assert found["findings"][0].startswith("Training refuses this: 2 classes cannot be in each of train and val")
    assert found["refused"].replace("--data.", "data.") == str(refused.value)
    assert found["understood"]["splits"]["train"]["classes"]["하나"] == 1
    assert "'둘 '" in shown
    shutil.rmtree(photos / "test")
    shutil.rmtree(photos / "train" / "[cat]")
    for number in range(2, 10):
        (photos / "train" / "나비" / f"{number}.png").unlink(missing_ok=True)
    found, _, shown = run(photos, capsys)
    assert found["findings"][0].startswith("Training refuses this: 3 classes")
    assert "What the test images can show" not in shown


def test_costs_are_images_over_measured_speeds(photos, capsys, monkeypatch):
    speeds = SimpleNamespace(backbone="lenet", train_images_per_s=2.0, inference_images_per_s=3.0, device="cpu")
    monkeypatch.setattr("cnn_compare.data_report.profile", lambda *arguments: [speeds])
    found, _, shown = run(photos, capsys, "--backbones=[lenet]", "--trainer.max_epochs=7")
    # 18 for training, 6 for validation, 9 for test.
    assert found["costs"][0]["epoch_s"] == 18 / 2 + 6 / 3
    assert found["costs"][0]["run_s"] == 7 * (18 / 2 + 6 / 3) + 9 / 3
    assert "80 s" in shown
    assert "4 min" in shown


def test_a_folder_that_cannot_be_used_is_refused_as_fit_refuses_it(photos, capsys):
    (photos / "valid").mkdir()
    shutil.copytree(photos / "val" / "나비", photos / "valid" / "나비")
    with pytest.raises(FolderError) as refused:
        folder(photos)
    status, _, errors = run_command(["data", str(photos)], capsys)
    assert status == refused.value.exit_status
    assert errors.splitlines()[-1] == f"FolderError: {refused.value}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output={photos}/report"], "--output must be a folder outside of"),
        (["--data=DigitsDataModule"], "--data must be left out where a path is given"),
        (["--data.data_dir=x"], "--data.data_dir must be left out where a path is given"),
        (["--backbones=[alexnet]"], "Use --data.image_size=64"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(photos, capsys, arguments, message):
    status, _, errors = run_command(["data", str(photos), *(a.format(photos=photos) for a in arguments)], capsys)
    assert status == 2
    assert message in errors


def test_what_is_cached_can_be_cleared(photos, capsys):
    folder(photos, image_size=128).setup("fit")
    status, shown, _ = run_command(["data", "--clear_cache", str(photos)], capsys)
    # 33 pictures of 128 x 128 x 3 bytes are 1.547 MiB, and 3 KiB at most are stored besides.
    assert (status, shown) == (0, "1.5 MiB freed\n")
    assert run_command(["data", str(photos), "--clear_cache"], capsys)[1] == "0.0 MiB freed\n"
