"""DenseNet: every layer sees all that came before it in its block."""

from __future__ import annotations

from functools import partial
from typing import cast

from torch import nn

from cnn_compare.backbones.registry import Stem, register_backbone
from cnn_compare.backbones.torchvision_models import torchvision_model

_densenet_entry = partial(register_backbone, year=2016, venue="CVPR 2017", paper="arXiv:1608.06993", min_image_size=29)


def _densenet(name: str, num_classes: int, stem: Stem) -> nn.Module:
    """Torchvision's DenseNet; with the cifar stem a 3x3 first convolution of stride 1, and no pooling after it."""
    network = torchvision_model(name, num_classes)
    if stem == "cifar":
        network.features.conv0 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.features.conv0.weight)
        network.features.pool0 = nn.Identity()
    return cast(nn.Module, network)


@_densenet_entry(imagenet_weights="DenseNet121_Weights.IMAGENET1K_V1", depth=121)
def densenet121(num_classes: int, stem: Stem) -> nn.Module:
    """DenseNet-121: concatenated features are reused, so that few new ones a layer suffice."""
    return _densenet("densenet121", num_classes, stem)


@_densenet_entry(imagenet_weights="DenseNet169_Weights.IMAGENET1K_V1", depth=169)
def densenet169(num_classes: int, stem: Stem) -> nn.Module:
    """DenseNet-169: the same reuse, its last two blocks twice as long."""
    return _densenet("densenet169", num_classes, stem)
