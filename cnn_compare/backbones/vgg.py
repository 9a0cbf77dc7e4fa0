"""VGG: nothing but 3x3 convolutions, halved by pooling five times."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any, cast

from torch import nn

from cnn_compare.backbones.registry import Stem, plain_sgd, register_backbone
from cnn_compare.backbones.torchvision_models import torchvision_model

# Five poolings halve 32 px down to 1.
_vgg_entry = partial(register_backbone, year=2014, venue="ICLR 2015", paper="arXiv:1409.1556", min_image_size=32)

# Convolutions before each pooling; the widths are 64, 128, 256, 512, 512 (table 1 of the paper).
_DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def _vgg(name: str, num_classes: int, stem: Stem) -> nn.Module:
    """Torchvision's VGG; with the cifar stem the same convolutions, then global pooling and one linear layer."""
    if stem == "imagenet":
        return cast(nn.Module, torchvision_model(name, num_classes))
    # Not torchvision's with its head replaced: filling that head's 120 M parameters takes seconds.
    depth, _, batch_norm = name.partition("_")
    layers: list[nn.Module] = []
    channels = 3
    for count, width in zip(_DEPTHS[depth], (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, *([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    classifier = nn.Linear(channels, num_classes)
    nn.init.normal_(classifier.weight, 0, 0.01)
    nn.init.zeros_(classifier.bias)
    parts: list[tuple[str, Any]] = [
        ("features", nn.Sequential(*layers)),
        ("avgpool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("classifier", classifier),
    ]
    return nn.Sequential(OrderedDict(parts))


# The learning rate of Simonyan and Zisserman 2014; without batch norm, Adam's usual 1e-3 is too high as well.
_plain_vgg_entry = partial(_vgg_entry, recipe_changes=plain_sgd(lr=0.01), stuck_adam_lr=0.001)


@_plain_vgg_entry(imagenet_weights="VGG11_Weights.IMAGENET1K_V1", depth=11)
def vgg11(num_classes: int, stem: Stem) -> nn.Module:
    """VGG-11: small 3x3 filters, stacked, see as much as large ones with fewer weights."""
    return _vgg("vgg11", num_classes, stem)


@_plain_vgg_entry(imagenet_weights="VGG13_Weights.IMAGENET1K_V1", depth=13)
def vgg13(num_classes: int, stem: Stem) -> nn.Module:
    """VGG-13: two 3x3 filters in every stage."""
    return _vgg("vgg13", num_classes, stem)


@_plain_vgg_entry(imagenet_weights="VGG16_Weights.IMAGENET1K_V1", depth=16)
def vgg16(num_classes: int, stem: Stem) -> nn.Module:
    """VGG-16: depth from 3x3 filters alone."""
    return _vgg("vgg16", num_classes, stem)


@_plain_vgg_entry(imagenet_weights="VGG19_Weights.IMAGENET1K_V1", depth=19)
def vgg19(num_classes: int, stem: Stem) -> nn.Module:
    """VGG-19: the deepest of its paper, where depth alone stops helping."""
    return _vgg("vgg19", num_classes, stem)


@_vgg_entry(imagenet_weights="VGG11_BN_Weights.IMAGENET1K_V1", depth=11)
def vgg11_bn(num_classes: int, stem: Stem) -> nn.Module:
    """VGG-11 with batch norm: normalised activations let the depth train from scratch."""
    return _vgg("vgg11_bn", num_classes, stem)


@_vgg_entry(imagenet_weights="VGG13_BN_Weights.IMAGENET1K_V1", depth=13)
def vgg13_bn(num_classes: int, stem: Stem) -> nn.Module:
    """VGG-13 with batch norm: normalised activations let the depth train from scratch."""
    return _vgg("vgg13_bn", num_classes, stem)


@_vgg_entry(imagenet_weights="VGG16_BN_Weights.IMAGENET1K_V1", depth=16)
def vgg16_bn(num_classes: int, stem: Stem) -> nn.Module:
    """VGG-16 with batch norm: normalised activations let the depth train from scratch."""
    return _vgg("vgg16_bn", num_classes, stem)


@_vgg_entry(imagenet_weights="VGG19_BN_Weights.IMAGENET1K_V1", depth=19)
def vgg19_bn(num_classes: int, stem: Stem) -> nn.Module:
    """VGG-19 with batch norm: normalised activations let the depth train from scratch."""
    return _vgg("vgg19_bn", num_classes, stem)
