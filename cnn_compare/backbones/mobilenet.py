"""MobileNetV2: most of a convolution's work at a fraction of its cost."""

from __future__ import annotations

from typing import cast

from torch import nn

from cnn_compare.backbones.registry import Stem, register_backbone
from cnn_compare.backbones.torchvision_models import torchvision_model


@register_backbone(
    year=2018,
    venue="CVPR 2018",
    paper="arXiv:1801.04381",
    min_image_size=1,
    imagenet_weights="MobileNet_V2_Weights.IMAGENET1K_V1",
    depth=53,
)
def mobilenet_v2(num_classes: int, stem: Stem) -> nn.Module:
    """MobileNetV2: depthwise filters between thin layers, shortcuts between the thin ones.

    The cifar stem has stride 1 (for 2) in the first convolution and in the stage of 24 channels, as the CIFAR zoos do;
    all parameters keep their shapes.
    """
    network = torchvision_model("mobilenet_v2", num_classes)
    if stem == "cifar":
        network.features[0][0].stride = (1, 1)
        # features[2] opens the stage of 24 channels: expansion, depthwise filter, projection.
        network.features[2].conv[1][0].stride = (1, 1)
    return cast(nn.Module, network)
