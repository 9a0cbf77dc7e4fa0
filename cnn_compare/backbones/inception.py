"""Inception v3: GoogLeNet's idea with factorised filters and batch norm."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from cnn_compare.backbones import pooling
from cnn_compare.backbones.registry import Stem, register_backbone
from cnn_compare.backbones.torchvision_models import torchvision_model


def _enlarge_small_maps(_head: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Enlarge maps below 17x17, which are too small for the auxiliary head's 5x5 windows, by repeating pixels.

    Images of 299 px give 17x17, so that training at the published size does not change. Without this the network could
    be evaluated from 75 px on, but trained from 299 px on only.
    """
    (maps,) = inputs
    height, width = maps.shape[-2:]
    return (pooling.adaptive_avg_pool(maps, (max(height, 17), max(width, 17))),)


@register_backbone(
    year=2015,
    venue="CVPR 2016",
    paper="arXiv:1512.00567",
    min_image_size=75,
    image_size=299,
    imagenet_weights="Inception_V3_Weights.IMAGENET1K_V1",
    depth=48,
)
def inception_v3(num_classes: int, stem: Stem) -> nn.Module:
    """Inception v3: large filters factorised into small and one-sided ones.

    With the imagenet stem an auxiliary head works in training, its loss weighted 0.4; below 299 px its input is
    enlarged to fit. The cifar stem's first convolution has stride 1, its unpadded convolutions are padded,
    and both max poolings and the auxiliary head are dropped; all parameters keep their shapes.
    """
    network = torchvision_model("inception_v3", num_classes, aux_logits=stem == "imagenet", init_weights=True)
    if stem == "cifar":
        network.Conv2d_1a_3x3.conv.stride = (1, 1)
        for block in (network.Conv2d_1a_3x3, network.Conv2d_2a_3x3, network.Conv2d_4a_3x3):
            block.conv.padding = (1, 1)
        network.maxpool1 = nn.Identity()
        network.maxpool2 = nn.Identity()
    else:
        network.AuxLogits.register_forward_pre_hook(_enlarge_small_maps)
        network.aux_loss_weight = 0.4
    return cast(nn.Module, network)
