"""The classification data sets of torchvision that keep their images as arrays."""

from __future__ import annotations

import inspect
import socket
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torchvision
from torch import Tensor
from torchvision import datasets

from cnn_compare.data.cache import mapped_arrays
from cnn_compare.data.cifar10 import RETRIES, SILENCE_S, load_mapped, short_digest, store_arrays
from cnn_compare.data.image_datamodule import ImageDataModule, Split, folder_of_data
from cnn_compare.data.loaded import as_tensors
from cnn_compare.errors import DataUnavailableError, InvalidValueError
from cnn_compare.files import read_json, write_json

Name = Literal["CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "STL10", "SVHN", "USPS"]


class TorchvisionDataModule(ImageDataModule):
    """A data set of torchvision, downloaded if missing; grey images become RGB.

    torchvision verifies the md5 of what it downloads, and opens the pickles of CIFAR-10 and CIFAR-100 only after it has
    verified theirs. The images are then stored as arrays that all runs share, and the files are not looked at again.

    Args:
        name: As torchvision spells it.
        data_dir: Folder in which torchvision looks for the data; None: ``$CNN_COMPARE_DATA_DIR``, else ``data``.
        **options: Those of `ImageDataModule`.

    Raises:
        DataUnavailableError: If the files are missing or damaged, and cannot be downloaded.
    """

    def __init__(self, name: Name, data_dir: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        if name not in get_args(Name):
            raise InvalidValueError("data.name", name, f"one of {', '.join(get_args(Name))}")
        self.dataset_name, self.data_dir = name, folder_of_data(data_dir)

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """In the order of the labels; known once the data is there."""
        return tuple(read_json(self._arrays() / "classes.json"))

    @property
    def preparation(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        return {**super().preparation, "name": self.dataset_name, "data_dir": str(self.data_dir.absolute())}

    def prepare_data(self) -> None:
        """Download and store the data, unless it is stored already."""
        self._arrays()

    def load(self, split: Split) -> tuple[Tensor, Tensor]:
        """All images ``(N, H, W, 3)`` uint8 and labels ``(N,)`` int64 of a split, mapped from the disk."""
        return load_mapped(self._arrays(), split)

    def _arrays(self) -> Path:
        source = f"{self.dataset_name}_{short_digest(str(self.data_dir.resolve()))}"
        return mapped_arrays(f"{source}/torchvision_{torchvision.__version__}", self._store)

    def _store(self, folder: Path) -> None:
        for split in ("train", "test"):
            dataset = self._dataset(split)
            labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
            # SVHN and USPS are digits, and do not say so.
            classes = list(getattr(dataset, "classes", range(10)))
            images, numbers = as_tensors((dataset.data, labels.astype(np.int64)), len(classes), self.dataset_name)
            store_arrays(folder, split, images.numpy(), numbers.numpy())
        write_json(folder / "classes.json", [str(name) for name in classes])

    def _dataset(self, split: Split) -> Any:
        """The data set of torchvision; what is there is used without the network."""
        cls = getattr(datasets, self.dataset_name)
        which = {"train": split == "train"} if "train" in inspect.signature(cls).parameters else {"split": split}
        silence_s = socket.getdefaulttimeout()
        for attempt in range(RETRIES + 2):
            try:
                # torchvision itself waits for a silent host without limit.
                socket.setdefaulttimeout(SILENCE_S)
                return cls(self.data_dir, download=attempt > 0, **which)
            # It raises any of these, and errors of its formats, for what is missing, cut off or another file.
            except (OSError, RuntimeError, ValueError, AssertionError, EOFError) as error:
                if attempt > RETRIES:
                    files = f"the files that torchvision.datasets.{self.dataset_name} expects"
                    folder, reason = self.data_dir.absolute(), " ".join(str(error).split()) or type(error).__name__
                    raise DataUnavailableError(self.dataset_name, folder, _url(cls), files, reason) from error
            finally:
                socket.setdefaulttimeout(silence_s)
        raise AssertionError("the last attempt returns or raises")


def _url(dataset: Any) -> str:
    """Where a data set of torchvision is downloaded from."""
    if hasattr(dataset, "mirrors"):
        return str(dataset.mirrors[0])
    return str(dataset.url if hasattr(dataset, "url") else dataset.split_list["train"][0])
