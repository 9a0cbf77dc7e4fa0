"""Data modules: images, their order and their preparation."""

from cnn_compare.data.digits import DigitsDataModule
from cnn_compare.data.folder import FolderDataModule
from cnn_compare.data.image_datamodule import ImageDataModule
from cnn_compare.data.torchvision_data import CIFAR10DataModule, TorchvisionDataModule

__all__ = ["CIFAR10DataModule", "DigitsDataModule", "FolderDataModule", "ImageDataModule", "TorchvisionDataModule"]
