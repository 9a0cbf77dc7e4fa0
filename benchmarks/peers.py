"""`fit` against the loop that CIFAR-10 zoos train with, and against the same module fed by torchvision's loader.

The zoo's loop, as the popular repositories have it: `torchvision.datasets.CIFAR10` with PIL transforms, a `DataLoader`
with two workers, contiguous tensors, the loss and the number of right answers read from the device after every step.
Same network, batch, augmentation (crop and flip) and optimiser (SGD with momentum) on both sides; an epoch of each in
turn, each side in a process of its own. On a GPU, `fit` is also measured compiled and in bfloat16.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import torch
from harness import RESULTS, Turns, fit, median_ratio, processes_in_turn, report
from input_pipeline import Noise, PerImage
from machine import training_device
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from training_step import COMPILED

from cnn_compare import ClassifierModule, EpochTimer, build_backbone
from cnn_compare.backbones import Stem
from cnn_compare.callbacks import ThrottledProgressBar
from cnn_compare.data.image_datamodule import MEAN_STD
from cnn_compare.machine import now, tune_process

# backbone, stem, batches an epoch without a GPU and with one
CASES: list[tuple[str, Stem, int, int]] = [
    ("lenet", "imagenet", 150, 200),
    ("resnet18", "cifar", 4, 200),
    ("googlenet", "imagenet", 20, 200),
]
BATCH = 128
SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """The optimiser of both sides."""
    return torch.optim.SGD(parameters, **SGD)


def torchvision_loader(images: torch.Tensor, workers: int) -> DataLoader[Any]:
    """The usual pipeline."""
    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    dataset = PerImage(images.numpy(), transforms.Compose([*steps, transforms.Normalize(*MEAN_STD["cifar10"])]))
    # Forked workers, as a script has them on Linux; in this spawned process the default would import torch every epoch.
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers, multiprocessing_context="fork")


def zoo(backbone: str, stem: Stem, count: int, turn: Connection) -> None:
    """The zoos' loop, an epoch a turn."""
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # Lightning's import sets it; a plain loop has none.
    device = training_device()
    torch.backends.cudnn.benchmark = True  # As the repositories have it; it does nothing without a GPU.
    network = build_backbone(backbone, 10, stem).to(device).train()
    loader = torchvision_loader(Noise(BATCH * count).images[: BATCH * count], workers=2)
    optimizer = sgd(network.parameters())
    while turn.recv():
        start = now(device)
        train_loss, correct, total = 0.0, 0, 0
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
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
        turn.send(now(device) - start)


def fit_with_torchvision(backbone: str, stem: Stem, count: int, turn: Connection) -> None:
    """The same module under the same trainer, fed by torchvision's loader."""
    tune_process()
    timer = EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1_000,
            callbacks=[Turns(turn, timer), timer, ThrottledProgressBar()],
            default_root_dir=folder,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            benchmark=True,
        )
        loader = torchvision_loader(Noise(BATCH * count).images[: BATCH * count], workers=2)
        trainer.fit(ClassifierModule(backbone, stem=stem, optimizer=sgd), loader)


def compare(backbone: str, stem: Stem, count: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of the epochs of each side."""
    data = {"count": BATCH * count, "normalization": "cifar10", "augmentation": "crop_flip", "batch_size": BATCH}
    model = {"backbone": backbone, "stem": stem, "optimizer": "torch.optim.SGD"}
    arguments = ["--trainer.benchmark=true", *(f"--model.{option}={value}" for option, value in model.items())]
    arguments += [f"--model.optimizer.init_args.{option}={value}" for option, value in SGD.items()]
    arguments += [
        "--data=input_pipeline.Noise",
        *(f"--data.init_args.{option}={value}" for option, value in data.items()),
    ]
    sides = {
        "fit": (fit, arguments),
        "zoo loop": (zoo, backbone, stem, count),
        "fit with torchvision's loader": (fit_with_torchvision, backbone, stem, count),
    }
    if training_device().type == "cuda":
        sides["fit, compiled, bfloat16"] = (fit, [*arguments, *COMPILED])
    return processes_in_turn(sides, repeats)


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="*", default=[case[0] for case in CASES])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", type=int, help="of an epoch, instead of the network's own number")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args()
    rows, raw = [], {}
    for backbone, stem, on_cpu, on_gpu in CASES:
        if backbone not in options.backbones:
            continue
        count = options.batches or (on_gpu if training_device().type == "cuda" else on_cpu)
        seconds = raw[backbone] = compare(backbone, stem, count, options.repeats)
        speeds = {f"{side} images/s": BATCH * count / statistics.median(values) for side, values in seconds.items()}
        against = {
            f"{side} / zoo": median_ratio(seconds["zoo loop"], seconds[side])
            for side in ("fit", "fit, compiled, bfloat16")
            if side in seconds
        }
        against |= {
            "fit / fit with torchvision": median_ratio(seconds["fit with torchvision's loader"], seconds["fit"]),
        }
        rows.append({"backbone": backbone, "stem": stem, **speeds, **against})
    report("peers", rows, raw, options.output)


if __name__ == "__main__":
    main()
