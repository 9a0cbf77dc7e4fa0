"""Cutting images into splits: stratified by class, and where images belong together, by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnn_compare.errors import ClassTooSmallError, InvalidValueError

Indices = NDArray[np.int64]

# Makes a split that lacks a class worse than any that has all of them.
_FORBIDDEN = 1e12


def require_size(field: str, size: float) -> None:
    """Check the size of a split.

    Raises:
        InvalidValueError: If it is neither a number of images from 1 nor a share between 0 and 1.
    """
    if not (0 < size < 1 if isinstance(size, float) else size >= 1):
        raise InvalidValueError(field, size, "a number of images, at least 1, or a share such as 0.2")


def count_of(size: float, images: int, num_classes: int, field: str, keep: int = 0) -> int:
    """How many images a split takes.

    Args:
        size: A number of images, or as a float below 1 their share, which is at least an image of each class.
        images: Of all of them.
        num_classes: Number of classes.
        field: The setting that ``size`` comes from, for the message.
        keep: How many images of each class must be left.

    Raises:
        InvalidValueError: If there are not so many images, or fewer than classes.
    """
    most = images - keep * num_classes
    count = min(most, max(num_classes, round(size * images))) if isinstance(size, float) else size
    if not num_classes <= count <= most:
        expected = f"from {num_classes} (one image a class) to {most} for this data"
        raise InvalidValueError(field, size, expected)
    return count


def stratified_order(labels: NDArray[np.integer], seed: int) -> Indices:
    """A random order in which every leading part holds each class in its share.

    Splits and subsets cut from it are stratified, and a smaller subset is part of every larger one.

    Args:
        labels: ``(N,)`` integers.
        seed: Of the order.

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
        labels: Of all images that the indices stand for.
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
    """For each label, how many equal ones come before it, and how many there are."""
    nth, counts = np.empty(len(labels), np.int64), np.empty(len(labels), np.int64)
    by_class = np.argsort(labels, kind="stable")
    for members in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        nth[members], counts[members] = np.arange(len(members)), len(members)
    return nth, counts


def take_groups(
    images: Indices, labels: NDArray[np.integer], groups: NDArray[np.integer], size: int, keep: int, seed: int
) -> tuple[Indices, Indices]:
    """Cut images in two so that no group is on both sides.

    Groups are added and removed one at a time, in a random order, as long as the classes' numbers come nearer to their
    share. So ``size`` is met as nearly as no single group more or less could change for the better: to about half of
    a small group. A class that only few large groups have can be further from its share.

    Args:
        images: Indices of the images to cut.
        labels: Of all images that the indices stand for.
        groups: Likewise.
        size: How many images to take, about.
        keep: In how many groups each class must be left.
        seed: Of the order in which groups are tried.

    Returns:
        The images that are taken and the others, each in the order of ``images``.
    """
    members = _split_by(groups[images])
    content = [np.unique(labels[images[group]], return_counts=True) for group in members]
    wanted = np.bincount(labels[images]) * (size / len(images))
    groups_left = np.bincount(np.concatenate([classes for classes, _ in content]), minlength=len(wanted))
    taken_images, taken_groups = np.zeros(len(wanted)), np.zeros(len(wanted))

    def cost(classes: Indices, images: NDArray[np.float64], taken: NDArray[np.float64]) -> float:
        lacking = (taken < 1) + np.maximum(0, keep - (groups_left[classes] - taken))
        # Divided by the number, so that rare classes weigh as much as frequent ones.
        return float(((images - wanted[classes]) ** 2 / wanted[classes] + _FORBIDDEN * lacking).sum())

    order, is_taken, changed = np.random.default_rng(seed).permutation(len(members)), np.zeros(len(members), bool), True
    while changed:
        changed = False
        for group in order:
            classes, counts = content[group]
            sign = -1 if is_taken[group] else 1
            now = taken_images[classes], taken_groups[classes]
            then = now[0] + sign * counts, now[1] + sign
            # By more than rounding, so that this ends.
            if cost(classes, *then) < cost(classes, *now) - 1e-9:
                taken_images[classes], taken_groups[classes] = then
                is_taken[group], changed = not is_taken[group], True
    chosen = np.zeros(len(images), bool)
    for group in np.flatnonzero(is_taken):
        chosen[members[group]] = True
    return images[chosen], images[~chosen]


def _split_by(values: NDArray[np.integer]) -> list[Indices]:
    """The places of each value, in the order of the values."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1)


def require_room(
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    splits: Sequence[str],
    groups: NDArray[np.integer] | None = None,
) -> None:
    """Check that images can be cut so that each class is in every split.

    Args:
        labels: Of the images that are to be cut.
        class_names: Names of the classes.
        splits: Names of the splits.
        groups: Of these images; None: each can be in any split.

    Raises:
        ClassTooSmallError: If a class has fewer images, or groups, than there are splits.
    """
    for label, name in enumerate(class_names):
        members = labels == label
        parts = int(members.sum()) if groups is None else len(np.unique(groups[members]))
        if parts < len(splits):
            raise ClassTooSmallError(name, splits, parts, "image" if groups is None else "group")
