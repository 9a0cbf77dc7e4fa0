"""Adaptive pooling without the kernel that cannot be repeated: against torch's, for values and gradients."""

from __future__ import annotations

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cnn_compare.backbones import build_backbone, list_backbones, pooling
from cnn_compare.backbones.pooling import AdaptiveAvgPool2d, adaptive_avg_pool, by_matrices


def test_matrices_pool_and_differentiate_as_torch_does_for_every_pair_of_sizes():
    torch.manual_seed(0)
    for height, width, rows, columns in itertools.product((1, 5, 7, 14), (3, 13), (1, 4, 6), (5, 13)):
        theirs = torch.rand(2, 3, height, width, dtype=torch.float64, requires_grad=True)
        ours = theirs.detach().clone().requires_grad_()
        expected, found = F.adaptive_avg_pool2d(theirs, (rows, columns)), by_matrices(ours, (rows, columns))
        torch.testing.assert_close(found, expected)
        weights = torch.rand_like(expected)
        (expected * weights).sum().backward()
        (found * weights).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_maps_of_the_size_asked_for_are_left_alone_and_others_are_torchs_bit_for_bit():
    maps = torch.rand(2, 3, 6, 5)
    assert adaptive_avg_pool(maps, (6, 5)) is maps
    torch.testing.assert_close(maps, F.adaptive_avg_pool2d(maps, (6, 5)), rtol=0, atol=0)
    for size in (3, (6, 4), (None, 2), 1):
        pool, expected = AdaptiveAvgPool2d(size), nn.AdaptiveAvgPool2d(size)
        torch.testing.assert_close(pool(maps), expected(maps), rtol=0, atol=0)
    torch.testing.assert_close(AdaptiveAvgPool2d(3)(maps[0]), nn.AdaptiveAvgPool2d(3)(maps[0]), rtol=0, atol=0)


class Forbid(TorchFunctionMode):
    """Refuses torch's adaptive pooling to more than one number, as CUDA does with deterministic algorithms."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.adaptive_avg_pool2d:
            assert args[1] in (1, (1, 1)), "torch's adaptive pooling cannot be repeated"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [entry.name for entry in list_backbones()])
@pytest.mark.parametrize("larger", [0, 32], ids=["smallest", "larger"])
def test_on_a_gpu_no_backbone_would_need_pooling_that_cannot_be_repeated(monkeypatch, name, larger):
    entry = next(each for each in list_backbones() if each.name == name)
    side = entry.min_size("imagenet") + larger
    with torch.device("meta"), Forbid():
        network = build_backbone(name).train()
        monkeypatch.setattr(pooling, "F", SimpleNamespace(adaptive_avg_pool2d=by_matrices))
        monkeypatch.setattr(AdaptiveAvgPool2d.__base__, "forward", None)
        network(torch.zeros(2, 3, side, side))


def test_copies_of_googlenet_have_auxiliary_heads_of_their_own():
    with torch.device("meta"):
        network = build_backbone("googlenet")
    again = copy.deepcopy(network)
    assert again.aux1.forward.args[0] is again.aux1
