"""A dataset in memory, fetched a batch at a time in an order that depends on the seed alone.

Several devices share each batch: together they see the images that one device would see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from cnn_compare.data.augment import Step, draw
from cnn_compare.labels import PADDING

Batch = tuple[Tensor, Tensor, Tensor]


class ResidentDataset(Dataset[Batch]):
    """Images and labels in memory; `DataLoader` asks it for whole batches.

    Args:
        images: ``(M, H, W, C)`` uint8: channels last, so that a fetched batch needs no reordering.
        labels: ``(M,)`` int64.
        subset: ``(N,)`` int64, the images that belong to this dataset; None: all. Splits share one array.
    """

    def __init__(self, images: Tensor, labels: Tensor, subset: Tensor | None = None) -> None:
        self.images, self.labels = images.contiguous(), labels
        self.subset = torch.arange(len(labels)) if subset is None else subset

    def __len__(self) -> int:
        return len(self.subset)

    def __getitems__(self, indices: list[Any]) -> Batch:
        """Images ``(B, C, H, W)`` uint8 channels-last, labels ``(B,)``, and the indices ``(B,)``.

        An index ``~i``, as `shard` makes them, stands for image ``i`` with the label `PADDING`. The last index may be a
        pair, as `EpochSampler` makes them.
        """
        index = torch.tensor([*indices[:-1], *indices[-1]] if isinstance(indices[-1], tuple) else indices)
        padding = index < 0 if bool(index.min() < 0) else None
        if padding is not None:
            index = torch.where(padding, ~index, index)
            padding = padding.to(self.images.device)
        index = index.to(self.images.device, non_blocking=True)
        chosen = self.subset.index_select(0, index)
        flat = self.images.view(len(self.images), -1).index_select(0, chosen)
        images = flat.view(-1, *self.images.shape[1:]).permute(0, 3, 1, 2)
        labels = self.labels.index_select(0, chosen)
        return images, labels if padding is None else labels.masked_fill(padding, PADDING), index


class FetchingAhead(DataLoader[Batch]):
    """A `DataLoader` that fetches, and pins, the next batch in a thread, while the accelerator works on this one.

    For images that are too large for the accelerator's memory. Batches and their order are those of a `DataLoader`.
    """

    def __iter__(self) -> Any:
        """The batches, of which one more than asked for is fetched."""
        # Not in the generator, which would draw from torch's random numbers later than a DataLoader does.
        return _ahead(super().__iter__())


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def shard_size(batch_size: int, world_size: int) -> int:
    """Images of a batch that each device gets; with several devices at least two, which batch norm needs."""
    return batch_size if world_size == 1 else max(2, -(-batch_size // world_size))


def shard(batch: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """One device's part of a batch.

    Args:
        batch: ``(B,)`` indices, for all devices together.
        rank: Number of the device.
        world_size: Number of devices.

    Returns:
        Indices; every device gets the same number. Where the batch cannot be divided evenly, the last devices' parts
        are padded with other images ``i`` of the batch, as ``~i``.
    """
    size = shard_size(len(batch), world_size)
    filling = np.resize(~batch, size * world_size - len(batch))
    return np.concatenate([batch, filling])[rank * size : (rank + 1) * size]


class EpochSampler(DistributedSampler[int]):
    """Every image once, in a new order each epoch; each of several devices gets its shard of every batch.

    Order and augmentation depend on ``(seed, epoch)`` alone, not on the network, earlier epochs, or the number of
    devices. So every backbone sees the same batches, and a resumed run continues as if it had never stopped.

    In training, a last batch of a single image, of which batch norm can compute no variance, joins the one before it:
    the last two indices come as one pair, so that a `DataLoader` still counts to its batch size.

    Args:
        size: Number of images.
        seed: Seed of order and augmentation.
        batch_size: Images a step, of all devices together.
        rank: Number of this device.
        world_size: Number of devices.
        shuffle: True in training; False leaves the images in the order of the data.
    """

    def __init__(
        self, size: int, seed: int, batch_size: int = 1, rank: int = 0, world_size: int = 1, shuffle: bool = True
    ) -> None:
        # Lightning replaces every sampler that is no DistributedSampler.
        super().__init__(range(size), world_size, rank, shuffle, seed)  # type: ignore[arg-type]
        self.size, self.batch_size = size, batch_size

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, stream))

    def order(self) -> np.ndarray:
        """This epoch's order of the images, ``(N,)`` int64."""
        return self._generator(0).permutation(self.size) if self.shuffle else np.arange(self.size)

    def draws(self, steps: Sequence[Step], stored: tuple[int, int], image_size: int) -> dict[Step, Tensor]:
        """This epoch's random numbers for all images, as `draw` makes them."""
        return draw(self._generator(1), self.size, steps, stored, image_size)

    @property
    def _joins(self) -> bool:
        return self.shuffle and self.size > self.batch_size and self.size % self.batch_size == 1

    def __iter__(self) -> Iterator[Any]:
        order = self.order()
        batches = np.split(order, range(self.batch_size, len(order) - self._joins, self.batch_size))
        if self.num_replicas > 1:
            batches = [shard(batch, self.rank, self.num_replicas) for batch in batches]
        indices: list[Any] = np.concatenate(batches).tolist()
        return iter([*indices[:-2], tuple(indices[-2:])] if len(indices) > len(self) else indices)

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        last = shard_size(rest, self.num_replicas) if rest and not self._joins else 0
        return whole * shard_size(self.batch_size, self.num_replicas) + last
