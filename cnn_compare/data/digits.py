"""Handwritten digits that scikit-learn includes: data that needs no download."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cnn_compare.data.augment import resize
from cnn_compare.data.module import ImageDataModule, LoadedSplit
from cnn_compare.data.splits import stratified_order

TEST_SIZE = 360


class DigitsDataModule(ImageDataModule):
    """1,797 handwritten digits of 8x8 grey pixels, upscaled to 32x32x3; a fixed 360 of them are the test set.

    Source:
        Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI; the part in scikit-learn.
    """

    class_names = tuple("0123456789")
    usual_val_size = 200

    def load(self, split: LoadedSplit) -> tuple[Tensor, Tensor]:
        """1,437 (``train``) or 360 (``test``) images ``(N, 32, 32, 3)`` uint8 and labels ``(N,)`` int64."""
        from sklearn.datasets import load_digits  # Imported late: it takes a second, and other data does without.

        digits = load_digits()
        order = stratified_order(digits.target, seed=0)
        chosen = np.sort(order[:TEST_SIZE] if split == "test" else order[TEST_SIZE:])
        grey = torch.from_numpy(digits.images[chosen] * (255 / 16)).float()[:, None]
        pixels = resize(grey, 32).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).repeat(1, 1, 1, 3), torch.from_numpy(digits.target[chosen])
