"""Cutting images into splits: stratified by class, and where images belong together, by group."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from cnn_compare.errors import DataError, InvalidValueError
from cnn_compare.formatting import format_list

Indices = NDArray[np.int64]

# Classes that a message names.
SHOWN = 50
# Makes a split that lacks a class worse than any that has all of them.
_FORBIDDEN = 1e9
# Limits of `take_groups`: arrangements that are begun; pairs of group and class that are looked at, which takes about
# half a second; and the smallest improvement, so that the rounding of sums decides nothing.
STARTS, MOST_TRIED, LEAST_GAIN = 10, 2_000_000, 1e-6


def require_size(field: str, size: float) -> None:
    """Check the size of a split.

    Raises:
        InvalidValueError: If it is neither a number of images from 1 nor a share between 0 and 1.
    """
    if not (0 < size < 1 if isinstance(size, float) else size >= 1):
        raise InvalidValueError(field, size, "a number of images, at least 1, or a share such as 0.2")


def count_of(size: float, available: int, num_classes: int, field: str, keep: int = 0) -> int:
    """The number of images that a split takes.

    Args:
        size: A number of images, or as a float below 1 their share, which is at least an image of each class.
        available: Number of images there are.
        num_classes: Number of classes.
        field: The setting that ``size`` comes from, for the message.
        keep: How many images of each class must be left.

    Raises:
        InvalidValueError: If there are not so many images, or fewer than classes.
    """
    most = available - keep * num_classes
    count = min(most, max(num_classes, round(size * available))) if isinstance(size, float) else size
    if not num_classes <= count <= most:
        expected = f"from {num_classes} (one image a class) to {most} for this data"
        raise InvalidValueError(field, size, expected)
    return count


def stratified_order(labels: NDArray[np.integer], seed: int) -> Indices:
    """A random order in which every leading part holds each class in its share.

    Splits and subsets cut from it are stratified, and a smaller subset is part of every larger one.

    Args:
        labels: ``(N,)`` integers.
        seed: Seed of the order.

    Returns:
        ``(N,)`` indices.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    nth, counts = _nth_of_class(labels[order])
    return order[np.argsort((nth + 0.5) / counts, kind="stable")]


def take(order: Indices, labels: NDArray[np.integer], size: int, keep: int = 0) -> tuple[Indices, Indices]:
    """Cut a stratified order in two, so that rare classes are on both sides.

    Args:
        order: Indices of images, as `stratified_order` gives them.
        labels: Labels of all images that the indices stand for.
        size: How many to take: at least the number of classes.
        keep: How many of each class to leave.

    Returns:
        The first ``size`` indices of the order and the others, except that the first image of each class is taken and
        its last ``keep`` are not; both in that order.
    """
    nth, counts = _nth_of_class(labels[order])
    place = np.where(nth == 0, 0, np.where(nth >= counts - keep, 2, 1))
    taken = np.zeros(len(order), bool)
    taken[np.argsort(place, kind="stable")[:size]] = True
    return order[taken], order[~taken]


def _nth_of_class(labels: NDArray[np.integer]) -> tuple[Indices, Indices]:
    """The number of equal labels before each label, and of all equal ones."""
    nth, counts = np.empty(len(labels), np.int64), np.empty(len(labels), np.int64)
    by_class = np.argsort(labels, kind="stable")
    for members in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        nth[members], counts[members] = np.arange(len(members)), len(members)
    return nth, counts


def take_groups(
    rows: Indices, labels: NDArray[np.integer], groups: NDArray[np.integer], size: int, keep: int, seed: int
) -> tuple[Indices, Indices]:
    """Cut images in two so that no group is on both sides, and each class is taken in about the same share.

    From random arrangements, groups change sides as long as the shares of the classes become better: the one that helps
    most; then each one in turn, with those that are the best answer to it. The best arrangement is kept. Where there
    are small groups, ``size`` is met to about half of one; with large groups alone, and for a class that only few
    groups have, it can be missed by half of a large one.

    Args:
        rows: Indices of the images to cut.
        labels: Labels of all images that the indices stand for.
        groups: Groups of all images.
        size: How many images to take, about.
        keep: Number of groups in which each class must be left.
        seed: Seed of the arrangements.

    Returns:
        The images that are taken and the others, each in the order of ``rows``; the same on every machine.
    """
    label_of, group_of = (np.unique(each[rows], return_inverse=True)[1] for each in (labels, groups))
    (pair_group, pair_label), counts = np.unique(np.stack([group_of, label_of]), axis=1, return_counts=True)
    wanted, groups_of = np.bincount(label_of) * (size / len(rows)), np.bincount(pair_label)
    tries = MOST_TRIED // (len(counts) + 400)  # The 400 are NumPy's calls.

    def costs(label: Indices, images_taken: NDArray[Any], groups_taken: NDArray[Any]) -> NDArray[np.float64]:
        lacking = (groups_taken < 1) + np.maximum(0, keep - (groups_of[label] - groups_taken))
        # A share of the number wanted, so that rare classes weigh as much as frequent ones.
        found: NDArray[np.float64] = np.square(images_taken / wanted[label] - 1) + _FORBIDDEN * lacking
        return found

    def taken_of(taken: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
        chosen = taken[pair_group]
        return np.bincount(pair_label, counts * chosen), np.bincount(pair_label, chosen)

    def cost(taken: NDArray[np.bool_]) -> float:
        # NumPy's own sum rounds in an order that depends on the processor.
        return float(sum(costs(np.arange(len(wanted)), *taken_of(taken)).tolist()))

    def improve(taken: NDArray[np.bool_], held: int | None = None) -> float:
        """Change the side of the group that helps most, as long as one does, and return the cost."""
        nonlocal tries
        while True:
            tries -= 1
            images_taken, groups_taken = (each[pair_label] for each in taken_of(taken))
            sign = np.where(taken, -1, 1)[pair_group]
            after = costs(pair_label, images_taken + sign * counts, groups_taken + sign)
            changes = np.bincount(pair_group, after - costs(pair_label, images_taken, groups_taken))
            if held is not None:
                changes[held] = 0
            best = changes.argmin()
            # After so many tries, for a class that a side lacks alone.
            if changes[best] > -(LEAST_GAIN if tries > 0 else 1):
                return cost(taken)
            taken[best] = not taken[best]

    generator, sizes = np.random.default_rng(seed), np.bincount(group_of)
    # The class that each group has most of: it is the last one of its pairs by their numbers.
    main_class = pair_label[np.lexsort((counts, pair_group))][np.bincount(pair_group).cumsum() - 1]
    arrangements: list[tuple[float, NDArray[np.bool_]]] = []
    while not arrangements or (len(arrangements) < STARTS and tries > 0):
        order = stratified_order(main_class, int(generator.integers(2**32)))
        taken = np.zeros(len(sizes), bool)
        taken[order[np.cumsum(sizes[order]) <= size]] = True
        found, since = improve(taken), 0
        for group in itertools.cycle(order.tolist()):
            if since == len(order) or tries <= 0:
                break
            other = taken.copy()
            other[group] = not other[group]
            cheaper, since = improve(other, group), since + 1
            if cheaper < found - LEAST_GAIN:
                taken, found, since = other, cheaper, 0
        arrangements.append((found, taken))
    chosen = min(arrangements, key=lambda each: each[0])[1][group_of]
    return rows[chosen], rows[~chosen]


def cut(
    rows: Indices,
    labels: NDArray[np.integer],
    num_classes: int,
    sizes: Mapping[str, float],
    seed: int,
    groups: NDArray[np.integer] | None = None,
) -> dict[str, Indices]:
    """Cut splits from images, one after the other, each with the same share of every class and no group in two.

    Args:
        rows: Indices of the images to cut.
        labels: Labels of all images that the indices stand for.
        num_classes: Number of classes among those to cut.
        sizes: Split -> how many images it takes, as for `count_of`.
        seed: Decides which.
        groups: Groups of all images; None: each image can be in any split.

    Returns:
        The images of each split; those that are left are ``train``. None of them is sorted.

    Raises:
        InvalidValueError: If there are not so many images.
    """
    rest, splits = rows[stratified_order(labels[rows], seed)], dict[str, Indices]()
    for number, (name, size) in enumerate(sizes.items()):
        # An image of each class for training, and for every split that is cut later.
        keep = len(sizes) - number
        count = count_of(size, len(rest), num_classes, f"data.{name}_size", keep)
        if groups is None:
            splits[name], rest = take(rest, labels, count, keep)
        else:
            splits[name], rest = take_groups(rest, labels, groups, count, keep, seed)
    return {**splits, "train": rest}


def fold_of(
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    folds: int,
    seed: int,
    groups: NDArray[np.integer] | None = None,
) -> Indices:
    """The fold in which each image is tested: with the same share of every class, and no group in two folds.

    Args:
        labels: Labels of all images.
        class_names: Names of the classes.
        folds: How many.
        seed: Decides which images are together.
        groups: Groups of the images; None: each can be in any fold.

    Returns:
        ``(N,)`` numbers from 0 to ``folds - 1``.

    Raises:
        DataError: If classes have fewer images, or groups, than there are folds.
    """
    require_room(labels, class_names, folds, groups)
    splitter = (StratifiedKFold if groups is None else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    numbers = np.empty(len(labels), np.int64)
    for number, (_, tested) in enumerate(splitter.split(labels, labels, groups)):
        numbers[tested] = number
    return numbers


def require_room(
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    splits: Sequence[str] | int,
    groups: NDArray[np.integer] | None = None,
) -> None:
    """Check that images can be cut so that each class is in every split or fold.

    Args:
        labels: Labels of the images that are to be cut.
        class_names: Names of the classes.
        splits: Names of the splits, or number of folds.
        groups: Groups of these images; None: each can be in any split.

    Raises:
        DataError: If classes have fewer images, or groups, than there are splits or folds.
    """
    least = splits if isinstance(splits, int) else len(splits)
    counts = class_counts(labels, class_names, groups)
    if small := {name: count for name, count in counts.items() if count < least}:
        raise not_in_every_split(small, splits, "image" if groups is None else "group")


def not_in_every_split(
    parts: Mapping[str, int], splits: Sequence[str] | int, part: str, elsewhere: Mapping[str, int] | None = None
) -> DataError:
    """The error for classes that are too small to be in every split, or, where ``splits`` is their number, every fold.

    Args:
        parts: Class -> how many images or groups it has: all classes that are too small.
        splits: Names of the splits, or number of folds.
        part: The word for what is counted, such as ``image``.
        elsewhere: Class -> images of it in splits that the data has.
    """
    folds, elsewhere = isinstance(splits, int), elsewhere or {}
    counts = {
        name: f"{count} {part}{'' if count == 1 else 's'}"
        + (f", and {elsewhere[name]} in other splits" if elsewhere.get(name) else "")
        for name, count in parts.items()
    }
    where = f"{splits} folds" if isinstance(splits, int) else format_list(splits)
    least, needed = min(parts.values()), splits if isinstance(splits, int) else len(splits)
    where = f"each of {where}" if needed > 1 else where
    if len(parts) == 1:
        ((name, count),) = counts.items()
        what, listed, them = f"class {name!r}", f"it has {count}", "it"
    else:
        named = [f"{name!r} has {count}" for name, count in counts.items()]
        more = f", and {len(parts) - SHOWN:,} more" if len(parts) > SHOWN else ""
        what, listed, them = f"{len(parts):,} classes", f"{', '.join(named[:SHOWN])}{more}", "them"
    add = f"Use at most {least} folds, add" if folds and least > 1 else "Add"
    # A class of enough images can have too few groups, or usable images.
    out = f" with data.min_class_images={needed}" if part == "image" else ": data.classes names those that stay"
    other = " With other groups or another data.split_seed it may be possible." if part == "group" and not folds else ""
    return DataError(
        f"{what} cannot be in {where}: {listed}. {add} images of {them}, or leave {them} out{out}.{other}",
        ("data.group", "data.split_seed", "data.min_class_images", "data.classes"),
        parts=dict(parts),
    )


def class_counts(
    labels: NDArray[np.integer], class_names: Sequence[str], groups: NDArray[np.integer] | None = None
) -> dict[str, int]:
    """The number of images of each class, or of the groups of its images."""
    if groups is not None:
        labels = np.unique(np.stack([labels, groups]), axis=1)[0]
    return dict(zip(class_names, np.bincount(labels, minlength=len(class_names)).tolist(), strict=True))
