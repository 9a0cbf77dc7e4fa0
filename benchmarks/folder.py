"""A folder of photographs: decoding it once, training from the mapped file, and whole commands.

python benchmarks/folder.py FOLDER      # one folder a class inside; ten of them for commands

- decoding: into the cache on all cores, against one process of Pillow and torchvision's transforms. Both sides read the
  same files and end with one uint8 array; ours is on the disk.
- epochs: training from the mapped file against the same from memory; `fit` against the usual script with torchvision's
  ImageFolder, RandomResizedCrop and a DataLoader of two workers, and against a loop whose batches lie ready in memory,
  which nothing can be faster than.
- commands: from a folder to a trained network, as a new user would do it: `fit` by the recipe `photographs`,
  Ultralytics, and short scripts with torchvision's and timm's loaders. ResNet18 from random weights at 64 px, batches
  of 32, five epochs, two workers. Four pictures of five train, the fifth validates. All else is each side's default, so
  that accuracies show only that each learns. Needs ``pip install ultralytics timm``.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import ROOT, fit, in_turn, median_ratio, processes_in_turn, report
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as TF
from training import ready_made, two_workers, usual_loop

from cnn_compare import FolderDataModule, build_backbone
from cnn_compare.data.cache import clear_cache, decoded
from cnn_compare.data.decode import Decoding
from cnn_compare.data.module import MEAN_STD, LoadedSplit
from cnn_compare.data.order import ResidentDataset

SIDE, BATCH = 224, 32
SIZE, EPOCHS = 64, 5  # of training
RANDOM = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
FIXED = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE)]
LAST = [transforms.ToTensor(), transforms.Normalize(*MEAN_STD["half"])]
# Ultralytics' own file of this network, without its pretrained weights.
YOLO_NETWORK = """nc: 10
backbone: [[-1, 1, TorchVision, [512, resnet18, null, True, 2]]]
head: [[-1, 1, Classify, [nc]]]
"""
COMMANDS = {
    "fit": [
        *("-m", "cnn_compare", "fit", "--recipe=photographs", "--data.data_dir=photos", f"--data.image_size={SIZE}"),
        *(f"--data.batch_size={BATCH}", "--model.backbone=resnet18", f"--trainer.max_epochs={EPOCHS}"),
    ],
    "Ultralytics": [
        *("-c", "from ultralytics.cfg import entrypoint; entrypoint()"),
        *("classify", "train", "model=resnet18.yaml", "pretrained=False", "data=photos", "amp=False", "device=cpu"),
        *(f"imgsz={SIZE}", f"batch={BATCH}", f"epochs={EPOCHS}", "workers=2", "project=runs", "name=it"),
    ],
    "ImageFolder": [__file__, "photos", "--loop=ImageFolder"],
    "timm": [__file__, "photos", "--loop=timm"],
}


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

    def _make_splits(self, loaded: LoadedSplit) -> dict[str, ResidentDataset]:
        splits = super()._make_splits(loaded)
        images = splits["train"].images.clone()
        return {name: ResidentDataset(images, split.labels, split.subset) for name, split in splits.items()}


def fit_options(data_module: str, photos: Path, backbone: str) -> list[str]:
    """`fit` with all photographs but the fewest that validation and test can have."""
    options = [f"--data={data_module}", f"--data.data_dir={photos}", "--data.test_size=10", "--data.val_size=10"]
    options += [f"--data.image_size={SIZE}", f"--data.batch_size={BATCH}", "--data.augmentation=[resized_crop,flip]"]
    return [*options, f"--model.backbone={backbone}"]


def image_folder(photos: Path, backbone: str, turn: Connection) -> None:
    """The usual script: torchvision's ImageFolder, RandomResizedCrop, two workers, as many photographs as `fit` has."""
    dataset = ImageFolder(photos, transforms.Compose([*RANDOM, *LAST]))
    network = build_backbone(backbone, len(dataset.classes), "imagenet")
    usual_loop(network, two_workers(Subset(dataset, range(20, len(dataset))), BATCH), torch.optim.Adam, turn)


def ready(photos: Path, backbone: str, turn: Connection) -> None:
    """A loop that only trains, with the settings that `fit` gives its process."""
    data = FolderDataModule(photos, test_size=10, val_size=10, image_size=SIZE, batch_size=BATCH)
    ready_made(data, backbone, "imagenet", True, turn)


def epochs(photos: Path, repeats: int) -> None:
    """Epochs of training: mapped against in memory, against torchvision's loader, and against training alone."""
    rows, raw = [], {}
    for backbone in ("lenet", "resnet18"):
        sides: dict[str, tuple[Any, ...]] = {
            "fit": (fit, fit_options("FolderDataModule", photos, backbone)),
            "fit, in memory": (fit, fit_options("folder.InMemory", photos, backbone)),
            "ImageFolder": (image_folder, photos, backbone),
            "training alone": (ready, photos, backbone),
        }
        seconds = raw[backbone] = processes_in_turn(sides, repeats)
        for side, of_side in seconds.items():
            ratio = median_ratio(of_side, seconds["fit"])
            rows.append({"network": backbone, "side": side, "s": statistics.median(of_side), "as long as fit": ratio})
    report("folder_epochs", rows, raw)


def loaders(kind: str, photos: Path) -> list[Any]:
    """Training and validation batches, from torchvision or timm."""
    if kind == "timm":
        from timm.data import create_dataset, create_loader

        options = {"num_workers": 2, "use_prefetcher": False, "device": torch.device("cpu")}
        pairs = [(create_dataset("", root=photos, split=split), split == "train") for split in ("train", "val")]
        return [create_loader(dataset, SIZE, BATCH, is_training=training, **options) for dataset, training in pairs]
    steps = {"train": RANDOM + LAST, "val": FIXED + LAST}
    return [two_workers(ImageFolder(photos / split, transforms.Compose(steps[split])), BATCH) for split in steps]


def loop(kind: str, photos: Path) -> None:
    """Train and validate as a short script does; print the best epoch's accuracy."""
    train, val = loaders(kind, photos)
    network = build_backbone("resnet18", 10, "imagenet")
    optimizer = torch.optim.Adam(network.parameters())
    best = 0.0
    for _ in range(EPOCHS):
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            right = [network(images).argmax(1) == labels for images, labels in val]
        best = max(best, 100 * torch.cat(right).float().mean().item())
    print(f"validation accuracy {best:.2f} %")


def command(photos: Path, name: str, accuracies: dict[str, float]) -> float:
    """Seconds of a command that reads every fifth picture of a class as ``val``, which is ``test`` as well."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number, path in enumerate(sorted(photos.glob("*/*"))):
            link = folder / "photos" / ("train" if number % 5 else "val") / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        (folder / "photos" / "test").symlink_to("val")
        (folder / "resnet18.yaml").write_text(YOLO_NETWORK)
        paths = {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "CNN_COMPARE_CACHE_DIR": f"{place}/cache"}
        environment = {**os.environ, **paths, "YOLO_CONFIG_DIR": place, "YOLO_OFFLINE": "1"}
        called = [sys.executable, *COMMANDS[name]]
        start = time.perf_counter()
        done = subprocess.run(called, check=True, capture_output=True, text=True, cwd=folder, env=environment)
        seconds = time.perf_counter() - start
        # Ultralytics leaves a table, the others print the best epoch's accuracy.
        if tables := [*folder.glob("**/results.csv")]:
            rows = csv.DictReader(tables[0].open())
            accuracies[name] = 100 * max(float(row["metrics/accuracy_top1"]) for row in rows)
        else:
            accuracies[name] = float(re.findall(r"validation accuracy (\S+) %", done.stdout)[-1])
    return seconds


def commands(photos: Path, repeats: int) -> None:
    """Whole commands, with the accuracies of the last round."""
    accuracies: dict[str, float] = {}
    sides = {name: partial(command, photos, name, accuracies) for name in COMMANDS}
    raw = in_turn(sides, repeats, warm_up=0)
    rows = []
    for name, seconds in raw.items():
        row = {"command": name, "s": statistics.median(seconds), "as long as fit": median_ratio(seconds, raw["fit"])}
        rows.append({**row, "validation accuracy %": accuracies[name]})
    report("folder_commands", rows, raw)


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=(decoding.__name__, epochs.__name__, commands.__name__), action="append")
    parser.add_argument("--loop", choices=("ImageFolder", "timm"), help="train, as one side of commands")
    options = parser.parse_args()
    if options.loop:
        loop(options.loop, options.photos)
        return
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CNN_COMPARE_CACHE_DIR"] = cache
        for part in (decoding, epochs, commands):
            if part.__name__ in (options.only or [part.__name__]):
                part(options.photos, options.repeats)


if __name__ == "__main__":
    main()
