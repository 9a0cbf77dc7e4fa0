"""CIFAR-10: 60,000 colour photographs of 32x32 pixels in ten classes."""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pooch
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from cnn_compare.data.image_datamodule import ImageDataModule, Split
from cnn_compare.errors import DataDamagedError, DataUnavailableError

# How often a failed download is repeated, and how long its host may be silent.
RETRIES, SILENCE_S = 2, 30.0


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10, downloaded if missing; every file's md5 is verified before the file is opened.

    Args:
        data_dir: Folder of ``cifar-10-batches-py/``; None: ``$CNN_COMPARE_DATA_DIR``, else ``data``.
        **options: Those of `ImageDataModule`.

    Raises:
        DataUnavailableError: If the files are missing and cannot be downloaded.
        DataDamagedError: If a file's md5 is not the published one.

    Source:
        Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    usual_val_size = 5000

    def __init__(self, data_dir: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        # Shells do not expand the tilde in `--data.data_dir=~/data`, nor in a configuration file.
        self.data_dir = Path(data_dir or os.environ.get("CNN_COMPARE_DATA_DIR") or "data").expanduser()
        self._prepared = False

    def prepare_data(self) -> None:
        """Verify every file and download the data if one is missing; complete data needs no network."""
        missing = False
        for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]:
            if (self.data_dir / CIFAR10.base_folder / name).is_file():
                self._verified(name, md5)
            else:
                missing = True
        if missing:
            self._download()
        self._prepared = True

    def _download(self) -> None:
        name = CIFAR10.filename
        host = pooch.create(
            self.data_dir,
            base_url="",
            registry={name: f"md5:{CIFAR10.tgz_md5}"},
            urls={name: CIFAR10.url},
            retry_if_failed=RETRIES,
        )
        try:
            # Not CIFAR10(download=True): it ignores a missing batches.meta, and waits for a silent host without limit.
            archive = host.fetch(name, downloader=pooch.HTTPDownloader(timeout=SILENCE_S))
            with tarfile.open(archive) as tar, TemporaryDirectory(dir=self.data_dir) as unpacked:
                tar.extractall(unpacked, filter="data")
                (self.data_dir / CIFAR10.base_folder).mkdir(exist_ok=True)
                # Moved when complete: after a power cut, half a file would count as damaged.
                for path in (Path(unpacked) / CIFAR10.base_folder).iterdir():
                    path.replace(self.data_dir / CIFAR10.base_folder / path.name)
        except (OSError, ValueError, EOFError, tarfile.TarError) as error:
            files = f"{CIFAR10.filename} or {CIFAR10.base_folder}/"
            raise DataUnavailableError("CIFAR-10", self.data_dir.absolute(), CIFAR10.url, files, error) from error

    def load(self, split: Split) -> tuple[Tensor, Tensor]:
        """50,000 (``train``) or 10,000 (``test``) images ``(N, 32, 32, 3)`` uint8 and labels ``(N,)`` int64."""
        if not self._prepared:
            self.prepare_data()
        files = CIFAR10.train_list if split == "train" else CIFAR10.test_list
        images, labels = np.empty((0,)), []
        for number, (name, md5) in enumerate(files):
            # A batch file is a pickle, which can run code: only files with the published md5 are opened.
            batch = pickle.loads(self._verified(name, md5), encoding="latin1")  # noqa: S301
            pixels = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            if number == 0:
                # Filled a file at a time, so that the data is never in memory twice.
                images = np.empty((len(files) * len(pixels), 32, 32, 3), np.uint8)
            images[number * len(pixels) : (number + 1) * len(pixels)] = pixels
            labels += batch["labels"]
        return torch.from_numpy(images), torch.tensor(labels)

    def _verified(self, name: str, md5: str) -> bytes:
        path: Path = self.data_dir / CIFAR10.base_folder / name
        content = path.read_bytes()
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise DataDamagedError(path, found, md5)
        return content
