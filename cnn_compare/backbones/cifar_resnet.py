"""The ResNets that He et al. made for CIFAR-10 (section 4.2): three stages of 16, 32 and 64 channels."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from cnn_compare.backbones.registry import Stem, register_backbone

_cifar_resnet_entry = partial(
    register_backbone, year=2015, venue="CVPR 2016", paper="arXiv:1512.03385", min_image_size=1, image_size=32
)


class OptionABlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters: every second pixel, new channels filled with zeros."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        # As many on either side of the old ones: the order that published weights were trained with.
        self.new_channels_a_side = (channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` to ``(N, channels, H / stride, W / stride)``."""
        shortcut = x
        if self.stride > 1:
            pad = self.new_channels_a_side
            shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, pad, pad))
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(residual + shortcut)


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of ``blocks`` blocks, global pooling, a linear layer: 6 x ``blocks`` + 2 deep."""

    def __init__(self, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        rest = (OptionABlock(channels, channels, stride=1) for _ in range(blocks - 1))
        return nn.Sequential(OptionABlock(in_channels, channels, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, num_classes)``."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


@_cifar_resnet_entry(depth=20)
def resnet20(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-20: residual learning at the size of CIFAR-10."""
    return CifarResNet(blocks=3, num_classes=num_classes)


@_cifar_resnet_entry(depth=32)
def resnet32(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-32: the same three stages, five blocks each."""
    return CifarResNet(blocks=5, num_classes=num_classes)


@_cifar_resnet_entry(depth=44)
def resnet44(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-44: the same three stages, seven blocks each."""
    return CifarResNet(blocks=7, num_classes=num_classes)


@_cifar_resnet_entry(depth=56)
def resnet56(num_classes: int, stem: Stem) -> nn.Module:
    """ResNet-56: where plain networks of its depth fail, shortcuts gain."""
    return CifarResNet(blocks=9, num_classes=num_classes)
