"""The meaning of a user's folder of pictures: paths, classes, splits and groups. No picture is opened.

Names alone decide, and only in the ways that `read_folders` describes. Tables of labels: `cnn_compare.data.tables`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from cnn_compare.errors import FolderError, InvalidValueError
from cnn_compare.formatting import format_list

Split = Literal["train", "val", "test"]
SPLITS: dict[str, str] = {"train": "training", "val": "validation", "test": "test"}
"""What the images of each split are for, in words."""
# Words for splits, also as parts of names: Train, training, 01_train, test1, TrainSet, seg_train, 训练集.
_SPLIT_WORD = re.compile(
    r"(?<![^\W\d_])(?:(?P<train>train(?:ing|val)?|훈련|학습|训练|学習|訓練)"
    r"|(?P<val>val(?:id(?:ation)?)?|dev(?:elopment)?|검증|验证|検証)|(?P<test>test(?:ing)?|시험|테스트|测试|テスト))(?:set|data|集|용|데이터)?(?![^\W\d_])"
)
_BESIDE_SPLIT_WORDS = {"set", "data", "dataset", "split", "image", "images", "img", "imgs", "pictures", "photos"}
# What operating systems leave in folders.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found"}
# Pillow knows their names, and not how to read them.
_UNREADABLE = {"BUFR", "GRIB", "HDF5", "MPEG"}
# Formats that hold pictures and that Pillow does not read by itself.
_HEIF = {".heic", ".heif", ".hif"}
_OTHER_FORMATS = {".jxl", ".svg", ".dcm", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"}
_SHOWN = 5


@dataclass(frozen=True)
class Picture:
    """A picture and what is known of it.

    Args:
        path: Relative to the root, with ``/``.
        label: Name of its class.
        split: None where it is still to be cut.
        group: Its group, which must not be in two splits; empty where there are no groups.
    """

    path: str
    label: str
    split: Split | None = None
    group: str = ""


@dataclass(frozen=True)
class Pictures:
    """All pictures of a user's data set.

    Args:
        root: The folder that paths are relative to.
        layout: The reading of the folder or table, in words.
        pictures: Sorted by path.
        class_names: Names in the order of their labels: sorted, as torchvision does. A class may have no picture.
        skipped: Files and folders that are no pictures: reason -> how many.
        warnings: Sentences, without a full stop, about what may have been meant otherwise.
    """

    root: Path
    layout: str
    pictures: list[Picture]
    class_names: tuple[str, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_folders(root: Path) -> Pictures:
    """The pictures of a folder that holds one folder a class, or a folder a split with one folder a class in each.

    A folder is a split if it holds folders with pictures and its name is a usual word for one, such as ``train``,
    ``Training``, ``valid``, ``dev`` and ``test1``, or consists of such a word and what others share, as ``seg_train``
    and ``seg_test`` do. Splits may also lie inside of each class's folder. A folder that holds a single folder is
    looked through. Pictures may lie in further folders inside of a class's.

    Args:
        root: The folder.

    Raises:
        FolderError: If there is no picture, a single class, or folders that could be read in two ways.
    """
    if not root.is_dir():
        way_out = unpack_hint(root) or "; a table of labels is named with data.labels"
        raise FolderError(root, f"it is not a folder{way_out}" if root.exists() else "there is no such folder")
    skipped: Counter[str] = Counter()
    top = _scan(root, "", skipped)
    if not top.holds_pictures:
        problem = "there is no picture in it, and it should hold a folder with pictures for each class"
        raise FolderError(root, problem + (f" (skipped: {counts_in_words(skipped)})" if skipped else ""))
    return _Layout(root, top, skipped).read()


def unpack_hint(file: Path) -> str:
    """The end of a sentence: what to do with an archive or a spreadsheet in place of a folder or table."""
    suffix = file.suffix.lower()
    if suffix in (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"):
        return ": unpack it, and name what was in it"
    return ": save it as CSV" if suffix in (".xlsx", ".xls", ".ods", ".numbers") else ""


@dataclass
class _Folder:
    """A folder's pictures and folders.

    Args:
        path: Relative to the root, with ``/`` at the end; empty for the root.
        folders: Folders by name.
        pictures: Paths of those that are in no further folder.
        others: Number of files that are no pictures.
    """

    path: str
    folders: dict[str, _Folder] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    others: int = 0

    def below(self) -> Iterator[str]:
        """Paths of all pictures, also in further folders."""
        yield from self.pictures
        for folder in self.folders.values():
            yield from folder.below()

    @cached_property
    def with_pictures(self) -> dict[str, _Folder]:
        """Its folders that hold pictures, as that of a split holds folders of classes."""
        return {name: folder for name, folder in self.folders.items() if folder.holds_pictures}

    @property
    def classes(self) -> set[str]:
        """Names of its folders that hold pictures, as they are compared."""
        return {*map(normalized_name, self.with_pictures)}

    @cached_property
    def holds_pictures(self) -> bool:
        return bool(self.pictures or self.with_pictures)

    @cached_property
    def holds_others_only(self) -> bool:
        """Whether there are files and no picture, as in a folder of annotations."""
        others = self.others or any(folder.holds_others_only for folder in self.folders.values())
        return bool(others) and not self.holds_pictures


class _Layout:
    """The meaning of a data set's folders."""

    def __init__(self, root: Path, top: _Folder, skipped: Counter[str]) -> None:
        self.root, self.skipped = root, skipped
        self.pictures: list[Picture] = []
        self.classes: set[str] = set()
        self.warnings: list[str] = []
        self.top = self._inner_folder(top)
        self.folders = {name: each for name, each in self.top.folders.items() if not each.holds_others_only}
        self.splits = _splits_of(self.folders)

    def read(self) -> Pictures:
        """All pictures with their labels."""
        if any(self.folders[name].with_pictures for name in self.splits):
            layout = self._read_splits()
        elif self.splits and len(self.splits) == len(self.folders):
            raise FolderError(
                self.root,
                f"folders with names of splits hold no folders of classes: {_listed(self.splits)}. Give each class a "
                "folder, or name the pictures in a table: data.labels=FILE.csv",
            )
        else:
            layout = self._read_splits_of_classes() or self._read_classes()
        if self.top.path:
            layout += f", inside of {self.top.path}"
        found = Pictures(self.root, layout, self.pictures, (), dict(self.skipped), self.warnings)
        return checked(found, self.classes)

    def _inner_folder(self, folder: _Folder, classes: set[str] | None = None) -> _Folder:
        """A folder, or the one in it that holds the classes, if there is nothing else; a split or class is none.

        Args:
            folder: Where to begin.
            classes: Inside of a split, the names of classes that are known; None: it is outside.
        """
        while not folder.pictures:
            inside = {name: each for name, each in folder.folders.items() if not each.holds_others_only}
            if len(inside) != 1:
                break
            ((name, only),) = inside.items()
            is_split_or_class = name in _splits_of(inside) if classes is None else normalized_name(name) in classes
            if not only.with_pictures or is_split_or_class:
                break
            folder = only
        return folder

    def _read_splits(self) -> str:
        """Folders of splits, each with folders of classes."""
        holding = {name: self.folders[name] for name in self.splits if self.folders[name].with_pictures}
        train = [name for name in holding if self.splits[name] == "train"]
        if not train:
            problem = f"there are folders of classes in {_listed(holding)}, as in splits, and none for training"
            raise FolderError(self.root, f"{problem}. Call the folder of the training images train")
        for split, what in SPLITS.items():
            if len(same := [name for name in holding if self.splits[name] == split]) > 1:
                raise FolderError(self.root, f"{' and '.join(same)} both hold {what} images; keep one of them")
        inside = {train[0]: self._inner_folder(holding[train[0]], set())}
        known = inside[train[0]].classes
        inside |= {name: self._inner_folder(each, known) for name, each in holding.items() if name != train[0]}
        self._require_no_others(any(known & inside[name].classes for name in holding if name != train[0]))
        unlabelled = {
            name: self.folders[name]
            for name in self.splits
            if self.folders[name].holds_pictures and (name not in inside or not known & inside[name].classes)
        }
        if unlabelled:
            pictures = sum(len([*each.below()]) for each in unlabelled.values())
            raise FolderError(
                self.root,
                f"in {_listed(unlabelled)} are pictures, {pictures:,} in all, but no folder of a class that "
                f"{train[0]}/ has ({a_few(sorted(known))}). data.data_dir={self.root / self.top.path / train[0]} cuts "
                "what is missing from the training images; `cnn-compare predict` classifies pictures without labels",
            )
        in_order = [name for split in SPLITS for name in holding if self.splits[name] == split]
        for name in in_order:
            self._add_classes(inside[name], self.splits[name])
        if self.top.pictures:
            self.skipped["pictures outside of class folders"] += len(self.top.pictures)
        listed = ", ".join(f"{inside[name].path} for {SPLITS[self.splits[name]]}" for name in in_order)
        return f"{listed}, with one folder a class in each"

    def _require_no_others(self, surely_splits: bool) -> None:
        """Refuse folders beside the splits that could be classes; leave out those that hold pictures only."""
        others = {name: each for name, each in self.folders.items() if name not in self.splits and each.holds_pictures}
        if others and (not surely_splits or any(each.with_pictures for each in others.values())):
            train = next(name for name, split in self.splits.items() if split == "train")
            raise FolderError(
                self.root,
                f"{train}/ holds folders, as splits do, and beside it are folders that are no splits: "
                f"{a_few(sorted(others))}. Call them val or test if they are such, move them away, or name one folder "
                "with data.data_dir",
            )
        self.warnings += [
            f"pictures in {name}/, which is beside the splits and has no classes, are left out: {len(each.pictures):,}"
            for name, each in others.items()
        ]

    def _read_splits_of_classes(self) -> str:
        """Folders of classes, each with folders of splits; nothing if they are none."""
        kept = self.top.with_pictures
        splits_in = {name: _splits_of(each.with_pictures) for name, each in kept.items()}
        whole = [
            name for name, each in kept.items() if {*splits_in[name]} == {*each.with_pictures} and each.with_pictures
        ]
        if not whole:
            return ""
        first, inner = whole[0], kept[whole[0]].with_pictures
        if any(each.with_pictures for each in inner.values()):
            raise FolderError(
                self.root, f"{first}/ is a data set of its own, with {_listed(inner)}. Name one with data.data_dir"
            )
        if rest := [name for name in kept if name not in whole or kept[name].pictures]:
            raise FolderError(
                self.root, f"{first}/ holds splits ({_listed(inner)}), and others hold pictures: {a_few(rest)}"
            )
        for name, each in kept.items():
            for inside, split in splits_in[name].items():
                self._add_class(name, each.folders[inside], split)
        self.classes |= {*map(normalized_name, self.folders)}
        return f"one folder a class, with {', '.join(f'{name}/' for name in inner)} in each"

    def _read_classes(self) -> str:
        """Folders of classes, and no splits."""
        if self.splits:
            names = " and ".join(map(repr, sorted(self.splits)))
            self.warnings.append(f"{names} is read as a class, and is the name of a split as well")
        self._add_classes(self.top, None)
        return "one folder a class"

    def _add_classes(self, folder: _Folder, split: Split | None) -> None:
        if folder.pictures and not folder.with_pictures:
            problem = f"pictures outside of class folders: {len(folder.pictures):,}; give each class a folder"
            raise FolderError(self.root / folder.path, f"{problem}, or use data.labels")
        if folder.pictures:
            self.skipped["pictures outside of class folders"] += len(folder.pictures)
        for name, each in folder.folders.items():
            self._add_class(name, each, split)
        self._warn_of_recurring(folder)

    def _add_class(self, name: str, folder: _Folder, split: Split | None) -> None:
        label = normalized_name(name)
        self.classes.add(label)
        self.pictures += [Picture(path, label, split) for path in folder.below()]

    def _warn_of_recurring(self, folder: _Folder) -> None:
        """Say it if the folders in the classes' folders could be the classes: those of patients, for instance."""
        of_class = folder.with_pictures
        inside = Counter(name for each in of_class.values() for name in each.with_pictures)
        recurring = [name for name, count in inside.items() if count > 1]
        most = 2 * sum(inside[name] for name in recurring) >= inside.total()
        if recurring and most and not any(each.pictures for each in of_class.values()):
            self.warnings.append(
                f"the folders {a_few([*of_class])} are read as classes, and all hold folders of the same names: "
                f"{a_few(recurring)}. If those are the classes: call the folders above them train, val and test if "
                "they are splits; for patients and the like, give a table with the columns path, label and group "
                "instead, data.labels=FILE.csv"
            )


def _splits_of(names: Iterable[str]) -> dict[str, Split]:
    """The names that stand for splits -> the split."""
    found = {name: word for name in names if (word := _split_word(name))}
    # One such name may be anything, such as `steam train`; two that differ in the word alone are splits.
    shared = Counter(rest for _, rest in {*found.values()})
    return {name: split for name, (split, rest) in found.items() if not rest or shared[rest] > 1}


def split_named(word: str) -> Split | None:
    """The split that a word stands for, by itself."""
    return _splits_of([word]).get(word)


def _split_word(name: str) -> tuple[Split, tuple[str, ...]] | None:
    """The split whose word is in a name, and the other words."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", normalized_name(name)).lower()
    words = [*_SPLIT_WORD.finditer(text)]
    if len(words) != 1:
        return None
    rest = re.findall(r"[^\W\d_]+", f"{text[: words[0].start()]} {text[words[0].end() :]}")
    split: Split = next(split for split in get_args(Split) if split == words[0].lastgroup)
    return split, tuple(word for word in rest if word not in _BESIDE_SPLIT_WORDS)


def group_by_pattern(pictures: Pictures, pattern: str) -> Pictures:
    """Group pictures by what a regular expression finds in their paths: its first group, else the match.

    Raises:
        InvalidValueError: If it is no regular expression.
        FolderError: If it is not found in some path.
    """
    try:
        expression = re.compile(unicodedata.normalize("NFC", pattern))
    except re.error as error:
        raise InvalidValueError("data.group_pattern", pattern, f"a regular expression ({error})") from error
    found = [expression.search(normalized_name(picture.path)) for picture in pictures.pictures]
    names = [match and match[min(1, expression.groups)] for match in found]
    if lost := [picture.path for picture, name in zip(pictures.pictures, names, strict=True) if not name]:
        raise FolderError(pictures.root, f"data.group_pattern={pattern} finds nothing in {a_few(lost)}")
    grouped = [replace(picture, group=name or "") for picture, name in zip(pictures.pictures, names, strict=True)]
    return replace(pictures, pictures=grouped)


def checked(found: Pictures, classes: Iterable[str] = ()) -> Pictures:
    """Sort the pictures, name the classes, and warn of what looks wrong.

    Args:
        found: The pictures.
        classes: Classes besides those of the pictures, such as empty folders.

    Raises:
        FolderError: If there are fewer than two classes.
    """
    names = sorted({*classes, *(picture.label for picture in found.pictures)})
    if len(names) < 2:
        problem = f"a single class, {names[0]!r}" if names else "no class"
        raise FolderError(found.root, f"it holds {problem}, and there must be at least two")
    warnings = [*found.warnings, *_alike(names), *_not_read(found.skipped)]
    pictures = sorted(found.pictures, key=lambda picture: picture.path)
    return replace(found, pictures=pictures, class_names=tuple(names), warnings=warnings)


def without_small_classes(found: Pictures, least: int) -> Pictures:
    """Leave out classes with fewer pictures that are not for validation or test.

    Raises:
        FolderError: If fewer than two classes are left.
    """
    trained = Counter(picture.label for picture in found.pictures if picture.split in (None, "train"))
    names = [name for name in found.class_names if trained[name] >= least]
    small = [name for name in found.class_names if trained[name] < least]
    if len(names) < 2:
        problem = f"a single class, {names[0]!r}," if names else "no class"
        problem += f" after data.min_class_images={least} left out {a_few(small)}"
        raise FolderError(found.root, f"it holds {problem}, and there must be at least two")
    what = f"classes with fewer than data.min_class_images={least} images are left out, {len(small):,} in all"
    pictures = [picture for picture in found.pictures if trained[picture.label] >= least]
    warnings = [*found.warnings, f"{what}: {a_few(small)}"] if small else found.warnings
    return replace(found, pictures=pictures, class_names=tuple(names), warnings=warnings)


def _alike(names: Sequence[str]) -> Iterator[str]:
    """Sentences of class names that differ in case, spaces and the like only, or consist of others."""
    same: dict[str, list[str]] = {}
    for name in names:
        text = "".join(each for each in unicodedata.normalize("NFKC", name) if unicodedata.category(each) != "Cf")
        letters = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])", "", text.strip(" _").casefold())
        same.setdefault(letters, []).append(name)
    if alike := [" and ".join(map(repr, each)) for each in same.values() if len(each) > 1]:
        yield f"class names look alike: {'; '.join(alike)}. If they are one class, give them one name"
    parts, known = {name: re.split(r"\s*[|;,+&/]\s*", name) for name in names}, {*names}
    if several := [name for name in names if len(parts[name]) > 1 and known.issuperset(parts[name])]:
        yield f"classes are named as several others together: {a_few(several)}. A picture has one class here"


def _not_read(skipped: Mapping[str, int]) -> Iterator[str]:
    """Sentences of files that hold pictures and cannot be read."""
    ways_out = (
        (_HEIF, "`pip install 'cnn-compare[heif]'` lets them be read"),
        (_OTHER_FORMATS, "Convert them to PNG or JPEG"),
    )
    for suffixes, way_out in ways_out:
        if counts := {suffix: skipped[suffix] for suffix in suffixes & skipped.keys()}:
            found = counts_in_words(counts)
            yield f"pictures are not used, because their format is not read: {found}. {way_out}"


def pictures_in(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The pictures of a folder and of those in it, which say nothing about classes.

    Returns:
        Their paths, with that of the folder; and why a folder has none or cannot be read: path -> reason.
    """
    skipped: Counter[str] = Counter()
    unreadable: list[FolderError] = []
    paths = sorted(_scan(folder, f"{str(folder).rstrip('/')}/", skipped, unreadable).below())
    reasons = {str(error.path): error.problem for error in unreadable}
    if not paths and not reasons:
        reasons[str(folder)] = "there is no picture in the folder" + (
            f" (skipped: {counts_in_words(skipped)})" if skipped else ""
        )
    return paths, reasons


def _scan(
    folder: Path,
    prefix: str,
    skipped: Counter[str],
    unreadable: list[FolderError] | None = None,
    above: frozenset[tuple[int, int]] = frozenset(),
) -> _Folder:
    """The content of a folder; one that cannot be read is put into ``unreadable``, if that is given."""
    found, status = _Folder(prefix), folder.stat()
    if (here := (status.st_dev, status.st_ino)) in above:
        skipped["links to a folder that they are in"] += 1
        return found
    try:
        entries = _entries(folder, skipped)
    except FolderError as error:
        if unreadable is None:
            raise
        unreadable.append(error)
        return found
    suffixes = picture_suffixes()
    for entry in entries:
        suffix = PurePath(entry.name).suffix.lower()
        if _is_folder(entry):
            path = f"{prefix}{entry.name}/"
            found.folders[entry.name] = _scan(Path(entry.path), path, skipped, unreadable, above | {here})
        elif suffix in suffixes:  # Content that does not fit its name is found when it is decoded, and listed.
            found.pictures.append(f"{prefix}{entry.name}")
        elif suffix in _HEIF | _OTHER_FORMATS:
            skipped[suffix] += 1
        else:
            found.others += 1
            skipped[f"no pictures ({suffix or 'no ending'})"] += 1
    return found


def _entries(folder: Path, skipped: Counter[str]) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name, without what is hidden or belongs to an operating system."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise FolderError(folder, error.strerror or str(error)) from error
    kept = [entry for entry in entries if not (entry.name.startswith(".") or entry.name.lower() in _LITTER)]
    if len(kept) < len(entries):
        skipped["hidden or of the operating system"] += len(entries) - len(kept)
    return kept


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def picture_suffixes() -> frozenset[str]:
    """Endings of the names of pictures, such as ``.png``; plugins of Pillow add theirs."""
    from PIL import Image  # Imported late: it loads a module for each format.

    formats = Image.registered_extensions()
    return frozenset(suffix for suffix, name in formats.items() if name in Image.OPEN and name not in _UNREADABLE)


def printable(name: str) -> str:
    """A name with bytes that are no UTF-8 written out."""
    return name.encode(errors="backslashreplace").decode()


def quoted(name: str) -> str:
    """A name as it is shown: in quotes if it begins or ends with spaces, which nobody sees."""
    return printable(name) if name == name.strip() else repr(printable(name))


def normalized_name(name: str) -> str:
    """A class's or group's name as it is compared: macOS stores accents and Korean syllables in parts."""
    return unicodedata.normalize("NFC", printable(name))


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Counts in a sentence, such as ``1 hidden, 2 no pictures (.txt)``."""
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))


def description_in_words(found: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about a data set, from what its ``describe`` returns."""
    splits = {SPLITS[name]: split for name, split in found["splits"].items()}
    parts = [
        f"{split['images']:,} for {name}"
        + ("" if split["groups"] is None else f" (of {split['groups']:,} group{'s' * (split['groups'] != 1)})")
        for name, split in splits.items()
    ]
    cut = [name for name, split in splits.items() if split["cut"]]
    yield f"{found['root']}: {found['layout']}; {len(splits['training']['classes']):,} classes."
    yield f"Images: {', '.join(parts)}{f'; {format_list(cut)} cut by the program' if cut else ''}."
    if fold := found.get("fold"):
        yield f"Fold {fold[0]} of {fold[1]} is for test."
    for what, counts in (("Skipped", found["skipped"]), ("Decoded with notes", found["notes"])):
        if counts:
            yield f"{what}: {counts_in_words(counts)}."


def a_few(names: Sequence[str]) -> str:
    """The first few names."""
    shown = ", ".join(quoted(name) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"{name}/" for name in sorted(names))
