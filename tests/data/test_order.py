"""Batches of images in memory, fetched ahead."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.utils.data import DataLoader

from cnn_compare.data.order import EpochSampler, FetchingAhead, ResidentDataset


class Watched(ResidentDataset):
    """Notes which thread fetches each batch."""

    def __init__(self):
        super().__init__(torch.arange(70, dtype=torch.uint8).view(10, 1, 1, 7), torch.arange(10))
        self.threads, self.third = [], threading.Event()

    def __getitems__(self, indices):
        self.threads.append(threading.get_ident())
        if len(self.threads) == 3:
            self.third.set()
        if 9 in indices and len(indices) == 1:
            raise OSError("the disk is gone")
        return super().__getitems__(indices)


def loader(kind, **options):
    return kind(Watched(), collate_fn=lambda batch: batch, **options)


@pytest.mark.parametrize("epoch", [0, 1])
def test_what_is_fetched_ahead_are_the_batches_of_a_data_loader_in_their_order(epoch):
    found, drawn = [], []
    for kind in (DataLoader, FetchingAhead):
        sampler = EpochSampler(10, seed=1)
        sampler.set_epoch(epoch)
        torch.manual_seed(0)
        batches = iter(loader(kind, batch_size=4, sampler=sampler))
        drawn.append(torch.rand(1))
        found.append([*batches])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert [len(images) for images, *_ in found[0]] == [4, 4, 2]
    # Making the batches draws as many of torch's random numbers, at the same time.
    assert drawn[0] == drawn[1]


def test_the_next_batch_is_fetched_in_another_thread_before_it_is_asked_for():
    loading = loader(FetchingAhead, batch_size=2)
    batches = iter(loading)
    next(batches)
    next(batches)
    assert loading.dataset.third.wait(60)
    assert threading.get_ident() not in loading.dataset.threads
    batches.close()  # As where an epoch is cut short.
    assert len(loading.dataset.threads) == 3


def test_an_error_while_fetching_reaches_who_waits_for_the_batch():
    with pytest.raises(OSError, match="the disk is gone"):
        [*loader(FetchingAhead, batch_size=3)]
