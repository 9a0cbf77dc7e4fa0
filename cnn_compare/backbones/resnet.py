"""ResNet: every block adds to what it was given."""

from __future__ import annotations

from functools import partial
from typing import cast

from torch import nn

from cnn_compare.backbones.registry import Stem, register_backbone
from cnn_compare.backbones.torchvision_models import torchvision_model

_resnet_entry = partial(register_backbone, year=2015, venue="CVPR 2016", paper="arXiv:1512.03385", min_image_size=1)


def _resnet(name: str, num_classes: int, stem: Stem) -> nn.Module:
    """Torchvision's ResNet; with the cifar stem a 3x3 first convolution of stride 1, and no pooling after it."""
    network = torchvision_model(name, num_classes)
    if stem == "cifar":
        network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    return cast(nn.Module, network)


@_resnet_entry(imagenet_weights="ResNet18_Weights.IMAGENET1K_V1", depth=18)
def resnet18(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-18: identity shortcuts let gradients pass."""
    return _resnet("resnet18", num_classes, stem)


@_resnet_entry(imagenet_weights="ResNet34_Weights.IMAGENET1K_V1", depth=34)
def resnet34(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-34: shortcuts make twice the depth train better, not worse."""
    return _resnet("resnet34", num_classes, stem)


@_resnet_entry(imagenet_weights="ResNet50_Weights.IMAGENET1K_V1", depth=50)
def resnet50(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-50: 1x1 bottlenecks around each 3x3 buy depth at little cost."""
    return _resnet("resnet50", num_classes, stem)


@_resnet_entry(imagenet_weights="ResNet101_Weights.IMAGENET1K_V1", depth=101)
def resnet101(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-101: bottlenecks, a hundred layers deep."""
    return _resnet("resnet101", num_classes, stem)


@_resnet_entry(imagenet_weights="ResNet152_Weights.IMAGENET1K_V1", depth=152)
def resnet152(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-152: the winner of ILSVRC 2015, cheaper than VGG-19 at eight times its depth."""
    return _resnet("resnet152", num_classes, stem)
