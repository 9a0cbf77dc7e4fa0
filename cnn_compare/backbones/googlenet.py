"""GoogLeNet: filters of several sizes side by side."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from cnn_compare.backbones import pooling
from cnn_compare.backbones.registry import Stem, register_backbone
from cnn_compare.backbones.torchvision_models import torchvision_model


def _auxiliary_logits(head: Any, maps: Tensor) -> Tensor:
    """Compute what torchvision's head does, with a pooling that can be repeated bit for bit on a GPU."""
    features = head.conv(pooling.adaptive_avg_pool(maps, (4, 4))).flatten(1)
    logits: Tensor = head.fc2(head.dropout(head.fc1(features).relu()))
    return logits


@register_backbone(
    year=2014,
    venue="CVPR 2015",
    paper="arXiv:1409.4842",
    min_image_size=15,
    imagenet_weights="GoogLeNet_Weights.IMAGENET1K_V1",
    depth=22,
)
def googlenet(num_classes: int, stem: Stem) -> nn.Module:
    """GoogLeNet: parallel filters of several sizes, and global pooling for the wide head.

    The imagenet stem is torchvision's: batch norm added, 3x3 filters where the paper has 5x5, and two auxiliary heads
    that work in training, their losses weighted 0.3. The cifar stem starts with a 3x3 convolution of stride 1 (for 7x7
    of stride 2), and drops the first two max poolings and the auxiliary heads.
    """
    network = torchvision_model("googlenet", num_classes, aux_logits=stem == "imagenet", init_weights=True)
    if stem == "cifar":
        network.conv1.conv = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.trunc_normal_(network.conv1.conv.weight, std=0.01)
        network.maxpool1 = nn.Identity()
        network.maxpool2 = nn.Identity()
    else:
        # Weights may come without them.
        for head in filter(None, (network.aux1, network.aux2)):
            head.forward = partial(_auxiliary_logits, head)
        network.aux_loss_weight = 0.3
    return cast(nn.Module, network)
