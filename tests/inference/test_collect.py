"""From a finished comparison to the pictures in its report."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import pytest
from helpers import run_command, small_comparison
from PIL import Image

from cnn_compare import DigitsDataModule, write_report
from cnn_compare.data.check import NumberedImages, copies
from cnn_compare.errors import InvalidValueError, RunError
from cnn_compare.inference import collect, grad_cam
from cnn_compare.inference.collect import collect_pictures
from cnn_compare.pictures import MOST_BYTES, ReportPictures
from cnn_compare.report.answers import Answers
from cnn_compare.report.load import find_runs
from cnn_compare.report.sections.leaks import leaks_of


@pytest.fixture
def comparison(trained_once, tmp_path):
    """A copy, the test's own to damage."""
    return shutil.copytree(trained_once, tmp_path / "small")


def pixels(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def test_the_pictures_are_the_test_images_that_most_runs_got_wrong(comparison):
    found = collect_pictures(comparison)
    assert ReportPictures.load(comparison) == found
    wrong = []
    for path in comparison.glob("*/*/predictions.npz"):
        with np.load(path) as stored:
            wrong.append(stored["predictions"] != stored["labels"])
    wrong = np.mean(wrong, 0)
    hardest = Answers.of(find_runs(comparison).finished).hardest()
    assert sorted(wrong[hardest]) == pytest.approx(sorted(wrong)[-10:])
    images, _ = DigitsDataModule().load("test")
    assert 10 <= len(found.pictures) <= 30
    for image, url in found.pictures.items():
        assert (pixels(url) == images[image].numpy()).all()
    assert (found.heat_maps, found.asked, found.names, found.notes) == ({}, [], {}, [])


def test_leaks_are_those_that_the_look_at_the_data_counts(comparison):
    leaked = collect_pictures(comparison).leaked
    data = DigitsDataModule(train_subset=120, val_size=50)
    shared = {(each["split"], each["other"]): each for each in copies(NumberedImages(data))["shared"]}["test", "train"]
    assert (len(leaked.exact), len(leaked.near)) == (shared["exact"], shared["near"])
    assert leaked.near


def test_explain_shows_every_networks_heat_maps_of_the_same_images(comparison, capsys):
    assert run_command(["explain", str(comparison)], capsys)[0] == 0
    stored = ReportPictures.load(comparison)
    hardest = Answers.of(find_runs(comparison).finished).hardest()
    assert {name: list(maps) for name, maps in stored.heat_maps.items()} == {
        "lenet": hardest,
        "lenet_relu": hardest,
    }
    page = (comparison / "report.html").read_text()
    assert all(heat.picture in page for maps in stored.heat_maps.values() for heat in maps.values())


def test_a_heat_map_is_of_the_seed_that_was_best_in_validation(comparison):
    maps = collect_pictures(comparison, explain=True).heat_maps
    for name in ("lenet", "lenet_relu"):
        runs = [run for run in find_runs(comparison).finished if run.network == name]
        best = max(runs, key=lambda run: run.result.value("best_val_acc_pct"))
        assert {image: heat.answer for image, heat in maps[name].items()} == {
            image: int(best.predictions.predictions[image]) for image in maps[name]
        }


def test_images_that_were_asked_for_are_shown_and_explained(comparison, capsys):
    assert run_command(["explain", str(comparison), "--images=17,3"], capsys)[0] == 0
    stored = ReportPictures.load(comparison)
    assert stored.asked == [17, 3]
    assert [list(maps) for maps in stored.heat_maps.values()] == [[17, 3], [17, 3]]
    rows = (comparison / "report.md").read_text().partition("## Test images that were asked for")[2].splitlines()
    assert [row.split()[1] for row in rows[4:6]] == ["17", "3"]


@pytest.mark.parametrize("images", ["abc", "1,-2", "360", "1.5", ",".join(map(str, range(11)))])
def test_other_images_than_those_of_the_test_set_are_refused(comparison, capsys, images):
    status, out, err = run_command(["explain", str(comparison), f"--images={images}"], capsys)
    assert (status, out) == (2, "")
    assert "--images must be" in err
    assert not (comparison / "pictures.json").exists()


@pytest.mark.parametrize("content", [None, b"PK no checkpoint", b""])
def test_a_network_whose_checkpoint_cannot_be_used_is_named_and_the_other_explained(comparison, content):
    for path in comparison.glob("lenet/*/checkpoints/best.ckpt"):
        path.unlink() if content is None else path.write_bytes(content)
    found = collect_pictures(comparison, explain=True)
    assert list(found.heat_maps) == ["lenet_relu"]
    (note,) = found.notes
    assert note.startswith("No heat map of lenet: ")
    assert "best.ckpt" in note


def test_of_folds_each_image_is_explained_by_a_network_that_never_saw_it(tmp_path):
    folder = small_comparison(tmp_path, folds=3, trainer={"max_epochs": 1})
    found = collect_pictures(folder, explain=True)
    everything = DigitsDataModule(fold=(2, 3)).splits["test"].images
    assert len(everything) == 1797
    assert any(image >= 1797 // 3 for image in found.pictures)
    for image, url in found.pictures.items():
        assert (pixels(url) == everything[image].numpy()).all()
    answered = {}
    for run in find_runs(folder).finished:
        answered |= dict(zip(run.predictions.rows.tolist(), run.predictions.predictions.tolist(), strict=True))
    assert len(answered) == 1797
    assert len(found.heat_maps["lenet"]) == 10
    assert all(heat.answer == answered[image] for image, heat in found.heat_maps["lenet"].items())
    leaked = 0
    for fold in range(3):
        data = DigitsDataModule(fold=(fold, 3), split_seed=0, train_subset=120, val_size=50)
        leaked += next(
            each
            for each in copies(NumberedImages(data))["shared"]
            if (each["split"], each["other"]) == ("test", "train")
        )["near"]
    assert len(found.leaked.exact + found.leaked.near) == leaked > 0
    report = write_report(folder)
    assert leaks_of(report).images == 1797
    assert leaks_of(report).without_pct["lenet"].value < 100
    assert set(report.answers.hardest()) == set(found.heat_maps["lenet"])


def test_of_limited_test_batches_the_tested_images_alone_are_shown_and_counted(tmp_path):
    folder = small_comparison(tmp_path, trainer={"max_epochs": 1, "limit_train_batches": 1, "limit_test_batches": 1})
    (run,) = find_runs(folder).finished
    assert (run.result.train_images, run.result.test_images) == (40, 40)
    found = collect_pictures(folder)
    leaked = [*found.leaked.exact, *found.leaked.near]
    assert found.pictures
    assert max([*found.pictures, *leaked]) < 40
    assert leaks_of(write_report(folder)).images == 40


def test_data_that_is_no_longer_that_of_the_runs_is_refused(comparison, monkeypatch):
    monkeypatch.setattr("cnn_compare.data.digits.TEST_SIZE", 300)
    with pytest.raises(RunError, match="no longer those of the runs"):
        collect_pictures(comparison)


def test_other_pictures_under_the_same_labels_are_noted(comparison, monkeypatch):
    load = DigitsDataModule.load

    def darker(self, split):
        images, labels = load(self, split)
        return images // 2, labels

    monkeypatch.setattr(DigitsDataModule, "load", darker)
    (note,) = collect_pictures(comparison).notes
    assert note.startswith("The data is no longer exactly")


@pytest.mark.parametrize(("names", "reason"), [("*/*/predictions.npz", "no finished run has predictions")])
def test_without_predictions_there_is_nothing_to_show(comparison, names, reason):
    for path in comparison.glob(names):
        path.unlink()
    with pytest.raises(RunError, match=reason):
        collect_pictures(comparison)


def test_too_many_images_are_refused_in_python_too(comparison):
    with pytest.raises(InvalidValueError, match="at most 10 places"):
        collect_pictures(comparison, images=range(11))


def test_without_captum_explain_ends_before_any_work(comparison, capsys, monkeypatch):
    monkeypatch.setattr(grad_cam, "find_spec", lambda name: None)
    status, _, err = run_command(["explain", str(comparison)], capsys)
    assert status == 2
    assert "pip install 'cnn-compare[explain]'" in err
    assert not (comparison / "pictures.json").exists()


@pytest.mark.parametrize("search", [[], ["--search=sgd", "--trials=2"], ["--dry_run"]])
def test_without_captum_compare_refuses_to_explain_before_any_run_or_trial(tmp_path, capsys, monkeypatch, search):
    monkeypatch.setattr(grad_cam, "find_spec", lambda name: None)
    monkeypatch.setattr("cnn_compare.comparison.local.start_server", lambda: None)
    options = [f"--log_dir={tmp_path}", "--backbones=lenet", "--data=DigitsDataModule", "--trainer.max_epochs=1"]
    status, _, err = run_command(["compare", "--name=one", *options, *search, "--explain"], capsys)
    assert status == 2
    assert "pip install 'cnn-compare[explain]'" in err
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_noise_are_made_smaller_until_they_fit(monkeypatch):
    most = MOST_BYTES // 6
    monkeypatch.setattr(collect, "MOST_BYTES", most)
    draw = np.random.default_rng(0)
    noise = {image: draw.integers(0, 256, (224, 224, 3), np.uint8) for image in range(8)}
    heat = {image: (noise[image], draw.random((7, 7), np.float32), 0) for image in range(5)}
    pictures, maps = collect._fitting(noise, {f"net{number}": heat for number in range(3)})
    total = sum(map(len, pictures.values())) + sum(len(each.picture) for of in maps.values() for each in of.values())
    assert 0 < total <= most
    assert len(pictures) == 8
    assert [len(of) for of in maps.values()] == 3 * [5]


def test_compare_collects_them_before_it_reports_and_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    options = ["compare", "--name=one", f"--log_dir={tmp_path}", "--backbones=lenet", "--data=DigitsDataModule"]
    options += ["--data.train_subset=40", "--data.batch_size=40", "--trainer.max_epochs=1", "--times=never"]
    assert run_command([*options, "--explain"], capsys)[0] == 0
    page = (tmp_path / "one" / "report.html").read_text()
    assert page.count("data:image/webp") >= 20
    # Nothing is run again, and the page keeps its pictures.
    assert run_command(options, capsys)[0] == 0
    assert json.loads((tmp_path / "one" / "pictures.json").read_text())["heat_maps"]
    monkeypatch.setattr("cnn_compare.data.digits.TEST_SIZE", 300)
    status, out, err = run_command([*options, "--explain"], capsys)
    assert status == 0
    assert "the report is without new pictures: no pictures of" in err
    assert "report.html" in out
