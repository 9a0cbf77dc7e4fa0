"""`fit` against the loop that CIFAR-10 zoos train with, and against the same module fed by torchvision's loader.

The zoo's loop, as the popular repositories have it: `torchvision.datasets.CIFAR10` with PIL transforms, a `DataLoader`
with two workers, contiguous tensors, the loss and the number of right answers read from the device after every step.
Same network, batch, augmentation (crop and flip) and optimiser (SGD with momentum) on both sides; an epoch of each in
turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from harness import in_turn, median_ratio, report
from input_pipeline import Noise, PerImage
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms

from cnn_compare import ClassifierModule, EpochTimer, build_backbone
from cnn_compare.backbones import Stem
from cnn_compare.data.image_datamodule import MEAN_STD

# backbone, stem, batches an epoch
CASES: list[tuple[str, Stem, int]] = [
    ("lenet", "imagenet", 150),
    ("resnet18", "cifar", 4),
    ("googlenet", "imagenet", 20),
]
BATCH = 128


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """The optimiser of both sides."""
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4)


def torchvision_loader(images: torch.Tensor, workers: int) -> DataLoader[Any]:
    """The usual pipeline."""
    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    dataset = PerImage(images.numpy(), transforms.Compose([*steps, transforms.Normalize(*MEAN_STD["cifar10"])]))
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers)


def zoo_epoch(backbone: str, stem: Stem, images: torch.Tensor) -> Callable[[], float]:
    """Seconds of an epoch of the zoos' loop."""
    network, loader = build_backbone(backbone, 10, stem).train(), torchvision_loader(images, workers=2)
    optimizer = sgd(network.parameters())

    def epoch() -> float:
        start = time.perf_counter()
        train_loss, correct, total = 0.0, 0, 0
        for inputs, targets in loader:
            optimizer.zero_grad()
            output = network(inputs)
            logits = output if isinstance(output, torch.Tensor) else output[0]
            loss = F.cross_entropy(logits, targets)
            for auxiliary in () if isinstance(output, torch.Tensor) else output[1:]:
                loss = loss + network.aux_loss_weight * F.cross_entropy(auxiliary, targets)
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
            total += targets.size(0)
            correct += logits.argmax(1).eq(targets).sum().item()
        return time.perf_counter() - start

    return epoch


def fit_epoch(backbone: str, stem: Stem, data: Any) -> Callable[[], float]:
    """Seconds of the second epoch of a `fit`; its first one warms up."""

    def epoch() -> float:
        timer = EpochTimer()
        with tempfile.TemporaryDirectory() as folder:
            trainer = L.Trainer(
                max_epochs=2,
                callbacks=[timer],
                default_root_dir=folder,
                enable_checkpointing=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                log_every_n_steps=1,
            )
            trainer.fit(ClassifierModule(backbone, stem=stem, optimizer=sgd), data)
        return timer.train_epoch_s[1]

    return epoch


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="*", default=[name for name, _, _ in CASES])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows, raw = [], {}
    for backbone, stem, count in CASES:
        if backbone not in options.backbones:
            continue
        data: Any = Noise(BATCH * count, normalization="cifar10", augmentation="crop_flip", batch_size=BATCH)
        images = data.images[: BATCH * count]
        seconds = in_turn(
            {
                "fit": fit_epoch(backbone, stem, data),
                "zoo loop": zoo_epoch(backbone, stem, images),
                "fit with torchvision's loader": fit_epoch(backbone, stem, torchvision_loader(images, workers=2)),
            },
            options.repeats,
        )
        raw[backbone] = seconds
        speeds = {f"{side} images/s": BATCH * count / statistics.median(values) for side, values in seconds.items()}
        against = {
            "fit / zoo": median_ratio(seconds["zoo loop"], seconds["fit"]),
            "fit / fit with torchvision": median_ratio(seconds["fit with torchvision's loader"], seconds["fit"]),
        }
        rows.append({"backbone": backbone, "stem": stem, **speeds, **against})
    report("peers", rows, raw)


if __name__ == "__main__":
    main()
