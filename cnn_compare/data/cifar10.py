"""CIFAR-10: 60,000 colour photographs of 32x32 pixels in ten classes."""

from __future__ import annotations

import hashlib
import json
import pickle
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.datasets import CIFAR10

from cnn_compare.data.cache import mapped_arrays
from cnn_compare.data.image_datamodule import ImageDataModule, Split, folder_of_data
from cnn_compare.errors import DataError, DataUnavailableError

# How often a failed download is repeated, and how long its host may be silent.
RETRIES, SILENCE_S = 2, 30.0


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10, downloaded if missing; every file's md5 is verified before the file is opened.

    The images are then stored as arrays that all runs share. As long as no file has another size or time of change, the
    files are neither verified nor opened again.

    Args:
        data_dir: Folder of ``cifar-10-batches-py/``; None: ``$CNN_COMPARE_DATA_DIR``, else ``data``.
        **options: Those of `ImageDataModule`.

    Raises:
        DataUnavailableError: If the files are missing and cannot be downloaded.
        DataError: If a file's md5 is not the published one.

    Source:
        Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    usual_val_size = 5000

    def __init__(self, data_dir: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.data_dir = folder_of_data(data_dir)

    def prepare_data(self) -> None:
        """Download the data if a file is missing, verify and store it; complete data needs no network."""
        self._arrays()

    def load(self, split: Split) -> tuple[Tensor, Tensor]:
        """50,000 (``train``) or 10,000 (``test``) images ``(N, 32, 32, 3)`` uint8 and labels ``(N,)`` int64."""
        return load_mapped(self._arrays(), split)

    def _arrays(self) -> Path:
        """The folder of the stored arrays."""
        files = [*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]
        folder = (self.data_dir / CIFAR10.base_folder).resolve()
        there = [(name, md5) for name, md5 in files if (folder / name).is_file()]
        if len(there) < len(files):
            for name, md5 in there:
                self._verified(name, md5)
            self._download()
        status = [(folder / name).stat() for name, _ in files]
        found = [[*file, of.st_size, of.st_mtime_ns] for file, of in zip(files, status, strict=True)]
        key = f"CIFAR10_{short_digest(str(folder))}/{short_digest(json.dumps(found))}"
        return mapped_arrays(key, self._store)

    def _store(self, folder: Path) -> None:
        self._verified(CIFAR10.meta["filename"], CIFAR10.meta["md5"])
        splits: dict[Split, Any] = {"train": CIFAR10.train_list, "test": CIFAR10.test_list}
        for split, files in splits.items():
            # A batch file is a pickle, which can run code: only files with the published md5 are opened.
            batches = [pickle.loads(self._verified(*file), encoding="latin1") for file in files]  # noqa: S301
            pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
            labels = np.concatenate([batch["labels"] for batch in batches])
            store_arrays(folder, split, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels)

    def _download(self) -> None:
        import pooch  # Imported late: it loads an HTTP client, and the files are mostly in place.

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

    def _verified(self, name: str, md5: str) -> bytes:
        path: Path = self.data_dir / CIFAR10.base_folder / name
        content = path.read_bytes()
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise DataError(
                f"{path} is damaged: its md5 is {found} and should be {md5}. "
                "It was not opened. Delete it and run again to download a fresh copy.",
                path=path,
                md5=found,
            )
        return content


def short_digest(text: str) -> str:
    """Sixteen hexadecimal digits that stand for a text."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def store_arrays(folder: Path, split: Split, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Write a split's arrays for `load_mapped`."""
    np.save(folder / f"{split}_images.npy", images)
    np.save(folder / f"{split}_labels.npy", labels)


def load_mapped(folder: Path, split: Split) -> tuple[Tensor, Tensor]:
    """A split's images, mapped from the disk, and labels, as `store_arrays` wrote them."""
    # Copy on write: processes share the pages, and nobody can change the file.
    images = np.load(folder / f"{split}_images.npy", mmap_mode="c")
    return torch.from_numpy(images), torch.from_numpy(np.load(folder / f"{split}_labels.npy"))
