"""What people's folders are called, and how tables of labels are written: each as its author means it, or refused."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from cnn_compare.data.layouts import Pictures, pictures_in, read_folders, split_named, without_small_classes
from cnn_compare.data.tables import read_table
from cnn_compare.errors import FolderError


def touch(root: Path, *paths: str) -> Path:
    """Empty files: no picture is opened here."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def tree(root: Path, folders: str, classes=("cat", "dog"), count: int = 2) -> Path:
    """``FOLDER/CLASS/0.jpg``, … in each of some folders, which spaces separate."""
    return touch(
        root, *(f"{each}/{name}/{n}.jpg" for each in folders.split() for name in classes for n in range(count))
    )


def counts(found: Pictures) -> dict[str | None, int]:
    return Counter(picture.split for picture in found.pictures)


def facts(found: Pictures) -> set[tuple[str, str, str | None, str]]:
    return {(each.path, each.label, each.split, each.group) for each in found.pictures}


def table(root: Path, text: str, name: str = "labels.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root / name


ROWS = [(f"{n}.jpg", ("cat", "dog")[n % 2]) for n in range(4)]
EXPECTED = {(f"images/{path}", label, None, "") for path, label in ROWS}
BODY = "".join(f"images/{path},{label}\n" for path, label in ROWS)


@pytest.fixture
def photos(tmp_path):
    return touch(tmp_path, *(f"images/{path}" for path, _ in ROWS))


# Splits


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Valid", "Test"),
        ("TRAIN", "VALIDATION", "TESTING"),
        ("training", "dev", "testing"),
        ("train_set", "val_set", "test_set"),
        ("TrainingSet", "development", "TestSet"),
        ("01_train", "02-val", "03 test"),
        ("train2017", "val2017", "test2017"),
        ("seg_train", "seg_val", "seg_test"),
        ("fruits-360_Training", "fruits-360_Valid", "fruits-360_Test"),
        ("train/images", "val/images", "test/images"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("1.훈련", "2.검증", "3.시험"),
        ("训练集", "验证集", "测试集"),
        ("学習", "検証", "テスト"),
        (unicodedata.normalize("NFD", "훈련"), "검증", "테스트"),
    ],
)
def test_usual_words_for_splits_are_splits_in_every_spelling(tmp_path, train, val, test):
    for folder, classes in ((train, ("cat", "dog")), (val, ("cat", "dog")), (test, ("cat",))):
        touch(tmp_path, *(f"{folder}/{name}/1.jpg" for name in classes))
    touch(tmp_path, f"{train}/labels.csv", "notes.txt", "__MACOSX/a/._1.jpg", f"{test}/.ipynb_checkpoints/cat/1.jpg")
    found = read_folders(tmp_path)
    assert found.class_names == ("cat", "dog")
    assert counts(found) == {"train": 2, "val": 2, "test": 1}
    assert not found.warnings


@pytest.mark.parametrize(
    "names", ["bus car train", "bus test train", "trains buses", "steam_train bus", "contest best"]
)
def test_a_class_may_be_called_train(tmp_path, names):
    found = read_folders(tree(tmp_path, ".", names.split()))
    assert found.class_names == tuple(sorted(names.split()))
    assert counts(found) == {None: 2 * len(names.split())}
    assert any("the name of a split as well" in each for each in found.warnings) == bool({"train"} & {*names.split()})


@pytest.mark.parametrize("inside", ["plants", "plants/plants", "archive/chest_xray/chest_xray"])
def test_a_folder_that_holds_one_folder_is_looked_through_and_this_is_said(tmp_path, inside):
    found = read_folders(touch(tree(tmp_path / "a", inside), "README.md", "__MACOSX/x/1.jpg"))
    assert found.class_names == ("cat", "dog")
    assert f"inside of {inside}/" in found.layout
    found = read_folders(tree(tmp_path / "b", f"{inside}/Train {inside}/Test"))
    assert (found.class_names, counts(found)) == (("cat", "dog"), {"train": 4, "test": 4})
    assert f"inside of {inside}/" in found.layout


def test_folders_without_pictures_are_no_classes_beside_the_one_that_holds_them(tmp_path):
    """As in CUB-200-2011."""
    tree(tmp_path, "CUB/images", ("001.Albatross", "002.Auklet"))
    found = read_folders(touch(tmp_path, "CUB/parts/parts.txt", "CUB/attributes/a.txt", "CUB/README"))
    assert found.class_names == ("001.Albatross", "002.Auklet")


def test_splits_may_lie_inside_of_the_classes(tmp_path):
    found = read_folders(tree(tmp_path, "cat dog", ("Train", "Test"), 3))
    assert found.class_names == ("cat", "dog")
    assert counts(found) == {"train": 6, "test": 6}


def test_pictures_without_classes_beside_splits_are_left_out_and_this_is_said(tmp_path):
    """As in Intel's scenes, and as where somebody stores plots."""
    tree(tmp_path, "seg_train/seg_train seg_test/seg_test", ("sea", "street"))
    found = read_folders(touch(tmp_path, "seg_pred/seg_pred.jpg", "plots/1.png", "plots/2.png", "seg_train/labels.csv"))
    assert found.class_names == ("sea", "street")
    assert counts(found) == {"train": 4, "test": 4}
    told = "pictures in {}, which is beside the splits and has no classes, are left out: {}"
    assert found.warnings == [told.format("plots/", 2), told.format("seg_pred/", 1)]


def test_folders_of_patients_that_hold_the_classes_are_noticed(tmp_path):
    patients = [f"p{number}" for number in range(6)]
    found = read_folders(touch(tree(tmp_path, " ".join(patients), ("benign", "malignant")), "p7/benign/1.jpg"))
    assert "hold folders of the same names: benign, malignant" in " ".join(found.warnings)
    found = read_folders(touch(tmp_path / "b", "cat/a/1.jpg", "cat/b/1.jpg", "dog/c/1.jpg", "dog/2.jpg"))
    assert not found.warnings


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ("train/1.jpg test/2.jpg", "folders with names of splits hold no folders of classes: test/ and train/"),
        ("Train/1.jpg test1/2.jpg sample.csv", "hold no folders of classes: Train/ and test1/"),
        ("train/1.jpg train/a.csv", "hold no folders of classes: train/"),
        (
            "train/a/1.jpg train/b/1.jpg test/1.jpg",
            r"in test/ are pictures, 1 in all, but no folder of a class that train/ has \(a, b\). "
            "data.data_dir={root}/train cuts .*predict",
        ),
        ("train/a/1.jpg train/b/1.jpg test/images/1.jpg", "in test/ are pictures, .* no folder of a class"),
        ("train/a/1.jpg train/b/1.jpg test/A/1.jpg test/B/1.jpg", "in test/ are pictures, .* no folder of a class"),
        (
            "test/a/1.jpg test/b/1.jpg val/a/1.jpg",
            "there are folders of classes in test/ and val/, as in splits, and none for training",
        ),
        ("val/a/1.jpg b/1.jpg", "and none for training. Call the folder of the training images train"),
        ("train/a/1.jpg Train/a/1.jpg test/a/1.jpg", "Train and train both hold training images"),
        ("train/a/1.jpg val/a/1.jpg valid/a/1.jpg", "val and valid both hold validation images"),
        ("train/a/1.jpg train/b/1.jpg train/x.csv plots/1.jpg", "train/ holds folders, as splits do, .*: plots"),
        ("train/a/1.jpg test/a/1.jpg eval/c/1.jpg", "train/ holds folders, .*: eval. Call them val or test if they"),
        ("x/train/a/1.jpg train/a/1.jpg test/a/1.jpg", "train/ holds folders, as splits do, .*: x"),
        ("a/train/c/1.jpg a/test/c/1.jpg b/train/c/1.jpg", "a/ is a data set of its own"),
        ("a/train/1.jpg a/test/1.jpg b/1.jpg", r"a/ holds splits \(test/ and train/\), and others hold pictures: b"),
    ],
)
def test_folders_that_could_be_read_in_two_ways_are_refused(tmp_path, paths, told):
    touch(tmp_path, *paths.split())
    with pytest.raises(FolderError, match=f"^{re.escape(str(tmp_path))}: .*{told.format(root=tmp_path)}"):
        read_folders(tmp_path)


@pytest.mark.parametrize(
    ("name", "told"), [("photos.zip", "unpack it"), ("a.csv", "a table of labels is named with"), ("b", "no such")]
)
def test_what_is_no_folder_is_refused_with_a_way_out(tmp_path, name, told):
    touch(tmp_path, "photos.zip", "a.csv")
    with pytest.raises(FolderError, match=told):
        read_folders(tmp_path / name)


# Classes


def test_class_names_that_look_alike_are_named_in_quotes(tmp_path):
    names = (
        "Cat",
        "cat",
        "dog",
        "dog ",
        "dog_",
        "hot dog",
        "hot_dog",
        "C",
        "C++",
        "-1",
        "1",
        "2-1",
        "21",
        "caf\u00e9",
        "ｃａfé",
    )
    found = read_folders(tree(tmp_path, ".", names))
    assert len(found.class_names) == len(names)
    alike = "'Cat' and 'cat'; 'café' and 'ｃａfé'; 'dog' and 'dog ' and 'dog_'; 'hot dog' and 'hot_dog'"
    assert found.warnings == [f"class names look alike: {alike}. If they are one class, give them one name"]


def test_classes_that_are_named_as_several_others_are_noticed(photos):
    found = read_table(
        table(photos, "path,label\nimages/0,cat\nimages/1,dog\nimages/2,cat|dog\nimages/3,black/white\n")
    )
    assert found.warnings == ["classes are named as several others together: cat|dog. A picture has one class here"]


def test_pictures_in_formats_that_are_not_read_are_named_with_a_way_out(tmp_path):
    found = read_folders(
        touch(tree(tmp_path, "."), *(f"cat/IMG_{n}.HEIC" for n in range(20)), "dog/1.CR2", "dog/1.txt")
    )
    assert found.skipped == {".heic": 20, ".cr2": 1, "no pictures (.txt)": 1}
    assert [each.partition(". ")[0].rpartition(": ")[2] for each in found.warnings] == ["20 .heic", "1 .cr2"]
    assert "cnn-compare[heif]" in found.warnings[0]


def test_a_plugin_that_is_registered_later_makes_its_pictures_known(tmp_path, monkeypatch):
    from PIL import Image

    touch(tree(tmp_path, "."), "cat/1.heic")
    assert not any(path.endswith(".heic") for path in pictures_in(tmp_path)[0])
    monkeypatch.setitem(Image.OPEN, "HEIF", Image.OPEN["PNG"])
    monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
    assert any(path.endswith(".heic") for path in pictures_in(tmp_path)[0])


def test_small_classes_are_left_out_where_that_is_asked_for_and_named(tmp_path):
    tree(tmp_path, ".", ("cat", "dog"), 5)
    touch(tmp_path, *(f"rare {n}/1.jpg" for n in range(7)), "two/1.jpg", "two/2.jpg")
    (tmp_path / "empty").mkdir()
    found = without_small_classes(read_folders(tmp_path), 3)
    assert found.class_names == ("cat", "dog")
    assert {picture.label for picture in found.pictures} == {"cat", "dog"}
    told = (
        "classes with fewer than data.min_class_images=3 images are left out, 9 in all: empty, rare 0, rare 1, rare 2"
    )
    assert found.warnings == [f"{told}, rare 3 and 4 more"]
    assert len(read_folders(tmp_path).class_names) == 11
    with pytest.raises(FolderError, match=r"no class after data\.min_class_images=9 left out cat, dog"):
        without_small_classes(read_folders(tmp_path), 9)
    touch(tmp_path / "b", *(f"train/{name}/{n}.jpg" for name in "ab" for n in range(3)), "test/a/1.jpg", "test/c/1.jpg")
    assert without_small_classes(read_folders(tmp_path / "b"), 1).class_names == ("a", "b")


# Tables


@pytest.mark.parametrize(
    "text",
    [
        f"path,label\n{BODY}",
        f"Path , LABEL\n{BODY}",
        f"path;label\n{BODY.replace(',', ';')}",
        f"path\tlabel\n{BODY.replace(',', chr(9))}",
        f"path|label\n{BODY.replace(',', '|')}",
        f"path,label\r\n{BODY}".replace("\n", "\r"),
        f"path,label\n{BODY},\n,\n\n",
        f"path,label\n{BODY}".replace("\n", ",\n").replace("label,", "label"),
        f",path,label\n{BODY}".replace("images", "7,images"),
        f"\ufeffpath,label\n{BODY}",
        f"path,label\n{BODY.replace('.jpg', '')}",
        f"path,label\n{BODY.replace('.jpg', '.JPG').replace('im', 'Im')}",
        f"path,label\n{BODY.replace('/', chr(92))}",
        f"path,label\n{BODY.replace('images', './images/../images')}",
        f'path,label,"a, note"\n{BODY}',
        f"\n\npath,label\n{BODY}",
    ],
)
def test_tables_are_read_as_they_are_meant(photos, text):
    found = read_table(table(photos, text))
    assert {(os.path.normpath(each.path), each.label, each.split, each.group) for each in found.pictures} == EXPECTED


def test_a_table_in_utf_16_is_read_and_other_encodings_are_refused(photos):
    file = photos / "labels.csv"
    file.write_text(f"path,label\n{BODY.replace('cat', '고양이')}", "utf-16")
    assert read_table(file).class_names == ("dog", "고양이")
    for encoding in ("cp949", "utf-16-le", "utf-32"):
        file.write_text(f"path,label\n{BODY.replace('cat', '고양이')}", encoding)
        with pytest.raises(FolderError, match="it is no CSV file in UTF-8"):
            read_table(file)


def test_a_class_whose_name_may_stand_for_a_missing_label_is_noticed(photos):
    found = read_table(table(photos, "path,label\nimages/0,NA\nimages/1,dog\nimages/2,none\n"))
    told = "{!r} is read as a class. If it stands for a missing label, remove its rows"
    assert found.warnings == [told.format("NA"), told.format("none")]


def test_names_are_found_in_both_unicode_forms(tmp_path):
    """On this file system the two forms are two names."""
    nfc, nfd = (unicodedata.normalize(form, "사진/고양이_é") for form in ("NFC", "NFD"))
    for on_disk, written in ((nfc, nfd), (nfd, nfc)):
        root = touch(tmp_path / str(len(on_disk)), f"{on_disk}1.png", f"{on_disk}2.png")
        file = table(root, f"path,{on_disk}\n{written}1.png,a\n{written}2,b\n")
        found = read_table(file, columns={"label": written})
        assert facts(found) == {(f"{on_disk}1.png", "a", None, ""), (f"{on_disk}2.png", "b", None, "")}


def test_other_columns_and_pictures_elsewhere(tmp_path):
    """As the skin lesions of HAM10000, whose pictures lie in two folders; and dog breeds of Kaggle."""
    touch(tmp_path, "ham/part_1/I1.jpg", "ham/part_2/I2.jpg", "ham/part_2/I3.jpg")
    ham = table(tmp_path, "lesion_id,image_id,dx\nL1,I1,nv\nL2,I2,mel\nL2,I3,mel\n")
    columns = {"path": "image_id", "label": "dx", "group": "lesion_id"}
    found = read_table(ham, data_dir=tmp_path / "ham", columns=columns)
    assert found.root == tmp_path / "ham"
    assert facts(found) == {
        ("part_1/I1.jpg", "nv", None, "L1"),
        ("part_2/I2.jpg", "mel", None, "L2"),
        ("part_2/I3.jpg", "mel", None, "L2"),
    }
    touch(tmp_path, "ham/part_1/I2.jpg")
    with pytest.raises(FolderError, match=r"line 3 has the path I2, which may be part_1/I2\.jpg or part_2/I2\.jpg"):
        read_table(ham, data_dir=tmp_path / "ham", columns=columns)
    with pytest.raises(FolderError, match="columns lesion_id, image_id, dx; it needs path and label"):
        read_table(ham)
    touch(tmp_path, "train/0a.jpg", "train/0b.jpg")
    breeds = table(tmp_path, "id,breed\n0a,pug\n0b,husky\n")
    found = read_table(breeds, data_dir=tmp_path / "train", columns={"path": "id", "label": "breed"})
    assert facts(found) == {("0a.jpg", "pug", None, ""), ("0b.jpg", "husky", None, "")}


def test_one_column_a_class_is_read_as_its_class(photos):
    columns = {"path": "image", "label": ["MEL", "NV"]}
    text = "image,MEL,NV,UNK\nimages/0,1.0,0.0,0\nimages/1,0,1,0\nimages/2,False,True,0\n"
    found = read_table(table(photos, text), columns=columns)
    assert facts(found) == {(f"images/{n}.jpg", name, None, "") for n, name in enumerate(("MEL", "NV", "NV"))}
    for cells in ("1,1", "0,0", ",1", "0.5,0.5"):
        with pytest.raises(FolderError, match=r"line 5 has MEL=.*, of which one must be 1 and the others 0"):
            read_table(table(photos, f"{text}images/3,{cells},0\n"), columns=columns)


def test_splits_of_tables_are_the_usual_words_in_every_spelling(photos):
    text = "path,label,Split\nimages/0,a,Train\nimages/1,b,TRAINING\nimages/2,a,Valid\nimages/3,b,test_set\n"
    assert counts(read_table(table(photos, text))) == {"train": 2, "val": 1, "test": 1}
    assert {split_named(word) for word in ("dev", "valid", "validation")} == {"val"}
    for word in ("0", "1.0", "holdout", "steam train", "train/test"):
        with pytest.raises(FolderError, match=f"line 5 has the split '{word}', which is none of train, val, test"):
            read_table(table(photos, text.replace("test_set", word)))
    assert counts(read_table(table(photos, text), columns={"split": "none"})) == {None: 4}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "path,label\nimages/0,cat\nimages/1,nan\nimages/2,dog",
            "line 3 has the label 'nan', which stands for a missing",
        ),
        ("path,label,group\nimages/0,cat,NaN\n", "line 2 has the group 'NaN', which stands for a missing value"),
        ("path,label\nimages/0,1\nimages/1,0\nimages/2,1.0\n", "line 4 has 1.0, and line 2 has 1: write one of them"),
        ("path,label,group\nimages/0,a,7.0\nimages/1,b,7\n", "line 3 has 7, and line 2 has 7.0: write one of them"),
        ("path,label,path\nimages/0,a,b\n", "it has two columns that are called path"),
        (
            "path,label\nhttps://example.org/0.png,a\n",
            "line 2 has the path https://example.org/0.png: it is an address",
        ),
        (
            "path,label\nimages/0,a\n\nimages/../images/0.jpg,b",
            "it names images/0.jpg in lines 2 and 4: keep one of them",
        ),
        ("path,label\nimages/0,a,b\n", "line 2 has more values than there are columns"),
        ("image,class\nimages/0,a\n", r"needs path and label\. data\.columns='\{path: image_id"),
        (
            "images/0.jpg,cat\n",
            "its first line names the columns images/0.jpg, cat; .* It seems to be the first picture",
        ),
        ("path,label\n", "there is no picture in it"),
        ("", "it is empty"),
        ("path,label,group\nimages/0,a,01\nimages/1,b,1\n", "line 3 has 1, and line 2 has 01: write one of them"),
        ("path;label\nimages/0;1,50\nimages/1;1.5\n", "line 3 has 1.5, and line 2 has 1,50: write one of them"),
        ("# by hand\nsep=,\npath,label\nimages/0,a\n", "Line 3 does: remove what is before it"),
        ("path label\nimages/0 a\n", "Between the columns must be commas, semicolons or tabs"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused_by_line(photos, text, told):
    with pytest.raises(FolderError, match=told):
        read_table(table(photos, text))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("0.jpg", "is 0.jpg, relative to {root}. There is images/0.jpg: give data.data_dir={root}/images"),
        ("0", "is 0, relative to {root}. There is images/0.jpg: give data.data_dir={root}/images"),
        ("other/0.jpg", "There is images/0.jpg: write paths relative to the table's folder"),
        (r"C:\\Users\\me\\0.jpg", "There is images/0.jpg: write paths relative to the table's folder"),
        ("/kaggle/input/0.jpg", "is /kaggle/input/0.jpg. There is images/0.jpg: write paths"),
        ("images/0.png", "There is images/0.jpg: write the endings of the names as they are, or none"),
        ("~/nothing/5.jpg", "/nothing/5.jpg. data.data_dir=FOLDER names the folder"),
    ],
)
def test_if_no_picture_is_there_the_first_path_is_shown_with_what_would_match(photos, path, told):
    with pytest.raises(FolderError, match=r"none of its 2 pictures is there\. The first, in line 2, ") as refused:
        read_table(table(photos, f"path,label\n{path},a\nsomewhere/else.jpg,b\n"))
    assert told.format(root=photos) in str(refused.value)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (("other/0.jpg", "else.jpg"), "There is pictures/other/0.jpg: give data.data_dir={root}/pictures"),
        (("0", "1.jpg"), "There is pictures/other/0.jpg: give data.data_dir={root}/pictures"),
    ],
)
def test_a_folder_in_which_the_paths_would_be_right_is_named(tmp_path, paths, told):
    touch(tmp_path, "pictures/other/0.jpg", "pictures/part_2/1.jpg")
    file = table(tmp_path, f"path,label\n{paths[0]},a\n{paths[1]},b\n")
    with pytest.raises(FolderError) as refused:
        read_table(file)
    assert str(refused.value).endswith(f"{told.format(root=tmp_path)}.")
    with pytest.raises(FolderError, match="nowhere: there is no such folder"):
        read_table(file, data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["labels.zip", "labels.xlsx"])
def test_archives_and_spreadsheets_are_no_tables(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(FolderError, match="unpack it" if name.endswith("zip") else "save it as CSV"):
        read_table(tmp_path / name)


def test_a_missing_picture_among_others_is_left_to_the_decoder(photos):
    found = read_table(table(photos, f"path,label\n{BODY}images/gone,cat\n"))
    assert ("images/gone", "cat", None, "") in facts(found)


def test_a_quoted_value_may_hold_the_delimiter(photos):
    file = photos / "labels.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened, delimiter=";").writerows([("path", "label"), ("images/0", "a, b; c"), ("images/1", "d,e,f")])
    assert read_table(file).class_names == ("a, b; c", "d,e,f")
