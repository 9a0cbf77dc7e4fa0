"""Data modules: images, their order and their preparation.

`module` is what all data has in common; it takes the order of images from `order`, their changes from `augment`, and
their splits from `splits`. Where images come from: `folder` (whose names `layouts` understands, and `tables`),
`torchvision_data`, `cifar10`, `digits`. Pictures become pixels in `decode`, and are kept by `cache`. `check` looks for
what is wrong.
"""

from cnn_compare.data.cifar10 import CIFAR10DataModule
from cnn_compare.data.digits import DigitsDataModule
from cnn_compare.data.folder import FolderDataModule
from cnn_compare.data.module import ImageDataModule
from cnn_compare.data.torchvision_data import TorchvisionDataModule

__all__ = ["CIFAR10DataModule", "DigitsDataModule", "FolderDataModule", "ImageDataModule", "TorchvisionDataModule"]
