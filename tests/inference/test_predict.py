from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import run_command
from PIL import Image

from cnn_compare import Classifier
from cnn_compare.checkpointing import require_checkpoint
from cnn_compare.data import cache
from cnn_compare.data.decode import Decoding, decode
from cnn_compare.errors import CheckpointFileError, NoTrainedNetworkError
from cnn_compare.files import ADDRESS
from cnn_compare.inference.predict import find_pictures


def predict(capsys, *arguments):
    return run_command(["predict", *map(str, arguments)], capsys)


def test_piped_output_is_the_table_alone_and_what_the_classifier_says(trained, pictures, capsys):
    status, output, errors = predict(capsys, trained[2], pictures, "--batch_size=5")
    assert status == 0, errors
    rows = list(csv.DictReader(io.StringIO(output)))
    paths = [str(path) for path in sorted(pictures.rglob("*.*"))]
    assert [row["path"] for row in rows] == paths
    expected = Classifier.load(trained[2])(paths)
    assert [row["label"] for row in rows] == expected["label"].tolist()
    np.testing.assert_allclose([float(row["probability_2"]) for row in rows], expected["probability_2"], rtol=1e-4)
    assert f"lenet_relu, {trained[2]}" in errors


def test_a_picture_called_like_a_formula_is_text_in_csv_and_itself_in_json(
    trained, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(pictures / "a b" / "00.png", "=1+1.png")
    for name in ("p.csv", "p.json"):
        assert predict(capsys, trained[2], "=1+1.png", f"--output={name}")[0] == 0
    (row,) = csv.DictReader(io.StringIO(Path("p.csv").read_text(encoding="utf-8")))
    (record,) = json.loads(Path("p.json").read_text(encoding="utf-8"))
    assert (row["path"], record["path"]) == ("'=1+1.png", "=1+1.png")


def test_bad_files_are_listed_and_the_others_classified(trained, pictures, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty folder").mkdir()
    good = pictures / "강아지" / "00.png"
    bad = [tmp_path / "text.png", tmp_path / "empty folder", tmp_path / "missing.png", tmp_path / "no*.png"]
    status, output, errors = predict(capsys, trained[2], *bad, good, "--top_k=1")
    assert status == 1
    (row,) = csv.DictReader(io.StringIO(output))
    assert row.keys() == {"path", "label", "probability"}
    assert row["path"] == str(good)
    for path, reason in zip(bad, ("no picture", "no picture", "No such file", "no file matches"), strict=True):
        assert any(line.startswith(f"{path}: ") and reason in line for line in errors.splitlines())
    assert errors.splitlines()[-1].startswith("RunError: 4 paths could not be classified")


def test_the_table_is_stored_as_csv_or_json_and_never_over_a_file(trained, pictures, tmp_path, capsys):
    picture, folder = pictures / "a b" / "01.jpg", tmp_path / "new folder"
    for name in ("p.csv", "p.json"):
        status, output, errors = predict(capsys, trained[2], picture, f"--output={folder / name}")
        assert (status, output) == (0, f"stored: {folder / name}\n"), errors
    (row,) = csv.DictReader(io.StringIO((folder / "p.csv").read_text(encoding="utf-8")))
    (record,) = json.loads((folder / "p.json").read_text(encoding="utf-8"))
    assert {name: str(value) for name, value in record.items()} == row
    before = (folder / "p.csv").read_bytes()
    status, _, errors = predict(capsys, tmp_path / "missing.ckpt", picture, f"--output={folder / 'p.csv'}")
    # Before anything is read.
    assert status == 2
    assert "p.csv exists already, and is not overwritten. Give another --output, or delete it." in errors
    assert (folder / "p.csv").read_bytes() == before


def test_a_comparison_is_classified_with_by_its_best_network_or_all_its_seeds(store_run, pictures, capsys):
    store_run("net", 0, 90.0, 90.0)
    folder = store_run("net", 1, 90.0, 95.0)
    picture = pictures / "a b" / "01.jpg"
    status, single, errors = predict(capsys, folder, picture)
    assert status == 0, errors
    assert "net, the only network" in errors
    assert "seed 1, the best in validation" in errors
    status, ensemble, errors = predict(capsys, folder, picture, "--ensemble")
    assert status == 0, errors
    assert "the mean probability of its 2 seeds" in errors
    assert ensemble == single  # Both seeds have the same weights here.


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--ckpt_path=best"], 2, "predict takes no --ckpt_path: checkpoint and pictures are given as in"),
        (["x.ckpt", "--data=DigitsDataModule"], 2, "predict takes no --data"),
        (["x.ckpt"], 2, "pictures is missing"),
        (["x.ckpt", "a.png"], 1, "no trained network in x.ckpt: there is no such file or folder"),
        (["x.ckpt", "a.png", "--output=a.txt"], 2, "--output must be a file whose name ends in .csv or .json"),
        (["x.ckpt", "a.png", "--topk=2"], 2, "did you mean --top_k?"),
        (["{}", "a.png", "--top_k=0"], 2, "--top_k must be at least 1"),
        (["{}", "empty"], 2, "there are no pictures to classify. empty: there is no picture in the folder"),
        (["{}", "a.png", "--image_size=64"], 2, "--image_size must be left out, or 32 as"),
    ],
)
def test_mistakes_end_in_one_line(trained, tmp_path, monkeypatch, capsys, arguments, status, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    found, output, errors = predict(capsys, *(argument.format(trained[2]) for argument in arguments))
    assert (found, output) == (status, "")
    assert said in errors.splitlines()[-1]


def test_paths_stand_for_files_folders_and_patterns_each_picture_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.png", "in/a.JPG", "in/deep er/c.webp", "in/notes.txt", "in/.hidden.png", "odd[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = ["in/a.JPG", "in/b.png", "in/deep er/c.webp"]
    assert find_pictures(["**/*.png", "in/notes.txt"]) == (["in/b.png", "odd[1].png", "in/notes.txt"], {})
    # The name of a file, though it looks like a pattern.
    assert find_pictures(["odd[1].png"]) == (["odd[1].png"], {})
    assert find_pictures(["i?"]) == (found, {})
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert find_pictures(["in/", "in/b.png"]) == (found, {})
    assert find_pictures(["x*"]) == ([], {"x*": "no file matches this pattern"})


def test_addresses_are_said_not_to_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    addresses = ["https://example.org/a.jpg?size=2", "s3://bucket/*.png", "file:///home/me/a.png"]
    assert find_pictures(addresses) == ([], dict.fromkeys(addresses, ADDRESS))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b:").mkdir()
    (tmp_path / "b:" / "c.png").touch()
    assert find_pictures(["a.png", "b:/c.png", r"C:\a.png"]) == (["a.png", "b:/c.png", r"C:\a.png"], {})
    for read in (Classifier.load, require_checkpoint):
        with pytest.raises((NoTrainedNetworkError, CheckpointFileError), match="it is an address, and only files"):
            read("https://example.org/best.ckpt")


def test_pictures_decoded_by_processes_a_few_at_a_time_are_those_decoded_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "TRIAL_S", -1.0)
    monkeypatch.setattr(cache, "SHORT_S", -1.0)
    monkeypatch.setattr(cache, "_cores", lambda: 2)
    rng, decoding = np.random.default_rng(0), Decoding(8)
    # More than there are places for at a time: 5 chunks of 16.
    paths = [str(tmp_path / f"{number} ü.png") for number in range(150)]
    for number, path in enumerate(paths):
        if number % 40 != 7:
            Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path)
    found = [
        (pixels, row)
        for part, rows in cache.decoded_in_parts(paths, decoding)
        for pixels, row in zip(part, rows, strict=True)
    ]
    assert len(found) == len(paths)
    for number, (pixels, row) in enumerate(found):
        assert bool(row.bad) == (number % 40 == 7)
        expected = np.zeros((8, 8, 3)) if row.bad else decode(tmp_path / paths[number], decoding)[0]
        np.testing.assert_array_equal(pixels, expected)


def test_progress_of_a_long_prediction_is_a_line_now_and_then(trained, pictures, capsys, monkeypatch):
    monkeypatch.setattr("cnn_compare.progress.LINE_S", 0.0)
    status, output, errors = predict(capsys, trained[2], pictures / "grün")
    assert status == 0
    assert output.startswith("path,label,probability")
    assert "classified 12 of 12 pictures" in errors
