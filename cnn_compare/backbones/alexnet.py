"""AlexNet: five convolutions and a very wide head."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from torch import nn

from cnn_compare.backbones.registry import Stem, plain_sgd, register_backbone
from cnn_compare.backbones.torchvision_models import torchvision_model


def _alexnet(num_classes: int, stem: Stem, widths: tuple[int, int, int, int, int], batch_norm: bool) -> nn.Module:
    """AlexNet in torchvision's layout (features, avgpool, classifier), with the stem's first layer and head."""
    if stem == "imagenet":
        first = nn.Conv2d(3, widths[0], kernel_size=11, stride=4)
        grid, hidden = 6, 4096
    else:
        first = nn.Conv2d(3, widths[0], kernel_size=3, padding=1)
        grid, hidden = 3, 512
    convolutions = [
        first,
        nn.Conv2d(widths[0], widths[1], kernel_size=5, padding=2),
        nn.Conv2d(widths[1], widths[2], kernel_size=3, padding=1),
        nn.Conv2d(widths[2], widths[3], kernel_size=3, padding=1),
        nn.Conv2d(widths[3], widths[4], kernel_size=3, padding=1),
    ]
    features: list[nn.Module] = []
    for index, convolution in enumerate(convolutions):
        features.append(convolution)
        if batch_norm:
            features.append(nn.BatchNorm2d(widths[index]))
        features.append(nn.ReLU(inplace=True))
        if index in (0, 1, 4):
            features.append(nn.MaxPool2d(kernel_size=3, stride=2))
    wide = [nn.Dropout(0.5), nn.Linear(hidden, hidden), nn.ReLU(inplace=True)] if stem == "imagenet" else []
    classifier = nn.Sequential(
        nn.Dropout(0.5),
        nn.Linear(widths[4] * grid * grid, hidden),
        nn.ReLU(inplace=True),
        *wide,
        nn.Linear(hidden, num_classes),
    )
    parts: list[tuple[str, nn.Module]] = [
        ("features", nn.Sequential(*features)),
        ("avgpool", nn.AdaptiveAvgPool2d(grid)),
        ("flatten", nn.Flatten()),
        ("classifier", classifier),
    ]
    return nn.Sequential(OrderedDict(parts))


@register_backbone(
    year=2012,
    venue="NeurIPS 2012",
    paper="arXiv:1404.5997",
    min_image_size=63,
    imagenet_weights="AlexNet_Weights.IMAGENET1K_V1",
    # Of eight settings in lightning_logs/tuned_alexnet a rate of 0.056 was the best in five epochs. With 0.18 nothing
    # was learned; 0.02 and less were behind.
    recipe_changes=plain_sgd(lr=0.05),
    stuck_adam_lr=0.001,
    depth=8,
)
def alexnet(num_classes: int, stem: Stem) -> nn.Module:
    """AlexNet: ReLU, dropout and GPUs make a deep network learn ImageNet.

    The imagenet stem is torchvision's, the one-tower variant of the paper named here. The cifar stem starts with a 3x3
    convolution of stride 1 (for 11x11 of stride 4) and ends with one hidden layer of 512 on a 3x3 grid (for two of
    4,096 on a 6x6 grid).
    """
    if stem == "imagenet":
        return cast(nn.Module, torchvision_model("alexnet", num_classes))
    return _alexnet(num_classes, stem, widths=(64, 192, 384, 256, 256), batch_norm=False)


@register_backbone(year=2015, venue="ICML 2015", paper="arXiv:1502.03167", min_image_size=67, image_size=227, depth=8)
def alexnet_bn(num_classes: int, stem: Stem) -> nn.Module:
    """AlexNet with batch norm: normalised activations let it train from scratch.

    The widths of 2012 (96-256-384-384-256) in one tower, batch norm for its local response norm, an unpadded first
    layer for 227x227. The cifar stem changes what it changes in `alexnet`.
    """
    return _alexnet(num_classes, stem, widths=(96, 256, 384, 384, 256), batch_norm=True)
