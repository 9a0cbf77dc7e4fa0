"""Images a second from storage to what the network gets, against torchvision's per-image transforms in one process.

The `DataModule`'s side is what training runs: loader, augmentation, normalisation, channels-last batches. The
reference's is what `torchvision.datasets.CIFAR10` does with `RandomCrop`, `RandomHorizontalFlip`, `ToTensor` and
`Normalize`, in a `DataLoader` without workers. The images are random, in CIFAR-10's format; what they show changes
nothing about the speed. That both sides give the same numbers is tested (tests/data/test_augment.py).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from harness import in_turn, median_ratio, report
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cnn_compare.data import ImageDataModule
from cnn_compare.data.image_datamodule import MEAN_STD
from cnn_compare.machine import tune_process


class Noise(ImageDataModule):
    """Random images."""

    class_names = tuple("0123456789")
    usual_val_size = 10

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(**options)
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (count + 10, 32, 32, 3), dtype=torch.uint8, generator=generator)

    def load(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images, torch.arange(len(self.images)) % 10


class PerImage(Dataset[tuple[torch.Tensor, int]]):
    """As `torchvision.datasets.CIFAR10` serves its images: an array to PIL, then the transforms."""

    def __init__(self, images: np.ndarray, transform: Any) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), index % 10


def ours(data: Noise) -> Any:
    """One epoch through the data module, as images a second."""
    data.setup("fit")
    loader = data.train_dataloader()

    def epoch() -> float:
        loader.sampler.set_epoch(loader.sampler.epoch + 1)
        start, images = time.perf_counter(), 0
        for batch in loader:
            inputs = data.to_input(batch[0], data._epoch_draws(batch[0])[batch[2]])
            images += len(inputs)
        return images / (time.perf_counter() - start)

    return epoch


def reference(images: np.ndarray, extra: list[Any]) -> Any:
    """One epoch through torchvision's transforms, as images a second."""
    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(*MEAN_STD["cifar10"]), *extra])
    loader = DataLoader(PerImage(images, transform), batch_size=128, shuffle=True)

    def epoch() -> float:
        start = time.perf_counter()
        for _ in loader:
            pass
        return len(images) / (time.perf_counter() - start)

    return epoch


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cases: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "crop, flip, normalise": ({"augmentation": "crop_flip"}, []),
        "crop, flip, normalise, cutout": ({"augmentation": "crop_flip_cutout"}, [transforms.RandomErasing(p=1.0)]),
        "crop, flip, normalise, resize to 64": (
            {"augmentation": "crop_flip", "image_size": 64},
            [transforms.Resize(64, antialias=True)],
        ),
    }
    tune_process()
    rows, raw = [], {}
    for name, (settings, extra) in cases.items():
        data = Noise(options.images, normalization="cifar10", **settings)
        # The reference is slow enough to measure on a tenth.
        images = data.images[: options.images // 10].numpy()
        speeds = in_turn({"ours": ours(data), "torchvision": reference(images, extra)}, options.repeats)
        raw[name] = speeds
        row = {f"{side} images/s": float(np.median(values)) for side, values in speeds.items()}
        ratio = median_ratio(speeds["ours"], speeds["torchvision"])
        rows.append({"case": name, **row, "ratio": ratio})
    report("input_pipeline", rows, raw)


if __name__ == "__main__":
    main()
