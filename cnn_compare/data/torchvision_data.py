"""The classification data sets of torchvision that keep their images as arrays."""

from __future__ import annotations

import hashlib
import inspect
import os
import socket
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import download_and_extract_archive

from cnn_compare.data.cache import mapped_arrays
from cnn_compare.data.loaded import as_tensors
from cnn_compare.data.module import ImageDataModule, LoadedSplit
from cnn_compare.errors import DataUnavailableError, InvalidValueError
from cnn_compare.files import read_json, write_json

Name = Literal["CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "STL10", "SVHN", "USPS"]
# How often a failed download is repeated, and how long its host may be silent.
RETRIES, SILENCE_S = 2, 30.0


class TorchvisionDataModule(ImageDataModule):
    """A data set of torchvision, downloaded if missing; grey images become RGB.

    torchvision verifies the md5 of what it downloads, and opens the pickles of CIFAR-10 and CIFAR-100 only after it has
    verified theirs; a file with another md5 is downloaded anew. The images are then stored as arrays that all runs
    share, and the files are not looked at again.

    Args:
        name: The data set's name, as torchvision spells it.
        data_dir: Folder in which torchvision looks for the data; None: ``$CNN_COMPARE_DATA_DIR``, else ``data``.
        **options: Options of `ImageDataModule`.

    Raises:
        DataUnavailableError: If the files are missing or damaged, and cannot be downloaded.
    """

    def __init__(self, name: Name, data_dir: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        if name not in get_args(Name):
            raise InvalidValueError("data.name", name, f"one of {', '.join(get_args(Name))}")
        # Shells do not expand the tilde in `--data.data_dir=~/data`, nor in a configuration file.
        self.data_dir = Path(data_dir or os.environ.get("CNN_COMPARE_DATA_DIR") or "data").expanduser()
        self.dataset_name = name

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names in the order of the labels; known once the data is there."""
        return tuple(read_json(self._arrays() / "classes.json"))

    @property
    def preparation(self) -> dict[str, Any]:
        """The record for checkpoints."""
        return {**super().preparation, "name": self.dataset_name, "data_dir": str(self.data_dir.absolute())}

    def prepare_data(self) -> None:
        """Download and store the data, unless it is stored already."""
        self._arrays()

    def load(self, split: LoadedSplit) -> tuple[Tensor, Tensor]:
        """All images ``(N, H, W, 3)`` uint8 and labels ``(N,)`` int64 of a split, mapped from the disk."""
        folder = self._arrays()
        # Copy on write: processes share the pages, and nobody can change the file.
        images = np.load(folder / f"{split}_images.npy", mmap_mode="c")
        return torch.from_numpy(images), torch.from_numpy(np.load(folder / f"{split}_labels.npy"))

    def _arrays(self) -> Path:
        """The folder of the stored arrays."""
        root = hashlib.blake2b(os.fsencode(self.data_dir.resolve()), digest_size=8).hexdigest()
        return mapped_arrays(f"{self.dataset_name}_{root}/torchvision_{torchvision.__version__}", self._store)

    def _store(self, folder: Path) -> None:
        for split in ("train", "test"):
            dataset = self._dataset(split)
            labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
            # SVHN and USPS are digits, and do not say so.
            classes = list(getattr(dataset, "classes", range(10)))
            images, numbers = as_tensors((dataset.data, labels.astype(np.int64)), len(classes), self.dataset_name)
            np.save(folder / f"{split}_images.npy", images.numpy())
            np.save(folder / f"{split}_labels.npy", numbers.numpy())
        write_json(folder / "classes.json", [str(name) for name in classes])

    def _dataset(self, split: LoadedSplit) -> Any:
        """The data set of torchvision; what is there is used without the network."""
        cls = getattr(datasets, self.dataset_name)
        which = {"train": split == "train"} if "train" in inspect.signature(cls).parameters else {"split": split}
        silence_s = socket.getdefaulttimeout()
        for attempt in range(RETRIES + 2):
            try:
                # torchvision itself waits for a silent host without limit.
                socket.setdefaulttimeout(SILENCE_S)
                if attempt > 0 and hasattr(cls, "tgz_md5"):
                    # `download=True` does nothing where the file of class names alone is missing.
                    download_and_extract_archive(cls.url, self.data_dir, filename=cls.filename, md5=cls.tgz_md5)
                return cls(self.data_dir, download=attempt > 0, **which)
            # torchvision raises any of these for what is missing, cut off or another file.
            except (OSError, RuntimeError, ValueError, AssertionError, EOFError, HTTPException) as error:
                if attempt > RETRIES:
                    files = f"the files that torchvision.datasets.{self.dataset_name} expects"
                    folder, reason = self.data_dir.absolute(), " ".join(str(error).split()) or type(error).__name__
                    raise DataUnavailableError(self.dataset_name, folder, _url(cls), files, reason) from error
            finally:
                socket.setdefaulttimeout(silence_s)
        raise AssertionError("the last attempt returns or raises")


def _url(dataset: Any) -> str:
    """The address that a data set of torchvision is downloaded from."""
    if hasattr(dataset, "mirrors"):
        return str(dataset.mirrors[0])
    return str(dataset.url if hasattr(dataset, "url") else dataset.split_list["train"][0])
