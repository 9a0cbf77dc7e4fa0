"""Images a second from storage to what the network gets, against torchvision's per-image transforms in one process.

The `DataModule`'s side is what training runs: loader, augmentation, normalisation, channels-last batches. The
reference's is what `torchvision.datasets.CIFAR10` does with `RandomCrop`, `RandomHorizontalFlip`, `ToTensor` and
`Normalize`, in a `DataLoader` without workers. The images are random, in CIFAR-10's format; what they show changes
nothing about the speed.
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
from torchvision.transforms import functional as TF

from cnn_compare.data import ImageDataModule
from cnn_compare.data.augment import CUTOUT_SIZE
from cnn_compare.data.image_datamodule import MEAN_STD
from cnn_compare.data.resident import MAX_SHIFT
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


def check(data: Noise) -> float:
    """The largest difference between our batch and the same draws through torchvision's functions, image by image."""
    data.setup("fit")
    images, _, index = next(iter(data.train_dataloader()))
    draws = data._epoch_draws(images)[index]
    expected = []
    for image, (row, column, flipped, *center) in zip(images, draws.tolist(), strict=True):
        picture = TF.pad(TF.to_pil_image(image), [MAX_SHIFT])
        picture = TF.crop(picture, row, column, 32, 32)
        picture = TF.hflip(picture) if flipped else picture
        tensor = TF.normalize(TF.to_tensor(picture), *MEAN_STD["cifar10"])
        if data.augmentation == "crop_flip_cutout":
            top, left = (c - CUTOUT_SIZE // 2 for c in center)
            tensor[:, max(top, 0) : max(top + CUTOUT_SIZE, 0), max(left, 0) : max(left + CUTOUT_SIZE, 0)] = 0
        if data.image_size != 32:
            tensor = TF.resize(tensor, [data.image_size, data.image_size], antialias=True)
        expected.append(tensor)
    return float((data.to_input(images, draws) - torch.stack(expected)).abs().max())


def main() -> None:
    """Measure, check, store."""
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
        difference = check(data)
        assert difference < 1e-5, f"{name}: off by {difference}"
        # The reference is slow enough to measure on a tenth.
        images = data.images[: options.images // 10].numpy()
        speeds = in_turn({"ours": ours(data), "torchvision": reference(images, extra)}, options.repeats)
        raw[name] = speeds
        row = {f"{side} images/s": float(np.median(values)) for side, values in speeds.items()}
        ratio = median_ratio(speeds["ours"], speeds["torchvision"])
        rows.append({"case": name, **row, "ratio": ratio, "largest difference": difference})
    report("input_pipeline", rows, raw)


if __name__ == "__main__":
    main()
