"""Folds of cross-validation: which images are tested together, and what a run says of them."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from cnn_compare import DigitsDataModule, FolderDataModule
from cnn_compare.data.splits import fold_of
from cnn_compare.errors import DataError, InvalidValueError

CLASSES = ("cat", "dog")


@pytest.fixture
def table(tmp_path):
    """Pictures of 12 persons, two of each class a person, in a table that names a test set of its own."""
    lines = ["path,label,group,split"]
    for person in range(12):
        for number in range(4):
            label, name = CLASSES[number % 2], f"{person} {number} ü.png"
            Image.new("RGB", (8, 8), (20 * person, 50 * number, 0)).save(tmp_path / name)
            lines.append(f"{name},{label},person {person},{'test' if person > 9 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "labels.csv"


def digits(fold, **options):
    data = DigitsDataModule(fold=fold, **options)
    data.setup("fit")
    return data


def test_every_image_is_tested_once_and_never_by_a_network_that_saw_it():
    tested = []
    for number in range(3):
        data = digits((number, 3))
        rows = {name: split.subset.numpy() for name, split in data.splits.items()}
        assert np.array_equal(np.sort(np.concatenate([*rows.values()])), np.arange(1797))
        assert np.array_equal(data.test_arrays()["rows"], rows["test"])
        shares = np.bincount(data.splits["test"].labels[rows["test"]], minlength=10) / len(rows["test"])
        assert shares == pytest.approx(np.bincount(data.splits["test"].labels) / 1797, abs=0.002)
        tested.append(rows["test"])
    assert np.array_equal(np.sort(np.concatenate(tested)), np.arange(1797))


def test_the_rows_of_a_fold_are_places_in_training_and_test_images_together():
    data, both = digits((1, 4)), DigitsDataModule()
    images, labels = (torch.cat(parts) for parts in zip(both.load("train"), both.load("test"), strict=True))
    rows = data.test_arrays()["rows"]
    batch = next(iter(data.test_dataloader()))
    assert torch.equal(batch[0].permute(0, 2, 3, 1), images[rows][:128])
    assert torch.equal(batch[1], labels[rows][:128])


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_are_those_of_scikit_learn(grouped):
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 200), rng.integers(0, 40, 200)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(5, shuffle=True, random_state=7)
    folds = fold_of(labels, "abc", 5, 7, groups if grouped else None)
    for number, (_, expected) in enumerate(splitter.split(labels, labels, groups if grouped else None)):
        assert np.array_equal(np.flatnonzero(folds == number), expected)


def test_no_person_is_on_both_sides_of_a_fold_and_splits_of_the_data_are_set_aside(table):
    tested = []
    for number in range(4):
        data = FolderDataModule(labels=str(table), fold=(number, 4), val_size=0.3, batch_size=4)
        data.setup("fit")
        persons = {
            name: {data.pictures.pictures[row].group for row in split.subset.tolist()}
            for name, split in data.splits.items()
        }
        assert not persons["train"] & persons["test"]
        assert not persons["val"] & (persons["train"] | persons["test"])
        arrays = data.test_arrays()
        names = [data.pictures.pictures[row].group for row in arrays["rows"]]
        assert np.array_equal(
            arrays["groups"],
            np.unique(sorted(f"person {n}" for n in range(12)), return_inverse=True)[1][
                [sorted(f"person {n}" for n in range(12)).index(name) for name in names]
            ],
        )
        tested += arrays["rows"].tolist()
        assert data.describe()["fold"] == [number, 4]
    assert sorted(tested) == list(range(48))


def test_the_table_of_splits_says_in_which_fold_each_picture_is_tested(table):
    rows_by_fold = {}
    for number in range(3):
        data = FolderDataModule(labels=str(table), fold=(number, 3), batch_size=4)
        rows = list(csv.DictReader(io.StringIO(data.splits_csv())))
        tested = {data.pictures.pictures[row].path for row in data.test_arrays()["rows"]}
        assert {row["path"] for row in rows if int(row["fold"]) == number} == tested
        rows_by_fold[number] = rows
    assert rows_by_fold[0] == rows_by_fold[1] == rows_by_fold[2]


def test_the_split_seed_draws_other_folds_and_every_fold_has_its_own_fingerprint():
    prints = {digits(fold, split_seed=seed).fingerprint() for fold in ((0, 3), (1, 3)) for seed in (0, 1)}
    assert len(prints) == 4
    assert digits((0, 3)).fingerprint() != digits(None).fingerprint()


def test_answers_to_a_fixed_test_set_need_no_rows_and_known_groups_are_kept(table):
    assert DigitsDataModule().test_arrays() == {}
    data = FolderDataModule(labels=str(table), batch_size=4)
    assert sorted(data.test_arrays()["groups"].tolist()) == [2] * 4 + [3] * 4  # "person 10" and "person 11".


def test_a_class_with_fewer_images_or_persons_than_folds_is_named_with_the_way_out(table):
    with pytest.raises(DataError, match=r"class 'dog' cannot be in each of 5 folds: it has 3 images\. Use at most 3"):
        fold_of(np.array([0] * 9 + [1] * 3), CLASSES, 5, 0)
    data = FolderDataModule(labels=str(table), fold=(0, 13), batch_size=4)
    with pytest.raises(DataError, match="2 classes cannot be in each of 13 folds: 'cat' has 12 groups, 'dog' has"):
        data.setup("fit")


@pytest.mark.parametrize("fold", [(3, 3), (-1, 3), (0, 1), (0,)])
def test_folds_that_do_not_exist_are_refused(fold):
    with pytest.raises(InvalidValueError, match=r"data\.fold must be"):
        DigitsDataModule(fold=fold)
