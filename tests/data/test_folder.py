"""Folders and tables of the user's own pictures: what they mean, how they are split, and that nothing leaks."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_command
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold
from torchvision.datasets import ImageFolder

from cnn_compare import DigitsDataModule, FolderDataModule, ImageDataModule, compare, write_report
from cnn_compare.comparison.compare import write_all_splits
from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.data.splits import take_groups
from cnn_compare.errors import DataError, FolderError, InvalidValueError
from cnn_compare.experiment import read_classes, resolve_config

ALL = ("train", "val", "test")


def paint(path: Path, colour=(200, 30, 30), size=(6, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def paint_classes(root: Path, **images: int) -> Path:
    """``<class>/<number>.png``, each picture in a colour of its own."""
    for label, (name, count) in enumerate(images.items()):
        for number in range(count):
            paint(root / name / f"{number:03}.png", (label * 40, number, 255 - number))
    return root


def write_table(path: Path, rows, columns="path,label") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return path


def folder(path: Path, **options) -> FolderDataModule:
    place = {"labels" if path.suffix == ".csv" else "data_dir": path}
    return FolderDataModule(**{**place, "image_size": 6, "batch_size": 4, **options})


def splits(data: FolderDataModule) -> dict[str, list[dict[str, str]]]:
    """The rows of ``splits.csv``, by split."""
    rows = [*csv.DictReader(io.StringIO(data.splits_csv()))]
    return {name: [row for row in rows if row["split"] == name] for name in ALL}


def sizes(data: FolderDataModule) -> list[int]:
    return [len(rows) for rows in splits(data).values()]


# Layouts


def test_one_folder_a_class_is_read_as_torchvision_reads_it(tmp_path):
    root = paint_classes(tmp_path / "my pictures", **{"나비": 12, "b c": 12, "🐈": 12, "10": 12, "9": 12})
    data, expected = folder(root), ImageFolder(str(root))
    assert list(data.class_names) == expected.classes
    found = {row["path"]: row["label"] for rows in splits(data).values() for row in rows}
    assert found == {os.path.relpath(path, root): expected.classes[label] for path, label in expected.samples}
    data.setup("test")
    images, labels = next(iter(data.test_dataloader()))[:2]
    order = ["나비", "b c", "🐈", "10", "9"]
    for image, label in zip(images, labels, strict=True):
        assert order[int(image[0, 0, 0]) // 40] == data.class_names[label]


def test_the_splits_that_folders_leave_open_are_cut_from_training(tmp_path):
    root = tmp_path / "p"
    paint_classes(root / "train", a=20, b=20)
    paint_classes(root / "test", a=3, b=3)
    assert sizes(folder(root)) == [36, 4, 6]
    (root / "test").rename(root / "val")
    assert sizes(folder(root, test_size=8)) == [32, 6, 8]
    (root / "val").rename(tmp_path / "away")
    assert sizes(folder(root, test_size=0.25, val_size=0.5)) == [15, 15, 10]


def test_a_table_gives_labels_splits_and_groups(tmp_path):
    paint_classes(tmp_path / "p", x=12)
    split = ["train"] * 6 + ["valid"] * 2 + ["test"] * 4
    rows = [f'p/x/{n:03}.png,"{"a, b" if n % 2 else "c"}",{split[n]},person {n}' for n in range(12)]
    data = folder(write_table(tmp_path / "t.csv", rows, "path,label,split,group"))
    assert data.class_names == ("a, b", "c")
    assert sizes(data) == [6, 2, 4]
    assert splits(data)["val"][0] == {"path": "p/x/006.png", "label": "c", "split": "val", "group": "person 6"}


def test_litter_and_other_files_are_skipped_and_counted(tmp_path):
    root = paint_classes(tmp_path, a=8, b=8)
    for name in (".DS_Store", "a/.hidden.png", "a/Thumbs.db", "desktop.ini", ".git/x.png", "__MACOSX/a/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "a/notes.txt").write_text("x")
    (root / "b/README").write_text("x")
    paint(root / "loose.png")
    (root / "b" / "loop").symlink_to(root / "b")
    data = folder(root)
    assert data.class_names == ("a", "b")
    assert sum(sizes(data)) == 16
    assert data.describe()["skipped"] == {
        "hidden or of the operating system": 6,
        "no pictures (.txt)": 1,
        "no pictures (no ending)": 1,
        "pictures outside of class folders": 1,
        "links to a folder that they are in": 1,
    }


def test_a_folder_without_pictures_or_with_a_single_class_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(FolderError, match="there is no picture in it, and it should hold a folder with pictures"):
        folder(tmp_path)
    paint(tmp_path / "a" / "1.png")
    with pytest.raises(FolderError, match="it holds a single class, 'a'"):
        folder(tmp_path)
    (tmp_path / "a" / "1.png").rename(tmp_path / "1.png")
    with pytest.raises(FolderError, match="pictures outside of class folders: 1; give each class a folder"):
        folder(tmp_path)


def test_what_is_no_folder_or_text_is_refused():
    for options, told in (
        ({}, r"data\.data_dir must be .* or left out with data\.labels"),
        ({"data_dir": "a", "columns": {"path": "id"}}, r"data\.columns must be left out without data\.labels"),
        ({"labels": "a.csv", "columns": {"paths": "id"}}, r"data\.columns must be a name for some of path, label"),
        ({"labels": "a.csv", "columns": {"path": ["id"]}}, r"data\.columns must be a name for some of path, label"),
        (
            {"labels": "a.csv", "columns": {"group": "who"}, "group": "who"},
            r"data\.group must be left out with a group",
        ),
        ({"data_dir": "https://example.org/a"}, r"data\.data_dir must be on this machine: addresses are not read"),
        ({"labels": "a.csv", "columns": {"group": "who"}, "group_pattern": "p"}, r"data\.group must be left out with"),
        ({"data_dir": "a", "min_class_images": -1}, r"data\.min_class_images must be 0 or larger"),
    ):
        with pytest.raises(InvalidValueError, match=told):
            FolderDataModule(**options)


def test_a_table_may_name_its_columns_and_lie_apart_from_its_pictures(tmp_path):
    paint_classes(tmp_path / "p" / "images", x=30)
    rows = [f"L{n // 2},{n:03},{int(n % 3 == 0)},{int(n % 3 > 0)}" for n in range(30)]
    table = write_table(tmp_path / "t" / "truth.csv", rows, "lesion,image,MEL,NV")
    columns = {"path": "image", "label": ["MEL", "NV"], "group": "lesion"}
    data = folder(table, data_dir=str(tmp_path / "p"), columns=columns)
    assert Counter(row["label"] for rows in splits(data).values() for row in rows) == {"MEL": 10, "NV": 20}
    assert {row["path"] for rows in splits(data).values() for row in rows} == {
        f"images/x/{n:03}.png" for n in range(30)
    }
    assert data.describe()["root"] == str(tmp_path / "p")
    again = FolderDataModule(
        **{name: data.preparation[name] for name in ("data_dir", "labels", "columns")}, image_size=6
    )
    assert splits(again) == splits(data)


# Splits


def test_cut_splits_are_stratified_disjoint_and_decided_by_the_split_seed(tmp_path):
    root = paint_classes(tmp_path / "p", a=40, b=20, c=10)
    found = splits(folder(root, test_size=14, val_size=0.25))
    paths = {name: {row["path"] for row in rows} for name, rows in found.items()}
    assert {name: Counter(row["label"] for row in rows) for name, rows in found.items()} == {
        "test": {"a": 8, "b": 4, "c": 2},
        "val": {"a": 8, "b": 4, "c": 2},
        "train": {"a": 24, "b": 12, "c": 6},
    }
    assert len(paths["train"] | paths["val"] | paths["test"]) == 70
    assert splits(folder(root, test_size=14, val_size=0.25, seed=1, batch_size=5)) == found
    assert splits(folder(root, test_size=14, val_size=0.25, split_seed=1)) != found


def test_rare_classes_are_in_every_split(tmp_path):
    data = folder(paint_classes(tmp_path, often=200, rare=3))
    for rows in splits(data).values():
        assert sum(row["label"] == "rare" for row in rows) == 1


def test_all_classes_that_are_too_small_are_named_before_anything_is_decoded(tmp_path, monkeypatch):
    root = paint_classes(tmp_path / "p", many=20, two=2)
    monkeypatch.setattr("cnn_compare.data.folder.decoded", None)
    with pytest.raises(DataError, match="class 'two' cannot be in each of train, val and test: it has 2 images"):
        folder(root).setup("fit")
    paint_classes(root, **{f"rare {n:02}": 1 for n in range(11)})
    (root / "empty").mkdir()
    with pytest.raises(DataError) as refused:
        folder(root).setup("fit")
    assert refused.value.parts == {"empty": 0, **{f"rare {n:02}": 1 for n in range(11)}, "two": 2}
    assert "13 classes cannot be in each of train, val and test: 'empty' has 0 images, " in str(refused.value)
    assert all(f"{name!r} has " in str(refused.value) for name in refused.value.parts)
    assert "or leave them out with data.min_class_images=3." in str(refused.value)


def test_a_class_that_training_lacks_is_named_with_what_other_splits_have_of_it(tmp_path):
    paint_classes(tmp_path / "train", a=3, b=3)
    paint_classes(tmp_path / "test", a=1, c=2)
    with pytest.raises(DataError, match=r"'c' cannot be in each of train and val: it has 0 images, and 2 in other"):
        folder(tmp_path).setup("fit")


def test_only_the_classes_that_are_named_are_used_and_this_is_stored(tmp_path):
    data = folder(paint_classes(tmp_path, a=8, b=8, c=8), classes=["c", "a"])
    assert data.class_names == ("a", "c")
    assert {row["label"] for rows in splits(data).values() for row in rows} == {"a", "c"}
    assert data.preparation["classes"] == ["c", "a"]
    with pytest.raises(InvalidValueError, match=r"data\.classes must be a list of at least two of a, b, c"):
        folder(tmp_path, classes=["a", "d"])


def test_small_classes_can_be_kept_in_training_to_look_at_them(tmp_path):
    data = folder(paint_classes(tmp_path, a=20, b=20, rare=2, once=1), batch_size=5)
    data.keep_small_classes = True
    found = {name: Counter(row["label"] for row in rows) for name, rows in splits(data).items()}
    assert (found["train"]["rare"], found["train"]["once"]) == (2, 1)
    assert not {"rare", "once"} & {*found["val"], *found["test"]}
    assert data.small_classes.parts == {"once": 1, "rare": 2}


class Unequal(ImageDataModule):
    class_names = ("often", "rare")

    def load(self, split):
        return np.zeros((102, 4, 4), np.uint8), np.array([0] * 100 + [1] * 2)


def test_rare_classes_of_any_data_module_are_in_training_and_validation():
    data = Unequal(batch_size=4)
    data.setup("fit")
    for name, count in (("train", 92), ("val", 10)):
        labels = data._splits[name].labels[data._splits[name].subset]
        assert torch.bincount(labels).tolist() == [count - 1, 1]


class Balanced(ImageDataModule):
    """As many images, and as evenly divided, as CIFAR-10's."""

    class_names = tuple("0123456789")
    usual_val_size = 5000

    def load(self, split):
        return np.zeros((50_000, 1, 1), np.uint8), np.random.default_rng(0).permutation(50_000) % 10


@pytest.mark.parametrize(
    ("cls", "options", "train", "val"),
    [
        (DigitsDataModule, {}, "0640539117c4", "a8a2e9f4eb3c"),
        (DigitsDataModule, {"train_subset": 40, "val_size": 20}, "cb316de5d1db", "b3ee7cdc797b"),
        (DigitsDataModule, {"train_subset": 300, "val_size": 1000}, "78583bd8d080", "e4f88b18b006"),
        (Balanced, {}, "b13a65de7469", "54bfdfa81c06"),
        (Balanced, {"train_subset": 5000, "val_size": 1000}, "e5fa349661b4", "f7efc5fc1ba8"),
        (Balanced, {"train_subset": 300, "val_size": 1000}, "0e0effe91287", "f7efc5fc1ba8"),
    ],
)
def test_the_splits_of_published_data_are_those_of_earlier_versions(cls, options, train, val):
    """Stored results came from these images."""
    data = cls(**options, batch_size=7)
    data.setup("fit")
    for name, expected in (("train", train), ("val", val)):
        indices = data._splits[name].subset.numpy().astype("<i8").tobytes()
        assert hashlib.blake2b(indices, digest_size=6).hexdigest() == expected


# Groups


def test_no_group_is_in_two_splits_whether_from_a_column_or_a_pattern(tmp_path):
    for person in range(20):
        for label in "ab":
            paint(tmp_path / label / f"person{person:02}_{label}.png", (person, 0, 0))
    rows = [f"{label}/person{p:02}_{label}.png,{label},{p}" for p in range(20) for label in "ab"]
    table = write_table(tmp_path / "t.csv", rows, "path,label,who")
    for data in (folder(table, group="who", val_size=0.25), folder(tmp_path, group_pattern=r"person(\d+)", val_size=8)):
        of_split = [{row["group"] for row in rows} for rows in splits(data).values()]
        assert [len(groups) for groups in of_split] == [12, 4, 4]
        assert len(set.union(*of_split)) == 20


@pytest.mark.parametrize("pattern", [None, "andr\u00e9|bob|eve", "andre\u0301|bob|eve"])
def test_a_group_in_two_unicode_forms_is_one_group(tmp_path, pattern):
    """As file systems and tables write them: an accent as a part of its letter, and behind it."""
    for label, person in itertools.product("ab", ("andr\u00e9", "andre\u0301", "bob", "eve")):
        paint(tmp_path / label / f"{person}.png", (len(person), ord(label), 0))
    if pattern is None:
        rows = [f"{path.relative_to(tmp_path)},{path.parent.name},{path.stem}" for path in tmp_path.rglob("*.png")]
        data = folder(write_table(tmp_path / "t.csv", rows, "path,label,group"))
    else:
        data = folder(tmp_path, group_pattern=pattern)
    assert {picture.group for picture in data.pictures.pictures} == {"andr\u00e9", "bob", "eve"}
    assert sorted(sizes(data)) == [2, 2, 4]


def test_a_group_column_is_used_unless_it_is_not_wanted(tmp_path):
    paint_classes(tmp_path, a=30, b=30)
    rows = [f"{label}/{n:03}.png,{label},{n // 10}" for label in "ab" for n in range(30)]
    table = write_table(tmp_path / "t.csv", rows, "path,label,group")
    assert sizes(folder(table)) == [20, 20, 20]
    assert sizes(folder(table, group="none")) == [43, 5, 12]


def test_groups_are_split_as_evenly_as_scikit_learn_splits_them():
    """Persons with 1 to 40 pictures, mostly of one or two of five classes."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(120), rng.integers(1, 41, 120))
    labels = (groups + rng.choice(3, len(groups), p=[0.7, 0.2, 0.1])) % 5
    everything = np.arange(len(labels))

    def worst_deviation(taken):
        return np.abs(np.bincount(labels[taken], minlength=5) / np.bincount(labels) - 0.2).max()

    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups)
    theirs = np.mean([worst_deviation(test) for _, test in folds])
    for seed in range(5):
        taken, rest = take_groups(everything, labels, groups, len(labels) // 5, 2, seed)
        assert not set(groups[taken]) & set(groups[rest])
        assert sorted([*taken, *rest]) == everything.tolist()
        assert worst_deviation(taken) < max(theirs, 0.02)
        assert abs(len(taken) - len(labels) / 5) <= 10


def test_names_like_formulas_are_no_formulas_in_splits_csv_which_reads_back_as_a_table(tmp_path):
    names = {"=1+1": 4, "@cmd": 4, "-2": 4, "'=x": 4}
    data = folder(paint_classes(tmp_path / "p", **names))
    text = data.splits_csv()
    assert not [row for row in csv.reader(io.StringIO(text)) if any(cell.startswith(("=", "@", "-")) for cell in row)]
    (tmp_path / "p" / "t.csv").write_text(text, encoding="utf-8")
    again = folder(tmp_path / "p" / "t.csv", group="none")
    assert set(again.class_names) == names.keys()
    assert again.splits_csv() == text


def test_no_cut_is_worse_than_the_best_of_25_of_scikit_learn():
    """Few persons, some of whom have half of a class: the first cases are those where single steps got stuck."""
    rng = np.random.default_rng(0)
    cases = [(np.tile([60, *[10] * 7], 3), np.repeat([0, 1, 2], 8), seed) for seed in (42, 7, 0)]
    cases += [(1 + (8 * rng.pareto(1.2, 24)).astype(int).clip(0, 99), np.arange(24) % 4, seed) for seed in range(9)]
    for images_of, class_of, seed in cases:
        groups, labels = np.repeat(np.arange(len(images_of)), images_of), np.repeat(class_of, images_of)

        def unevenness(taken, labels=labels):
            shares = np.bincount(labels[taken], minlength=labels.max() + 1) / np.bincount(labels)
            return np.square(shares - 0.2).sum() + (shares == 0).any()

        taken, rest = take_groups(np.arange(len(labels)), labels, groups, len(labels) // 5, 2, seed)
        assert not set(groups[taken]) & set(groups[rest])
        assert set(labels[taken]) == set(labels[rest]) == set(labels)
        folds = [StratifiedGroupKFold(5, shuffle=True, random_state=k).split(labels, labels, groups) for k in range(5)]
        best = min(unevenness(test) for _, test in itertools.chain(*folds))
        assert unevenness(taken) <= best + 0.001


def test_shares_that_whole_groups_do_not_allow_are_told(tmp_path):
    for label, persons in (("a", (30, 2, 2)), ("b", (4,) * 9)):
        for person, count in enumerate(persons):
            for number in range(count):
                paint(tmp_path / label / f"{label}{person}_{number}.png", (person, number, ord(label)))
    data = folder(tmp_path, group_pattern=r"[ab]\d", test_size=0.2, val_size=0.2)
    data.setup("fit")
    (test,) = [text for text in data.warnings if text.startswith("the test images")]
    assert "than the 20 % that was asked for (a 6 %): groups stay whole, and no arrangement" in test
    assert "  a: 30, 2, 2 (88, 6, 6 %)" in [*data._lines()]


def test_a_class_that_one_person_has_is_kept_from_no_split_but_refused(tmp_path):
    paint_classes(tmp_path, a=9, b=9)
    rows = [f"{label}/{n:03}.png,{label},{n % 3 if label == 'a' else n % 2}" for label in "ab" for n in range(9)]
    table = write_table(tmp_path / "t.csv", rows, "path,label,group")
    told = "class 'b' cannot be in each of train, val and test: it has 2 groups.*data.classes names those that stay"
    with pytest.raises(DataError, match=told):
        folder(table).setup("fit")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"group": "who"}, "data.group must be a column of .*t.csv .path, label., or none, and is 'who'"),
        ({"group_pattern": "("}, "data.group_pattern must be a regular expression"),
        ({"group_pattern": "x/0"}, "data.group_pattern=x/0 finds nothing in y/000.png, y/001.png"),
    ],
)
def test_groups_that_cannot_be_found_are_an_error(tmp_path, options, told):
    paint_classes(tmp_path, x=3, y=2)
    table = write_table(tmp_path / "t.csv", ["x/000.png,x", "y/000.png,y", "y/001.png,y"])
    with pytest.raises((InvalidValueError, FolderError), match=told):
        folder(table, **options)


def test_a_group_that_the_data_itself_puts_in_two_splits_is_warned_of(tmp_path):
    paint_classes(tmp_path, a=4, b=4)
    rows = [
        f"{label}/{n:03}.png,{label},{'train' if n < 2 else 'test' if n < 3 else 'val'},{n % 2}"
        for label in "ab"
        for n in range(4)
    ]
    data = folder(write_table(tmp_path / "t.csv", rows, "path,label,split,group"), batch_size=2)
    assert data.describe()["warnings"] == ["2 groups are in more than one split, as the data has it"]


# Bad files


@pytest.fixture
def with_bad_files(tmp_path):
    root = paint_classes(tmp_path / "p", a=12, b=12)
    (root / "a" / "text.jpg").write_text("no picture")
    os.mkfifo(root / "b" / "pipe.png")
    (root / "b" / "itself.png").symlink_to(root / "b" / "itself.png")
    return root


def test_bad_files_are_an_error_that_lists_them_before_anything_trains(with_bad_files):
    with pytest.raises(DataError, match=r"3 of 27 pictures in .* data\.on_bad_file=skip") as caught:
        folder(with_bad_files).prepare_data()
    assert set(caught.value.reasons) == {"a/text.jpg", "b/pipe.png", "b/itself.png"}
    assert all(f"{path} ({reason})" in str(caught.value) for path, reason in caught.value.reasons.items())


def test_skipped_files_are_counted_and_leave_the_other_pictures_in_their_splits(with_bad_files):
    data = folder(with_bad_files, on_bad_file="skip", batch_size=5)
    before = splits(data)
    assert sum(map(len, before.values())) == 24
    assert len(data.describe()["bad_files"]) == 3
    assert data.describe()["warnings"][0].startswith(
        "files that cannot be decoded and are skipped, 3 in all: a/text.jpg ("
    )
    paint(with_bad_files / "a" / "text.jpg", (1, 2, 3))
    repaired = splits(folder(with_bad_files, on_bad_file="skip", batch_size=5))
    assert all(row in repaired[name] for name in ALL for row in before[name])


# What becomes of them


def test_images_come_from_one_array_that_no_split_copies_not_even_to_a_device(tmp_path):
    data = folder(paint_classes(tmp_path, a=10, b=10))
    data.setup("fit")
    before = data.splits_csv()
    for device in ("cpu", "meta"):
        data._move(data._splits["train"], torch.device(device))
        assert len({id(split.images) for split in data._splits.values()}) == 1
        assert {split.subset.device.type for split in data._splits.values()} == {device}
    assert data.splits_csv() == before


@pytest.mark.parametrize(
    ("options", "size"), [({}, 6), ({"stored_size": 9}, 9), ({"augmentation": "flip", "image_size": 8}, 8)]
)
def test_pictures_are_stored_in_the_size_of_the_input_or_as_requested(tmp_path, options, size):
    data = folder(paint_classes(tmp_path, a=10, b=10), **options)
    assert data.load("train")[0].shape == (16, size, size, 3)
    assert data.load("test")[0].shape == (4, size, size, 3)


def test_the_fingerprint_covers_pixels_labels_and_splits(tmp_path):
    root = paint_classes(tmp_path / "a", a=20, b=20)

    def fingerprint(root, **options):
        return folder(root, **{"batch_size": 5, **options}).fingerprint()

    first = fingerprint(root)
    assert fingerprint(root, on_device=False) == first
    assert fingerprint(paint_classes(tmp_path / "elsewhere", a=20, b=20)) == first
    for options in ({"split_seed": 1}, {"test_size": 10}, {"fit": "pad"}, {"seed": 1}, {"train_subset": 20}):
        assert fingerprint(root, **options) != first
    paint(root / "a" / "000.png", (255, 255, 255))
    assert fingerprint(root) != first


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("test_size", 0),
        ("test_size", 1.5),
        ("val_size", 0.0),
        ("fit", "stretch"),
        ("max_pixels", 0),
        ("stored_size", 0),
        ("background", (0, 0, 256)),
        ("on_bad_file", "ignore"),
        ("test_size", 40),
        ("val_size", 31),
    ],
)
def test_impossible_options_are_refused(tmp_path, option, value):
    with pytest.raises(InvalidValueError, match=rf"data\.{option} must be "):
        folder(paint_classes(tmp_path, a=20, b=20), **{option: value}).setup("fit")


# The command


FAST = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--data.image_size=32", "--data.batch_size=8"]


def test_what_is_read_is_said_once_also_where_fit_test_and_predict_prepare_the_data_each(tmp_path, caplog):
    data = folder(paint_classes(tmp_path, a=12, b=12))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            data.prepare_data()
    assert caplog.text.count("2 classes") == 1


def test_fit_takes_the_classes_from_the_data_and_test_the_same_split_from_the_checkpoint(tmp_path, capsys):
    root = paint_classes(tmp_path / "my photos", a=20, b=20, c=20)
    fit = ["fit", "--data=FolderDataModule", f"--data.data_dir={root}", "--data.val_size=6", "--model.backbone=lenet"]
    assert run_command([*fit, *FAST, f"--trainer.default_root_dir={tmp_path}"], capsys)[0] == 0
    logs = tmp_path / "lightning_logs" / "version_0"
    rows = [*csv.DictReader((logs / "splits.csv").read_text(encoding="utf-8").splitlines())]
    assert Counter(row["split"] for row in rows) == {"train": 42, "val": 6, "test": 12}
    checkpoint = logs / "checkpoints" / "best.ckpt"
    stored = torch.load(checkpoint, weights_only=True)
    assert stored["hyper_parameters"]["num_classes"] == 3
    assert stored["data"]["class_names"] == ["a", "b", "c"]
    test = ["test", f"--ckpt_path={checkpoint}", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    status, output, _ = run_command(test, capsys)
    assert (status, "test/acc" in output) == (0, True)
    assert "--data.split_seed=42, and 3 was" in run_command([*test, "--data.split_seed=3"], capsys)[2]
    root.rename(tmp_path / "moved")
    assert "there is no such folder" in run_command(test, capsys)[2]
    assert run_command([*test, f"--data.data_dir={tmp_path / 'moved'}"], capsys)[0] == 0
    paint(tmp_path / "moved" / "a" / "another.png")
    error = run_command([*test, f"--data.data_dir={tmp_path / 'moved'}"], capsys)[2]
    assert "CheckpointError: the checkpoint's split was cut from 60 pictures" in error


def test_a_comparison_stores_its_splits_and_reports_what_it_skipped(tmp_path):
    root = paint_classes(tmp_path / "p", a=20, b=20)
    (root / "b" / "나쁜 파일.png").write_text("no picture")
    paint(root / "rare" / "1.png")
    options = {"data_dir": str(root), "batch_size": 8, "on_bad_file": "skip", "min_class_images": 3}
    data = {"class_path": "FolderDataModule", "init_args": options}
    shared = {"trainer": {"max_epochs": 1}, "backbones": ["lenet"], "log_dir": str(tmp_path / "logs")}
    done = compare("mine", data=data, **shared)
    assert (done / "splits.csv").read_text(encoding="utf-8") == FolderDataModule(**options).splits_csv()
    result = json.loads((done / "lenet" / "seed_0" / "result.json").read_text())
    assert sum(split["images"] for split in result["data"]["splits"].values()) == 40
    assert json.loads((done / "manifest.json").read_text())["config"]["model"]["num_classes"] == 2
    write_report(done)
    skipped = "files that cannot be decoded and are skipped, 1 in all: b/나쁜 파일.png"
    left_out = "classes with fewer than data.min_class_images=3 images are left out, 1 in all: rare"
    for name in ("report.md", "report.html"):
        text = (done / name).read_text(encoding="utf-8")
        assert skipped in text
        assert left_out in text.replace("\\_", "_")


def test_a_variant_with_other_splits_gets_a_file_of_its_own(tmp_path):
    root = paint_classes(tmp_path / "p", a=20, b=20)
    config = resolve_config({"data": {"class_path": "FolderDataModule", "init_args": {"data_dir": str(root)}}})
    variants = {
        "plain": {},
        "flat": {"model": {"label_smoothing": 0.1}},
        "pad": {"data": {"init_args": {"fit": "pad"}}},
        "other": {"data": {"init_args": {"split_seed": 1}}},
    }
    specs = plan_runs(Comparison("mine", ["lenet"], [0, 1], config=read_classes(config), variants=variants))
    write_all_splits(tmp_path / "out", specs)
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}
    expected = {
        "splits.csv": FolderDataModule(str(root)),
        "splits+other.csv": FolderDataModule(str(root), split_seed=1),
    }
    assert found == {name: data.splits_csv() for name, data in expected.items()}
