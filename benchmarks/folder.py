"""A folder of photographs: decoding it once, and training from the mapped file.

python benchmarks/folder.py FOLDER      # one folder a class inside

- decoding: into the cache on all cores, against one process of Pillow and torchvision's transforms. Both sides read the
  same files and end with one uint8 array; ours is on the disk.
- epochs: training from the mapped file against the same from memory, and `fit` against the usual script with
  torchvision's ImageFolder, RandomResizedCrop and a DataLoader of two workers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import fit, in_turn, median_ratio, processes_in_turn, report
from PIL import Image
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as TF
from training import two_workers, usual_loop

from cnn_compare import FolderDataModule, build_backbone
from cnn_compare.data.cache import clear_cache, decoded
from cnn_compare.data.decode import Decoding
from cnn_compare.data.module import MEAN_STD, Split
from cnn_compare.data.order import ResidentDataset

SIDE, BATCH = 224, 32


def ours(folder: Path, paths: list[str]) -> float:
    """Pictures a second, from an empty cache to the mapped array."""
    clear_cache(folder)
    start = time.perf_counter()
    decoded(folder, paths, Decoding(SIDE))
    return len(paths) / (time.perf_counter() - start)


def reference(folder: Path, paths: list[str]) -> float:
    """Pictures a second of one process, into memory."""
    start = time.perf_counter()
    images = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for row, path in zip(images, paths, strict=True):
        with Image.open(folder / path) as image:
            row[:] = TF.center_crop(TF.resize(image.convert("RGB"), SIDE), [SIDE, SIDE])
    return len(paths) / (time.perf_counter() - start)


def decoding(photos: Path, repeats: int) -> None:
    """Ours against one process."""
    paths = [str(path.relative_to(photos)) for path in sorted(photos.glob("*/*"))]
    speeds = in_turn({"ours": lambda: ours(photos, paths), "one process": lambda: reference(photos, paths)}, repeats)
    row = {f"{side} pictures/s": float(np.median(values)) for side, values in speeds.items()}
    ratio = median_ratio(speeds["ours"], speeds["one process"])
    report("folder_decoding", [{"pictures": len(paths), "side": SIDE, **row, "ratio": ratio}], speeds)


class InMemory(FolderDataModule):
    """The same pictures, copied from the mapped file into memory."""

    def _make_splits(self, loaded: Split) -> dict[str, ResidentDataset]:
        splits = super()._make_splits(loaded)
        images = splits["train"].images.clone()
        return {name: ResidentDataset(images, split.labels, split.subset) for name, split in splits.items()}


def fit_options(data_module: str, photos: Path, backbone: str) -> list[str]:
    """`fit` with all photographs but the fewest that validation and test can have."""
    options = [f"--data={data_module}", f"--data.data_dir={photos}", "--data.test_size=10", "--data.val_size=10"]
    options += ["--data.image_size=64", f"--data.batch_size={BATCH}", "--data.augmentation=[resized_crop,flip]"]
    return [*options, f"--model.backbone={backbone}"]


def image_folder(photos: Path, backbone: str, turn: Connection) -> None:
    """The usual script: torchvision's ImageFolder, RandomResizedCrop, two workers, as many photographs as `fit` has."""
    steps = [transforms.RandomResizedCrop(64), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    dataset = ImageFolder(photos, transforms.Compose([*steps, transforms.Normalize(*MEAN_STD["half"])]))
    network = build_backbone(backbone, len(dataset.classes), "imagenet")
    usual_loop(network, two_workers(Subset(dataset, range(20, len(dataset))), BATCH), torch.optim.Adam, turn)


def epochs(photos: Path, repeats: int) -> None:
    """Epochs of training: mapped against in memory, and against torchvision's loader."""
    sides: dict[str, dict[str, tuple[Any, ...]]] = {}
    for backbone in ("lenet", "resnet18"):
        mapped = (fit, fit_options("FolderDataModule", photos, backbone))
        in_memory = (fit, fit_options("folder.InMemory", photos, backbone))
        sides[f"{backbone}, mapped"] = {"mapped": mapped, "in memory": in_memory}
        sides[f"{backbone}, all"] = {"fit": mapped, "ImageFolder": (image_folder, photos, backbone)}
    rows, raw = [], {}
    for case, pair in sides.items():
        ours, other = pair
        seconds = raw[case] = processes_in_turn(pair, repeats)
        medians = {"ours s": float(np.median(seconds[ours])), "other s": float(np.median(seconds[other]))}
        ratio = median_ratio(seconds[other], seconds[ours])
        rows.append({"case": case, "ours": ours, "other": other, **medians, "ours is x times as fast": ratio})
    report("folder_epochs", rows, raw)


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CNN_COMPARE_CACHE_DIR"] = cache
        decoding(options.photos, options.repeats)
        epochs(options.photos, options.repeats)


if __name__ == "__main__":
    main()
