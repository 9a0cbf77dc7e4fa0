"""Adaptive pooling without the kernel that cannot be repeated: against torch's, for values and gradients."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import nn
from torch.nn import functional as F

from cnn_compare.backbones import build_backbone
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


def test_copies_of_googlenet_have_auxiliary_heads_of_their_own():
    with torch.device("meta"):
        network = build_backbone("googlenet")
    again = copy.deepcopy(network)
    assert again.aux1.forward.args[0] is again.aux1
