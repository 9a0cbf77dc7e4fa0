"""A folder of pictures: decoding it once, and training from the mapped file.

- decoding: into the cache on all cores, against one process of Pillow and torchvision's transforms. Both sides read the
  same JPEG files, as large as those of ImageNet, and end with one uint8 array; ours is on the disk.
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
from cnn_compare.data.image_datamodule import MEAN_STD, Split
from cnn_compare.data.resident import ResidentDataset

WIDTH, HEIGHT, SIDE = 500, 375, 224
BATCH = 32
# Different files; the others are further names of theirs.
DISTINCT = 50


def write_photos(folder: Path, count: int) -> list[str]:
    """Write JPEG files of cloudy noise, which take about as many bytes as photographs; return their paths."""
    generator = np.random.default_rng(0)
    paths = [f"{number:06}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if number < DISTINCT:
            coarse = Image.fromarray(generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8))
            clouds = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
            noisy = clouds + generator.normal(0, 8, clouds.shape).astype(np.int16)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / path, quality=90)
        else:
            os.link(folder / paths[number % DISTINCT], folder / path)
    return paths


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


def decoding(folder: Path, pictures: int, repeats: int) -> None:
    """Ours against one process."""
    paths = write_photos(folder, pictures)
    sides = {"ours": lambda: ours(folder, paths), "one process": lambda: reference(folder, paths)}
    speeds = in_turn(sides, repeats)
    row = {f"{side} pictures/s": float(np.median(values)) for side, values in speeds.items()}
    ratio = median_ratio(speeds["ours"], speeds["one process"])
    report("folder_decoding", [{"case": f"{WIDTH}x{HEIGHT} JPEG to {SIDE}", **row, "ratio": ratio}], speeds)


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
    parser.add_argument("--pictures", type=int, default=5_000, help="of decoding")
    parser.add_argument("--photos", type=Path, help="train on this folder, one folder a class; without it: decoding")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["CNN_COMPARE_CACHE_DIR"] = f"{temporary}/cache"
        if options.photos:
            epochs(options.photos, options.repeats)
        else:
            decoding(Path(temporary), options.pictures, options.repeats)


if __name__ == "__main__":
    main()
