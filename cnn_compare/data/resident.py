"""A dataset held in memory and fetched a batch at a time, in an order that the seed alone decides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

Batch = tuple[Tensor, Tensor, Tensor]

MAX_SHIFT = 4


class ResidentDataset(Dataset[Batch]):
    """Images and labels in memory; `DataLoader` asks it for whole batches.

    Args:
        images: ``(M, H, W, C)`` uint8: the channels-last order, so that a fetched batch needs no reordering.
        labels: ``(M,)`` int64.
        subset: ``(N,)`` int64, which of the images are this dataset; None: all. Splits of one array share its memory.
    """

    def __init__(self, images: Tensor, labels: Tensor, subset: Tensor | None = None) -> None:
        self.images, self.labels = images.contiguous(), labels
        self.subset = torch.arange(len(labels)) if subset is None else subset

    def __len__(self) -> int:
        return len(self.subset)

    def __getitems__(self, indices: list[int]) -> Batch:
        """Images ``(B, C, H, W)`` uint8 channels-last, labels ``(B,)``, and the indices ``(B,)`` themselves."""
        index = torch.tensor(indices).to(self.images.device, non_blocking=True)
        chosen = self.subset.index_select(0, index)
        flat = self.images.view(len(self.images), -1).index_select(0, chosen)
        images = flat.view(-1, *self.images.shape[1:]).permute(0, 3, 1, 2)
        return images, self.labels.index_select(0, chosen), index

    def move(self, device: torch.device) -> None:
        """Keep everything in the memory of ``device`` from now on."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        self.subset = self.subset.to(device)


class EpochSampler(Sampler[int]):
    """Every image once, in a fresh order each epoch.

    Order and augmentation draws depend on ``(seed, epoch)`` alone: not on the network, nor on what came before, so that
    every backbone sees the same batches and a resumed run goes on as if it had never stopped.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, stream))

    def order(self) -> np.ndarray:
        """This epoch's order of the images, ``(N,)`` int64."""
        return self._generator(0).permutation(self.size)

    def draws(self, image_size: int) -> Tensor:
        """This epoch's augmentation draws, ``(N, 5)`` int64, one row an image.

        Columns: crop row and column in ``0 .. 2 * MAX_SHIFT``, flip in ``0 .. 1``, cutout centre row and column in
        ``0 .. image_size - 1``.
        """
        limits = [2 * MAX_SHIFT + 1, 2 * MAX_SHIFT + 1, 2, image_size, image_size]
        return torch.from_numpy(self._generator(1).integers(0, limits, size=(self.size, len(limits))))

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def __len__(self) -> int:
        return self.size
