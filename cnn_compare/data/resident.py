"""A dataset held in memory and fetched a batch at a time, in an order that the seed alone decides.

Several devices share each batch: together they see what one would see.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

Batch = tuple[Tensor, Tensor, Tensor]

MAX_SHIFT = 4
# The label of an image that only fills up a shard: the `ignore_index` of torch's cross-entropy.
PADDING = -100


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
        """Images ``(B, C, H, W)`` uint8 channels-last, labels ``(B,)``, and the indices ``(B,)`` themselves.

        An index ``~i``, as `shard` makes them, is image ``i`` with the label `PADDING`.
        """
        index = torch.tensor(indices)
        padding = index < 0 if min(indices) < 0 else None
        if padding is not None:
            index = torch.where(padding, ~index, index)
            padding = padding.to(self.images.device)
        index = index.to(self.images.device, non_blocking=True)
        chosen = self.subset.index_select(0, index)
        flat = self.images.view(len(self.images), -1).index_select(0, chosen)
        images = flat.view(-1, *self.images.shape[1:]).permute(0, 3, 1, 2)
        labels = self.labels.index_select(0, chosen)
        return images, labels if padding is None else labels.masked_fill(padding, PADDING), index

    def move(self, device: torch.device) -> None:
        """Keep everything in the memory of ``device`` from now on."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        self.subset = self.subset.to(device)


def shard_size(batch_size: int, world_size: int) -> int:
    """Images that each device gets of a batch; where there are several, at least two, for batch norm's sake."""
    return batch_size if world_size == 1 else max(2, -(-batch_size // world_size))


def shard(order: np.ndarray, batch_size: int, rank: int, world_size: int) -> np.ndarray:
    """One device's part of an epoch: its stretch of every batch, batch after batch.

    Args:
        order: ``(N,)`` indices, which all devices together take ``batch_size`` at a time.
        batch_size: Of all devices together.
        rank: Number of the device.
        world_size: How many there are.

    Returns:
        Indices, of each batch as many as any other device gets. Where a batch cannot be shared out evenly, the last
        devices' parts are filled up with other images ``i`` of it, as ``~i``.
    """
    parts = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        size = shard_size(len(batch), world_size)
        filling = np.resize(~batch, size * world_size - len(batch))
        parts.append(np.concatenate([batch, filling])[rank * size : (rank + 1) * size])
    return np.concatenate(parts)


class EpochSampler(DistributedSampler[int]):
    """Every image once, in a fresh order each epoch; of several devices, each gets its shard of every batch.

    Order and augmentation draws depend on ``(seed, epoch)`` alone: not on the network, nor on what came before, so that
    every backbone sees the same batches and a resumed run goes on as if it had never stopped; nor on how many devices
    share the work.

    Args:
        size: Number of images.
        seed: Decides the order and the draws.
        batch_size: Of all devices together.
        rank: Number of this device.
        world_size: How many there are.
        shuffle: False leaves the images in the order of the data.
    """

    def __init__(
        self, size: int, seed: int, batch_size: int = 1, rank: int = 0, world_size: int = 1, shuffle: bool = True
    ) -> None:
        # Lightning puts a sampler of its own in the place of any that is no DistributedSampler.
        super().__init__(range(size), world_size, rank, shuffle, seed)  # type: ignore[arg-type]
        self.size, self.batch_size = size, batch_size

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, stream))

    def order(self) -> np.ndarray:
        """This epoch's order of the images, ``(N,)`` int64."""
        return self._generator(0).permutation(self.size) if self.shuffle else np.arange(self.size)

    def draws(self, image_size: int) -> Tensor:
        """This epoch's augmentation draws, ``(N, 5)`` int64, one row an image.

        Columns: crop row and column in ``0 .. 2 * MAX_SHIFT``, flip in ``0 .. 1``, cutout centre row and column in
        ``0 .. image_size - 1``.
        """
        limits = [2 * MAX_SHIFT + 1, 2 * MAX_SHIFT + 1, 2, image_size, image_size]
        return torch.from_numpy(self._generator(1).integers(0, limits, size=(self.size, len(limits))))

    def __iter__(self) -> Iterator[int]:
        order = self.order()
        if self.num_replicas > 1:
            order = shard(order, self.batch_size, self.rank, self.num_replicas)
        return iter(order.tolist())

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        last = shard_size(rest, self.num_replicas) if rest else 0
        return whole * shard_size(self.batch_size, self.num_replicas) + last
