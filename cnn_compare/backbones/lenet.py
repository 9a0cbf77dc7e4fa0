"""LeNet-5: two convolutions, three fully connected layers."""

from __future__ import annotations

from functools import partial

from torch import nn

from cnn_compare.backbones.registry import Stem, register_backbone

# The paper's 32x32 becomes 28, 14, 10, 5; below 16 px nothing is left for the second pooling.
_lenet_entry = partial(
    register_backbone,
    year=1998,
    venue="Proceedings of the IEEE",
    paper="doi:10.1109/5.726791",
    min_image_size=16,
    image_size=32,
    # No cutout and no label smoothing: 62,000 weights underfit with them. Validation accuracy of lenet_relu after 20
    # epochs: 67.7 % with these settings, 67.5 % with lr=0.02, 67.4 % with AdamW at 0.003. With mirrored images alone it
    # is 69.5 %, but training accuracy is at 79 % by then.
    recipe_changes={
        "model": {
            "label_smoothing": 0.0,
            "optimizer": {
                "class_path": "torch.optim.SGD",
                "init_args": {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0001},
            },
        },
        "data": {"init_args": {"augmentation": "crop_flip"}},
    },
)


def _lenet(num_classes: int, activation: type[nn.Module], pool: type[nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, kernel_size=5),
        activation(),
        pool(2),
        nn.Conv2d(6, 16, kernel_size=5),
        activation(),
        pool(2),
        # Nothing at 32 px; brings other image sizes to what the first fully connected layer takes.
        nn.AdaptiveAvgPool2d(5),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        activation(),
        nn.Linear(120, 84),
        activation(),
        nn.Linear(84, num_classes),
    )


@_lenet_entry(depth=5)
def lenet(num_classes: int, stem: Stem) -> nn.Module:
    """LeNet-5: learned filters shared over the image replace hand-made features.

    Tanh and average pooling as published; three input channels, the second convolution sees all six maps, and a linear
    layer gives the logits. Made for 32x32: both stems are this graph.
    """
    return _lenet(num_classes, nn.Tanh, nn.AvgPool2d)


@_lenet_entry(depth=5)
def lenet_relu(num_classes: int, stem: Stem) -> nn.Module:
    """LeNet-5 with ReLU: the same layers with the activation and max pooling of later networks.

    Made for 32x32: both stems are this graph.
    """
    return _lenet(num_classes, nn.ReLU, nn.MaxPool2d)
