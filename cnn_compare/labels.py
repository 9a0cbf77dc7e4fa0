"""The labels of a batch, in the forms that loaders give them."""

from __future__ import annotations

from torch import Tensor

from cnn_compare.errors import DataError

PADDING = -100
"""The label of an image that counts nowhere: the default ``ignore_index`` of torch's cross-entropy."""
ROUNDING = 0.02
"""By how much probabilities in half precision may fail to add up to 1."""


def class_targets(labels: Tensor, count: int, num_classes: int) -> Tensor:
    """Labels as torch's cross-entropy takes them.

    Args:
        labels: The class of each image, ``(B,)`` or ``(B, 1)`` of any integer type or bool, `PADDING` for none; or the
            probability of each class, ``(B, num_classes)`` of any type: soft labels, or one-hot ones.
        count: Number of images, B.
        num_classes: Number of classes.

    Returns:
        Classes ``(B,)`` int64, or probabilities ``(B, num_classes)`` of a floating type.

    Raises:
        DataError: If they are something else; classes that do not exist are found on the processor only.
    """
    found = f"labels that are a {type(labels).__name__}"
    if isinstance(labels, Tensor):
        found = f"labels of shape {tuple(labels.shape)} and type {labels.dtype}"
        if labels.shape in ((count,), (count, 1)) and not (labels.is_floating_point() or labels.is_complex()):
            classes = labels.flatten().long()
            # On a GPU, every step would wait for the answer.
            if labels.device.type != "cpu":
                return classes
            wrong = classes[(classes != PADDING) & ((classes < 0) | (classes >= num_classes))]
            if not len(wrong):
                return classes
            found = f"the label {int(wrong[0])}"
        elif labels.shape == (count, num_classes) and not labels.is_complex():
            shares = labels if labels.is_floating_point() else labels.float()
            if (shares >= 0).all() and ((shares.sum(1) - 1).abs() < ROUNDING).all():
                return shares
            found += ", whose rows do not add up to 1"
    expected = (
        f"the class of each of the {count} images, a whole number from 0 to {num_classes - 1}, or a row of "
        f"{num_classes} probabilities for each"
    )
    raise DataError(f"the data loader returned {found}. Expected: {expected}.")


def true_classes(targets: Tensor) -> Tensor:
    """The class ``(B,)`` of each image, of soft labels the most probable one."""
    return targets if targets.ndim == 1 else targets.argmax(1)
