"""CIFAR-10: 60,000 colour photographs of 32x32 pixels in ten classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnn_compare.data.torchvision_data import TorchvisionDataModule


class CIFAR10DataModule(TorchvisionDataModule):
    """CIFAR-10, downloaded and stored as `TorchvisionDataModule` says.

    Args:
        data_dir: Folder of ``cifar-10-batches-py/``; None: ``$CNN_COMPARE_DATA_DIR``, else ``data``.
        **options: Options of `ImageDataModule`.

    Raises:
        DataUnavailableError: If the files are missing or damaged, and cannot be downloaded.

    Source:
        Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    # Known before anything is downloaded.
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    usual_val_size = 5000

    def __init__(self, data_dir: str | Path | None = None, **options: Any) -> None:
        super().__init__(name="CIFAR10", data_dir=data_dir, **options)

    @property
    def preparation(self) -> dict[str, Any]:
        """The record for checkpoints, without the place of the data, because everybody's is the same."""
        return {option: value for option, value in super().preparation.items() if option not in ("name", "data_dir")}
