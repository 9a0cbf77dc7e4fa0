"""Sizes of a data set's pictures, copies among them, and pictures under two labels, as plain values."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from cnn_compare.data.cache import mapped_arrays
from cnn_compare.data.folder import FolderDataModule
from cnn_compare.data.module import ImageDataModule
from cnn_compare.data.splits import Indices

# Test images first: if the search for copies ends early, those that matter most have been compared.
ORDER = ("test", "val", "train")
# Two images are taken for near copies if at most so many of their hashes' 64 bits differ, and their thumbnails
# correlate at least so much. Of 1,000 CIFAR-10 images changed and compared with themselves, these are found: JPEG of
# quality 50, 99 %; of quality 20, 90 %; at half the size and back, 95 %; brighter by a fifth, 99 %; moved by one of 32
# pixels, 53 %; cut by a tenth, 2 %. Between all of its 60,000 images 471 pairs are found, none under two labels. Nine
# of ten pairs that are alike by chance would have two: they are less than 1 % of those found (95 % confidence). Of
# 2,062 photographs of hands before white walls, one pair is found, of two people who show the same sign.
MOST_BITS, LEAST_CORRELATION = 8, 0.95
THUMBNAIL = 16
# Pairs whose thumbnails are compared, at most: where so many images are alike, more would tell nothing new.
MOST_COMPARED = 2_000_000
LISTED = 1000
_BLOCK, _CHUNK = 16, 50_000

Thumbnails = NDArray[np.uint8]


class NumberedImages:
    """All images of a data module, numbered through: those for testing, for validation, for training.

    Args:
        data: Its images are loaded.
    """

    def __init__(self, data: ImageDataModule) -> None:
        self.data, self.splits = data, [data.splits[name] for name in ORDER]
        subsets = [split.subset.cpu().numpy() for split in self.splits]
        self.split: Indices = np.repeat(np.arange(len(ORDER)), [len(subset) for subset in subsets])
        self.rows: Indices = np.concatenate(subsets)
        self.labels: Indices = np.concatenate(
            [split.labels.cpu().numpy()[subset] for split, subset in zip(self.splits, subsets, strict=True)]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """``(H, W, 3)``."""
        pixels: NDArray[np.uint8] = self.splits[self.split[number]].images[self.rows[number]].cpu().numpy()
        return pixels

    def blocks(self) -> Iterator[torch.Tensor]:
        """``(B, H, W, 3)``, all images in their order."""
        for split in self.splits:
            for subset in torch.split(split.subset, 1000):
                yield split.images[subset].cpu()

    def named(self, number: int) -> dict[str, Any]:
        """Facts of an image: ``number``, ``name``, ``label``, ``split``."""
        split, label = ORDER[self.split[number]], self.data.class_names[self.labels[number]]
        name = self.data.image_name(split, int(self.rows[number]))
        return {"number": number, "name": name, "label": label, "split": split}


def describe(images: NumberedImages) -> dict[str, Any]:
    """Splits and classes, and what a folder of pictures tells besides."""
    data, names = images.data, images.data.class_names
    if described := data.describe():
        return described
    splits = {}
    for name in reversed(ORDER):
        counts = np.bincount(images.labels[images.split == ORDER.index(name)], minlength=len(names)).tolist()
        classes = dict(zip(names, counts, strict=True))
        splits[name] = {"images": sum(counts), "groups": None, "cut": name == "val", "classes": classes}
    return {
        "root": type(data).__name__,
        "layout": "images as it loads them",
        "splits": splits,
        "skipped": {},
        "bad_files": {},
        "notes": {},
        "warnings": [],
    }


def sizes(images: NumberedImages) -> dict[str, Any]:
    """Widths, heights and shapes of the pictures as they were before they became square, and what that took."""
    data = images.data
    if isinstance(data, FolderDataModule):
        found = data.decoded.sizes[images.rows].astype(np.int64)
        fit, side = str(data.decoding.fit), data.decoding.side
    else:
        shapes = [split.images.shape for split in images.splits]
        found = np.array([(shape[2], shape[1]) for shape in shapes])[images.split]
        fit, side = "none", data.image_size
    width, height = found.T
    shorter, longer = found.min(1), found.max(1)
    # A share of the picture with crop, of the square with pad; squash stretches by longer / shorter.
    lost = 1 - shorter / longer
    return {
        "width": _range(width),
        "height": _range(height),
        "aspect": _range(width / height),
        "most_frequent": [
            {"width": size[0], "height": size[1], "images": count}
            for size, count in Counter(map(tuple, found.tolist())).most_common(5)
        ],
        "by_shorter_side": _histogram(shorter, [0, 32, 64, 128, 256, 512, 1024, 2048], "px"),
        "by_aspect": _histogram(width / height, [0, 1 / 2, 2 / 3, 0.9, 1.1, 3 / 2, 2], ""),
        "fit": {
            "how": fit,
            "side": side,
            "changed": int((shorter < longer).sum()),
            "lost": _range(lost),
            "lost_over_a_third": int((lost > 1 / 3).sum()),
            "most_lost": images.named(int(lost.argmax()))["name"] if lost.any() else None,
            "enlarged": int((shorter < side).sum()),
        },
    }


def _range(values: NDArray[Any]) -> dict[str, float]:
    return {"min": values.min().item(), "median": float(np.median(values)), "max": values.max().item()}


def _histogram(values: NDArray[Any], starts: list[float], unit: str) -> list[dict[str, Any]]:
    """Images of each range that has any: from its start, without its end."""
    counts = np.histogram(values, [*starts, np.inf])[0].tolist()
    ends = [*starts[1:], None]
    ranges = zip(starts, ends, counts, strict=True)
    return [{"from": start, "below": end, "unit": unit, "images": count} for start, end, count in ranges if count]


def copies(images: NumberedImages) -> dict[str, Any]:
    """Find images that are there more than once, exactly or nearly.

    Exact copies are equal in every pixel of what is stored for the network. Near copies are those of the same view:
    compressed again, resized, a little brighter. Mirrored, turned or cut ones are not found, and what is alike by
    nature, as handwritten digits are, can be taken for a copy.

    Returns:
        ``shared``: for each two splits, and each with itself, how many images of ``split`` have a copy in ``other``:
        ``exact`` ones, and ``near`` ones alone. ``pairs``: ``first`` and ``second`` image and whether the pair is
        ``exact``; those under two labels come first, then those in two splits, ``LISTED`` at most. ``found``: number of
        pairs, listed or not; of images that are all equal, each is paired with the first alone. ``two_labels``: how
        many pairs have two labels. ``complete``: whether all images were compared; if not, there are more copies.
    """
    found = _find(images)
    again = np.flatnonzero(found.firsts[found.unique_of] != np.arange(len(images)))
    pairs = np.concatenate(
        [np.stack([found.firsts[found.unique_of[again]], again], 1), np.sort(found.firsts[found.near], axis=1)]
    )
    two_labels = np.not_equal(*images.labels[pairs].T)
    two_splits = np.not_equal(*images.split[pairs].T)
    # A stable sort: exact ones stay before near ones.
    order = np.lexsort((images.split[pairs[:, 0]], ~two_splits, ~two_labels))[:LISTED].tolist()
    listed = [[*map(images.named, pairs[number].tolist()), number < len(again)] for number in order]
    shared = []
    for (first, split), (second, other) in combinations_with_replacement(enumerate(ORDER), 2):
        members = found.unique_of[images.split == first]
        equal, nearly = (int(each[members].sum()) for each in _copied_in(second, images.split, found, first == second))
        shared.append({"split": split, "other": other, "exact": equal, "near": nearly})
    return {
        "shared": shared,
        "pairs": [dict(zip(("first", "second", "exact"), pair, strict=True)) for pair in listed],
        "found": len(pairs),
        "two_labels": int(two_labels.sum()),
        "complete": found.complete,
    }


def leaked_images(images: NumberedImages) -> tuple[list[int], list[int], bool]:
    """Test images that have a copy among the training images.

    Returns:
        Places in the test set: of those with an exact copy, and of those with near ones alone; and whether all pairs
        were compared.
    """
    found = _find(images)
    test, train = (ORDER.index(name) for name in ("test", "train"))
    equal, nearly = _copied_in(train, images.split, found)
    of_test = found.unique_of[images.split == test]
    # The test images are numbered first, so that a number is a place in the test set.
    return np.flatnonzero(equal[of_test]).tolist(), np.flatnonzero(nearly[of_test]).tolist(), found.complete


@dataclass(frozen=True)
class _Copies:
    """The copies among images.

    Args:
        unique_of: ``(N,)``, a number for each image that equal images share.
        near: ``(P, 2)``, pairs of these numbers.
        complete: Whether all images were compared.
    """

    unique_of: Indices
    near: Indices
    complete: bool

    @property
    def firsts(self) -> Indices:
        """The first of the images that are equal, which stands for all."""
        firsts: Indices = np.unique(self.unique_of, return_index=True)[1]
        return firsts


def _find(images: NumberedImages) -> _Copies:
    """All copies; searched for once, and kept in the cache."""
    rules = f"{THUMBNAIL}-{MOST_BITS}-{LEAST_CORRELATION}-{MOST_COMPARED}"
    key = f"copies_{images.data.images_fingerprint()}/{rules}"
    with np.load(mapped_arrays(key, lambda folder: _search(images, folder)) / "copies.npz") as stored:
        return _Copies(stored["unique_of"], stored["near"], bool(stored["complete"]))


def _search(images: NumberedImages, folder: Path) -> None:
    thumbnails, unique_of = _thumbnails(images)
    near, complete = near_pairs(thumbnails[_Copies(unique_of, np.empty((0, 2), np.int64), True).firsts])
    np.savez(folder / "copies.npz", unique_of=unique_of, near=near, complete=complete)


def _copied_in(
    other: int, split: Indices, found: _Copies, itself: bool = False
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a split has an equal image, and whether it has near copies alone, by number in ``unique_of``.

    Args:
        other: The split's number.
        split: Number of every image's split.
        found: All copies.
        itself: Whether this is asked for an image of the same split, which is no copy of itself.
    """
    count = np.bincount(found.unique_of[split == other], minlength=found.unique_of.max() + 1)
    equal, alike = count > itself, np.zeros(len(count), bool)
    for one, copy in (found.near.T, found.near.T[::-1]):
        alike[one[count[copy] > 0]] = True
    return equal, alike & ~equal


def _thumbnails(images: NumberedImages) -> tuple[Thumbnails, Indices]:
    """``(N, THUMBNAIL, THUMBNAIL, 3)``, and a number for each image that equal images share."""
    thumbnails = np.empty((len(images), THUMBNAIL, THUMBNAIL, 3), np.uint8)
    digests: list[bytes] = []
    for block in images.blocks():
        small = adaptive_avg_pool2d(block.permute(0, 3, 1, 2).float(), THUMBNAIL).round().to(torch.uint8)
        thumbnails[len(digests) : len(digests) + len(block)] = small.permute(0, 2, 3, 1).numpy()
        digests += [hashlib.blake2b(image.data, digest_size=16).digest() for image in block.numpy()]
    return thumbnails, np.unique(np.array(digests, "S16"), return_inverse=True)[1]


def hashes(thumbnails: Thumbnails) -> NDArray[np.uint64]:
    """``(N,)``: 64 bits that hardly change when a picture is compressed, resized or made brighter.

    The grey thumbnail's lowest 8x8 frequencies: a bit for each that tells whether it is above their median.

    Source:
        Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.1.
    """
    places = np.arange(THUMBNAIL) + 0.5
    cosines = np.cos(np.pi / THUMBNAIL * np.outer(np.arange(8), places)).astype(np.float32)
    grey = thumbnails @ np.array([0.299, 0.587, 0.114], np.float32)
    # Without the mean, so that only ever the same bit is lost to brightness.
    grey -= grey.mean((1, 2), keepdims=True)
    frequencies = (cosines @ grey @ cosines.T).reshape(-1, 64)
    bits = frequencies > np.median(frequencies, 1, keepdims=True)
    packed: NDArray[np.uint64] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return packed


def near_pairs(thumbnails: Thumbnails) -> tuple[Indices, bool]:
    """Pairs of near copies, as numbers ``(P, 2)``, the smaller one first; and whether all pairs were compared.

    All hashes are compared with all others, a block at a time, which takes seconds for 60,000 images.
    """
    hashed = hashes(thumbnails)
    found, compared = [np.empty((0, 2), np.int64)], 0
    # Used again for each block: making new ones takes four times as long as the comparison.
    differing, bits = np.empty((_BLOCK, len(hashed)), np.uint64), np.empty((_BLOCK, len(hashed)), np.uint8)
    for start in range(0, len(hashed), _BLOCK):
        block, rest = hashed[start : start + _BLOCK, None], hashed[None, start:]
        place = slice(len(block)), slice(rest.shape[1])
        np.bitwise_xor(block, rest, out=differing[place])
        # Not argwhere, which takes three times as long.
        flat = np.flatnonzero(np.bitwise_count(differing[place], out=bits[place]) <= MOST_BITS)
        close = np.stack(np.divmod(flat, rest.shape[1]), 1)
        close = close[close[:, 0] < close[:, 1]] + start
        for part in np.split(close, range(_CHUNK, len(close), _CHUNK)):
            found.append(part[_correlation(*thumbnails[part.T]) >= LEAST_CORRELATION])
        compared += len(close)
        if compared > MOST_COMPARED:
            return np.concatenate(found), False
    return np.concatenate(found), True


def _correlation(first: Thumbnails, second: Thumbnails) -> NDArray[np.float32]:
    """``(P,)``, of all values of two thumbnails; 0 where one is of a single colour."""
    centred = []
    for thumbnails in (first, second):
        values = thumbnails.reshape(len(thumbnails), THUMBNAIL**2, 3).astype(np.float32)
        # Each channel by itself: else two pictures of one colour would be alike.
        values -= values.mean(1, keepdims=True)
        centred.append(values / np.maximum(np.linalg.norm(values, axis=(1, 2), keepdims=True), 1e-6))
    correlation: NDArray[np.float32] = np.einsum("ijk,ijk->i", *centred)
    return correlation
