"""CIFAR-10: 60,000 colour photographs of 32x32 pixels in ten classes."""

from __future__ import annotations

import os
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5, download_and_extract_archive

from cnn_compare.data.image_datamodule import ImageDataModule, Split
from cnn_compare.errors import DataDamagedError, DataUnavailableError


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10, downloaded by torchvision when missing, with every file's md5 checked before it is opened.

    Args:
        data_dir: Folder that holds ``cifar-10-batches-py/``, or gets it; None takes ``$CNN_COMPARE_DATA_DIR``, else
            ``data``.
        **options: Those of `ImageDataModule`.

    Raises:
        DataUnavailableError: If the files are missing and cannot be downloaded.
        DataDamagedError: If a file is there and its md5 is not the published one.

    Source:
        Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    usual_val_size = 5000

    def __init__(self, data_dir: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        # No shell expands the tilde of `--data.data_dir=~/data`, nor that of a configuration file.
        self.data_dir = Path(data_dir or os.environ.get("CNN_COMPARE_DATA_DIR") or "data").expanduser()
        self._verified = False

    def prepare_data(self) -> None:
        """Check the files and download what is missing; all there, the network is not touched.

        A batch file is a pickle and runs code when opened, so no file is opened before its md5 matches.
        """
        folder = self.data_dir / CIFAR10.base_folder
        published = [*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]
        missing = False
        for name, md5 in published:
            path = folder / name
            if not path.is_file():
                missing = True
            elif (found := calculate_md5(path)) != md5:
                raise DataDamagedError(path, found, md5)
        if missing:
            try:
                # Not CIFAR10(download=True), which leaves a missing batches.meta alone.
                download_and_extract_archive(CIFAR10.url, self.data_dir, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
            except (OSError, HTTPException, RuntimeError, EOFError) as error:
                raise DataUnavailableError(
                    self.data_dir.absolute(), CIFAR10.url, f"{CIFAR10.filename} or {CIFAR10.base_folder}/", error
                ) from error
        self._verified = True

    def load(self, split: Split) -> tuple[Tensor, Tensor]:
        """50,000 (``train``) or 10,000 (``test``) images ``(N, 32, 32, 3)`` uint8 and labels ``(N,)`` int64."""
        if not self._verified:
            self.prepare_data()
        data = CIFAR10(self.data_dir, train=split == "train")
        return torch.from_numpy(np.ascontiguousarray(data.data)), torch.tensor(data.targets)
