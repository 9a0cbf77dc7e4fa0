"""Pictures of the user's own: a folder of them, or a table that names them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from cnn_compare.data.cache import Decoded, decoded
from cnn_compare.data.decode import Decoding, Fit
from cnn_compare.data.layouts import (
    SPLITS,
    a_few,
    description_in_words,
    group_by_pattern,
    printable,
    quoted,
    read_folders,
    without_small_classes,
)
from cnn_compare.data.loaded import as_tensors
from cnn_compare.data.module import ImageDataModule, LoadedSplit, require
from cnn_compare.data.once import once
from cnn_compare.data.order import ResidentDataset
from cnn_compare.data.splits import Indices, class_counts, cut, fold_of, not_in_every_split, require_size
from cnn_compare.data.tables import TABLE_COLUMNS, read_table
from cnn_compare.errors import DataError
from cnn_compare.files import csv_text, is_address

OnBadFile = Literal["error", "skip"]
# Raised whenever `take_groups` gives other splits than before: a checkpoint is not tested with images it has seen.
GROUP_RULES = "rules 2"
# What is printed line by line, at most.
SHOWN = 30
BAD_SHOWN = 10


class FolderDataModule(ImageDataModule):
    """Pictures of the user's own, decoded once into a file that all runs share; nothing of the user's is changed.

    ``data_dir`` holds one folder a class, or ``train/``, ``val/`` and ``test/`` (or other usual words) with one folder
    a class in each; or ``labels`` names the pictures. The splits that this leaves open are cut with the same share of
    every class, and if there are groups, with no group in two splits.

    Args:
        data_dir: Folder of the pictures; with ``labels``, what the paths in it are relative to.
        labels: CSV file with the columns ``path`` (relative to ``data_dir``, else to the file) and ``label``, and maybe
            ``split`` and ``group``.
        group: Column of ``labels`` that holds groups; None: ``group``, where there is one; ``none``: no groups.
        group_pattern: Regular expression that finds the group in a picture's path: its first group, else the match.
        test_size: Test images, as a number or a share of all; only used where there are none yet, and no ``fold``.
        fit: How a picture becomes square: ``crop`` keeps the middle, ``pad`` adds borders, ``squash`` distorts.
        background: Red, green and blue under transparent pixels and of the borders of ``pad``, 0 to 255.
        max_pixels: A picture that has more is taken for a bad file, before it is decoded.
        on_bad_file: What a file that cannot be decoded means: ``error`` before anything trains, or ``skip`` it.
        stored_size: Height and width of the decoded pictures, in pixels; None: ``image_size``, or twice that if
            ``augmentation`` crops and enlarges parts of them.
        columns: Other names of the columns in ``labels``, such as ``{path: image_id, label: dx, group: lesion_id}``; a
            list for ``label``: one column a class, of which one holds 1.
        min_class_images: Classes with fewer pictures that are not given for validation or test are left out.
        classes: Names of at least two classes: all others are left out; None: none is.
        **options: Those of `ImageDataModule`; ``val_size`` is only used where there are no validation images yet, and
            a share is one of the images that are not for testing. A ``fold`` takes no notice of splits that there are.

    Raises:
        FolderError: If folder or table cannot be understood.
        DataError: If classes cannot be in every split, or files cannot be decoded.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        labels: str | Path | None = None,
        group: str | None = None,
        group_pattern: str | None = None,
        test_size: int | float = 0.2,
        fit: Fit = "crop",
        background: tuple[int, int, int] = (255, 255, 255),
        max_pixels: int = 100_000_000,
        on_bad_file: OnBadFile = "error",
        stored_size: int | None = None,
        columns: dict[str, str | list[str]] | None = None,
        min_class_images: int = 0,
        classes: list[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        table = "left out without data.labels, the table that it is about"
        place, expected = data_dir or labels, "a folder of pictures, or left out with data.labels=FILE.csv"
        require("data_dir", data_dir, place is not None, expected, "labels")
        for option, place in (("data_dir", data_dir), ("labels", labels)):
            require(option, place, not is_address(place or ""), "on this machine: addresses are not read")
        require("group", group, group is None or labels is not None, table, "labels")
        require("columns", columns, columns is None or labels is not None, table, "labels")
        named = columns or {}
        names = {*named} <= {*TABLE_COLUMNS} and all(isinstance(named[of], str) for of in {*named} - {"label"})
        some_of = "a name for some of path, label, split and group, and maybe a list of names for label"
        require("columns", columns, names, some_of)
        require("group", group, not (group and "group" in named), "left out with a group in data.columns", "columns")
        column = group or named.get("group")
        require("group", column, not (column and group_pattern), "left out with data.group_pattern", "group_pattern")
        require_size("data.test_size", test_size)
        require("max_pixels", max_pixels, max_pixels >= 1, "at least 1")
        require("stored_size", stored_size, stored_size is None or stored_size >= 1, "at least 1")
        require("min_class_images", min_class_images, min_class_images >= 0, "0 or larger")
        for option, word, known in (("fit", fit, get_args(Fit)), ("on_bad_file", on_bad_file, get_args(OnBadFile))):
            require(option, word, word in known, f"one of {', '.join(known)}")
        colour = len(background) == 3 and all(0 <= value <= 255 for value in background)
        require("background", [*background], colour, "three numbers from 0 to 255")
        # Absolute, so that a checkpoint finds them from any folder.
        self.data_dir = None if data_dir is None else Path(data_dir).expanduser().absolute()
        self.labels = None if labels is None else Path(labels).expanduser().absolute()
        self.columns, self.group, self.group_pattern = columns, group, group_pattern
        self.min_class_images, self.classes = min_class_images, classes
        self.test_size, self.on_bad_file, self.stored_size = test_size, on_bad_file, stored_size
        # With resized_crop, a part of a picture is enlarged to the whole.
        side = stored_size or self.image_size * (2 if "resized_crop" in self.augmentation else 1)
        self.decoding = Decoding(side, fit, (background[0], background[1], background[2]), max_pixels)
        if self.labels is not None:
            where = self.labels, group, self.data_dir, columns
            self.pictures = once(("table", repr(where)), lambda: read_table(*where))
        elif self.data_dir is not None:
            folder = self.data_dir
            self.pictures = once(("folder", folder), lambda: read_folders(folder))
        self.pictures = without_small_classes(self.pictures, min_class_images)
        if classes is not None:
            there = self.pictures.class_names
            usable = len({*classes}) >= 2 and {*classes} <= {*there}
            require("classes", classes, usable, f"a list of at least two of {a_few(there)}")
            pictures = [picture for picture in self.pictures.pictures if picture.label in classes]
            self.pictures = replace(self.pictures, pictures=pictures, class_names=tuple(sorted({*classes})))
        if group_pattern is not None:
            self.pictures = group_by_pattern(self.pictures, group_pattern)
        self.class_names = self.pictures.class_names
        self.keep_small_classes = False
        """Whether classes that are too small for every split are all in training, which is no error then."""
        self.small_classes: DataError | None = None
        self._small: dict[str, int] = {}
        self._described = False
        # Sorted rows of each split: all pictures of it, and those that can be used.
        self._whole: dict[str, Indices] = {}
        self._rows: dict[str, Indices] = {}

    @property
    def preparation(self) -> dict[str, Any]:
        """The record for checkpoints; ``pictures`` tells whether the split would still be the same."""
        digest = hashlib.blake2b(self._names, digest_size=4).hexdigest()
        cut = f", groups cut by {GROUP_RULES}" if self._groups is not None and self._sizes else ""
        own = ("columns", "group", "group_pattern", "min_class_images", "classes", "test_size", "on_bad_file")
        return {
            **super().preparation,
            **{option: getattr(self, option) for option in own},
            "data_dir": self.data_dir and str(self.data_dir),
            "labels": self.labels and str(self.labels),
            "fit": self.decoding.fit,
            "background": list(self.decoding.background),
            "max_pixels": self.decoding.max_pixels,
            "stored_size": self.decoding.side,
            "pictures": f"{len(self.pictures.pictures):,} pictures, names and labels {digest}{cut}",
        }

    @property
    def _names(self) -> bytes:
        """Path, class, split and group of each picture, for digests."""
        pictures = self.pictures.pictures
        names = "\n".join(f"{picture.path}\t{picture.label}\t{picture.split}\t{picture.group}" for picture in pictures)
        return names.encode(errors="surrogatepass")

    def pictures_fingerprint(self) -> str:
        """Digest of all pictures, with their names, groups and given splits, and the decoder with its versions."""
        return hashlib.blake2b(self._names + self.decoded.fingerprint.encode(), digest_size=8).hexdigest()

    def prepare_data(self) -> None:
        """Decode every picture that is not stored yet, and print what was understood, once.

        Raises:
            DataError: If files cannot be decoded, and are not to be skipped.
        """
        self.setup("fit")
        if not self._described:
            rank_zero_info("\n".join(self._lines()))
        self._described = True

    @cached_property
    def decoded(self) -> Decoded:
        """The decoded pictures, in the order of ``pictures``: bad ones too, whose pixels are zeros."""
        root, paths = self.pictures.root, [picture.path for picture in self.pictures.pictures]
        return once(("decoded", root, *paths, self.decoding), lambda: decoded(root, paths, self.decoding))

    @property
    def bad_files(self) -> dict[str, str]:
        """Path -> why the file cannot be used."""
        pictures = self.pictures.pictures
        return {pictures[row].path: reason for row, reason in self.decoded.bad.items()}

    def image_name(self, split: str, row: int) -> str:
        """A picture's path, relative to the folder or table."""
        return printable(self.pictures.pictures[row].path)

    def load(self, split: LoadedSplit) -> tuple[Tensor, Tensor]:
        """A copy of the images ``(N, H, W, 3)`` uint8 and labels ``(N,)`` int64 that are for testing, or are not."""
        self.setup("fit")
        names = ["test"] if split == "test" else ["train", "val"]
        rows = np.sort(np.concatenate([self._rows[name] for name in names]))
        return torch.from_numpy(self.decoded.images[rows]), torch.from_numpy(self._labels[rows])

    def _make_splits(self, loaded: LoadedSplit) -> dict[str, ResidentDataset]:
        """All three splits, which share the array of decoded pictures."""
        # Looked at before anything is decoded, which may take long.
        assert self._small_labels is not None
        if self.decoded.bad and self.on_bad_file == "error":
            reasons, pictures = self.bad_files, len(self.pictures.pictures)
            listed = "; ".join(f"{path} ({reason})" for path, reason in [*reasons.items()][:BAD_SHOWN])
            more = f"; and {len(reasons) - BAD_SHOWN:,} more" if len(reasons) > BAD_SHOWN else ""
            raise DataError(
                f"{len(reasons):,} of {pictures:,} pictures in {self.pictures.root} cannot be used: {listed}{more}. "
                "Repair or remove them, or leave them out with data.on_bad_file=skip.",
                ["data.on_bad_file"],
                reasons=reasons,
            )
        images, labels = as_tensors((self.decoded.images, self._labels), self.num_classes, str(self.pictures.root))
        # Kept beside the datasets, which may move to a GPU.
        self._rows = self._cut()
        return {name: ResidentDataset(images, labels, torch.from_numpy(self._rows[name])) for name in SPLITS}

    def _content(self, split: ResidentDataset) -> Iterator[bytes | memoryview]:
        """The digest of all decoded pictures, and which of them are the split's; no pixel is read again."""
        yield self.decoded.fingerprint.encode()
        yield split.subset.cpu().numpy().data

    @cached_property
    def _labels(self) -> Indices:
        label_of = {name: label for label, name in enumerate(self.class_names)}
        return np.array([label_of[picture.label] for picture in self.pictures.pictures], np.int64)

    @cached_property
    def _groups(self) -> Indices | None:
        """A number for each picture's group; None if there are no groups."""
        names = [picture.group for picture in self.pictures.pictures]
        return np.unique(names, return_inverse=True)[1] if any(names) else None

    @cached_property
    def _folds(self) -> Indices:
        """The fold in which each picture is tested."""
        assert self.fold is not None
        return fold_of(self._labels, self.class_names, self.fold[1], self.split_seed, self._groups)

    @cached_property
    def _given(self) -> dict[str, Indices]:
        """The pictures of each split that folder, table or fold decides; those that are still to be cut are train."""
        if self.fold is None:
            names = np.array([picture.split or "train" for picture in self.pictures.pictures])
        else:
            names = np.where(self._folds == self.fold[0], "test", "train")
        return {name: np.flatnonzero(names == name) for name in SPLITS}

    @property
    def _sizes(self) -> dict[str, float]:
        """The splits that are still open, and how large they are to be."""
        sizes = {"test": self.test_size, "val": self.val_size}
        return {name: size for name, size in sizes.items() if not len(self._given[name])}

    def _cut(self) -> dict[str, Indices]:
        """The usable pictures of each split. Which split a picture is in does not depend on bad files."""
        labels, groups, small, splits = self._labels, self._groups, self._small_labels, {**self._given}
        aside = np.isin(labels[splits["train"]], [*small])
        kept, rest = splits["train"][aside], splits["train"][~aside]
        if len(rest):
            splits |= cut(rest, labels, self.num_classes - len(small), self._sizes, self.split_seed, groups)
            splits["train"] = np.concatenate([splits["train"], kept])
        self._whole = splits
        splits = {name: rows[~np.isin(rows, [*self.decoded.bad])] for name, rows in splits.items()}
        parts = [splits[name] for name in ("train", *self._sizes)]
        enough = {*range(self.num_classes)}.intersection(*(labels[rows].tolist() for rows in parts))
        counts = enumerate(self._class_counts(np.concatenate(parts)).items())
        lacking = {name: count for label, (name, count) in counts if label not in {*enough, *small}}
        self._note_small(lacking, "usable image" if groups is None else "group")
        splits["train"] = self.train_part(splits["train"], labels)
        return {name: np.sort(rows) for name, rows in splits.items()}

    @cached_property
    def _small_labels(self) -> set[int]:
        """Numbers of the classes that are too small to be in every split."""
        counts = self._class_counts(self._given["train"])
        small = {name: count for name, count in counts.items() if count <= len(self._sizes)}
        self._note_small(small, "image" if self._groups is None else "group")
        return {self.class_names.index(name) for name in small}

    def _class_counts(self, rows: Indices) -> dict[str, int]:
        """The number of groups of each class in these pictures; without groups, of pictures."""
        groups = None if self._groups is None else self._groups[rows]
        return class_counts(self._labels[rows], self.class_names, groups)

    def _note_small(self, classes: Mapping[str, int], part: str) -> None:
        """Refuse classes that are not in every split, unless they are to be kept."""
        if classes:
            given = np.concatenate([self._given["val"], self._given["test"]])
            elsewhere = class_counts(self._labels[given], self.class_names)
            self._small |= classes
            splits = [name for name in SPLITS if name in ("train", *self._sizes)]
            self.small_classes = not_in_every_split(self._small, splits, part, elsewhere)
            if not self.keep_small_classes:
                raise self.small_classes

    def _counts(self) -> dict[str, Indices]:
        """The number of images of each class in each split."""
        return {name: np.bincount(self._labels[self._rows[name]], minlength=self.num_classes) for name in SPLITS}

    def _groups_of(self, split: str) -> Indices:
        assert self._groups is not None
        return np.unique(self._groups[self._rows[split]])

    def test_arrays(self) -> dict[str, NDArray[np.integer]]:
        """The arrays of `ImageDataModule`, and ``groups``, numbered in the order of their names."""
        arrays = super().test_arrays()
        if self._groups is not None:
            arrays["groups"] = self._groups[self.splits["test"].subset.cpu().numpy()]
        return arrays

    def describe(self) -> dict[str, Any]:
        """A summary of the pictures and their splits, as plain values."""
        self.setup("fit")
        counts, grouped, root = self._counts(), self._groups is not None, self.pictures.root
        return {
            "root": str(root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root),
            "layout": self.pictures.layout,
            "fold": self.fold and list(self.fold),
            "splits": {
                name: {
                    "images": int(counts[name].sum()),
                    "groups": len(self._groups_of(name)) if grouped else None,
                    "cut": name in self._sizes,
                    "classes": dict(zip(self.class_names, counts[name].tolist(), strict=True)),
                }
                for name in SPLITS
            },
            "skipped": self.pictures.skipped,
            "bad_files": self.bad_files,
            "notes": dict(Counter(self.decoded.notes.values())),
            "warnings": self.warnings,
        }

    def splits_csv(self) -> str:
        """The split of each picture as CSV, ``path,label,split,group``; without what is skipped or not trained with.

        With a fold, ``fold`` takes the place of ``split``: the number of the one in which the picture is tested.
        """
        self.setup("fit")
        split_of: dict[int, str | int] = {row: name for name in SPLITS for row in self._rows[name].tolist()}
        if self.fold is not None:
            folds = enumerate(self._folds.tolist())
            split_of = {row: number for row, number in folds if row not in self.decoded.bad}
        rows = (
            [printable(picture.path), picture.label, split_of[row], picture.group]
            for row, picture in enumerate(self.pictures.pictures)
            if row in split_of
        )
        return csv_text([["path", "label", "split" if self.fold is None else "fold", "group"], *rows])

    @property
    def warnings(self) -> list[str]:
        """Sentences for the user about splits and files."""
        counts, sentences = self._counts(), [*self.pictures.warnings]
        for split in ("val", "test"):
            images = zip(self.class_names, counts[split], strict=True)
            if missing := [name for name, count in images if not count and name not in self._small]:
                sentences.append(f"the {SPLITS[split]} images have none of {a_few(missing)}")
        if self._groups is not None and self.small_classes is None:
            groups = [set(self._groups_of(name).tolist()) for name in SPLITS]
            shared = groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
            if shared:
                sentences.append(f"{len(shared):,} groups are in more than one split, as the data has it")
            before = np.bincount(self._labels[self._given["train"]], minlength=self.num_classes)
            for split, size in self._sizes.items():
                after = np.bincount(self._labels[self._whole[split]], minlength=self.num_classes)
                share = size if isinstance(size, float) else float(size / before.sum())
                missed = np.abs(after - share * before)
                far = np.flatnonzero((missed > share * before / 2) & (missed > 1)).tolist()
                if far:
                    of_class = [f"{self.class_names[row]} {100 * after[row] / before[row]:.0f} %" for row in far]
                    sentences.append(
                        f"the {SPLITS[split]} images hold another share of some classes than the {100 * share:.0f} % "
                        f"that was asked for ({a_few(of_class)}): groups stay whole, and no arrangement of them that "
                        "was tried comes nearer"
                    )
                before = before - after
        if bad := self.bad_files:
            listed = a_few([f"{path} ({reason})" for path, reason in bad.items()])
            sentences.append(f"files that cannot be decoded and are skipped, {len(bad):,} in all: {listed}")
        return sentences

    def _lines(self) -> Iterator[str]:
        """Lines of the summary for a terminal."""
        yield from description_in_words(self.describe())
        counts = self._counts()
        yield "Images of each class, for training, validation and test:"
        for label, name in enumerate(self.class_names[:SHOWN]):
            numbers = [int(counts[split][label]) for split in SPLITS]
            shares = ", ".join(f"{100 * number / max(1, sum(numbers)):.0f}" for number in numbers)
            in_groups = "" if self._groups is None else f" ({shares} %)"
            yield f"  {quoted(name)}: {', '.join(f'{number:,}' for number in numbers)}{in_groups}"
        if self.num_classes > SHOWN:
            yield f"  and {self.num_classes - SHOWN:,} more classes"
        for warning in self.warnings:
            yield f"Warning: {warning}."
