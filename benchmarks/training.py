"""A steady epoch of `cnn-compare fit`, logging, metrics, progress bar and timer on, against what a user would write.

The images are random, in CIFAR-10's format; what they show changes nothing about the speed. All sides train the same
network with the same optimiser on the same stored images in the same batches. Each has a process of its own, and they
take turns, an epoch of each.

- zoo: the loop of the popular CIFAR-10 repositories. PIL transforms (crop and flip), a `DataLoader` with two workers,
  contiguous tensors, SGD with momentum; the loss and the number of right answers are read from the device after every
  step. Also Lightning's trainer with our module, fed by the same loader.
- bare: a plain loop with Adam, which gets its batches ready-made: whatever fetching and normalising cost counts against
  `fit`. `fit` sets its process up for training (see `cnn_compare.machine.tune_process`) and fuses its optimiser; a bare
  loop that does the same is measured too.
- input: the images alone, from storage to what the network gets, against torchvision's per-image transforms; both in
  one process. That they give the same numbers is tested (tests/data/test_augment.py).

On a GPU, `fit` and the bare loop compile the network and train in bfloat16; against the zoo, `fit` does so as one more
side.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from harness import RESULTS, Turns, fit, in_turn, median_ratio, processes_in_turn, report, training_device
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cnn_compare import ClassifierModule, EpochTimer, build_backbone
from cnn_compare.backbones import Stem
from cnn_compare.callbacks import FitProgress
from cnn_compare.data import ImageDataModule
from cnn_compare.data.module import MEAN_STD
from cnn_compare.machine import now, tune_process


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


class Case(NamedTuple):
    """A network, its batches an epoch without a GPU and with one (0: not measured there), and what it trains on."""

    backbone: str
    batches: int
    on_gpu: int
    stem: Stem = "imagenet"
    image_size: int = 32


CASES = {
    "zoo": [Case("lenet", 150, 200), Case("resnet18", 4, 200, "cifar"), Case("googlenet", 20, 200)],
    "bare": [
        Case("lenet", 200, 390),
        Case("resnet18", 12, 0),
        Case("resnet18", 0, 390, "cifar"),
        Case("googlenet", 20, 390),
        Case("mobilenet_v2", 15, 390),
        Case("alexnet", 10, 0, image_size=64),
    ],
}
BATCH = 128
SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
COMPILED = ["--trainer.precision=bf16-mixed", "--trainer.benchmark=true", "--model.compile=true"]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """The optimiser of all sides of `zoo`."""
    return torch.optim.SGD(parameters, **SGD)


def loss_and_logits(network: Any, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy, that of auxiliary heads included, and the logits of the main one."""
    output = network(images)
    logits, *auxiliaries = [output] if isinstance(output, torch.Tensor) else output
    loss = F.cross_entropy(logits, labels)
    for auxiliary in auxiliaries:
        loss = loss + network.aux_loss_weight * F.cross_entropy(auxiliary, labels)
    return loss, logits


def epochs(turn: Connection, batches: Iterable[Any], step: Callable[[Any, Any], None]) -> None:
    """Take a step for each batch, an epoch whenever it is this side's turn."""
    device = training_device()
    while turn.recv():
        start = now(device)
        for images, labels in batches:
            step(images, labels)
        turn.send(now(device) - start)


def bare(case: Case, tuned: bool, turn: Connection) -> None:
    """A plain loop."""
    data = Noise(BATCH * case.batches, normalization="cifar10", image_size=case.image_size, batch_size=BATCH)
    ready_made(data, case.backbone, case.stem, tuned, turn)


def ready_made(data: ImageDataModule, backbone: str, stem: Stem, tuned: bool, turn: Connection) -> None:
    """A plain loop with Adam, whose batches lie ready in memory, as the network gets them."""
    if tuned:
        tune_process()
    else:
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # Lightning's import sets it; a plain loop has none.
    device = training_device()
    on_gpu = device.type == "cuda"
    data.setup("fit")
    batches = [(data.to_input(batch[0]).to(device), batch[1].to(device)) for batch in data.train_dataloader()]
    network = build_backbone(backbone, len(data.class_names), stem)
    network = network.to(device, memory_format=torch.channels_last).train()
    if on_gpu:
        torch.backends.cudnn.benchmark = True
        network.compile(dynamic=False)
    optimizer = torch.optim.Adam(network.parameters(), fused=tuned or None)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            loss, _ = loss_and_logits(network, images, labels)
        loss.backward()
        optimizer.step()

    epochs(turn, batches, step)


def two_workers(dataset: Any, batch_size: int) -> DataLoader[Any]:
    """The usual loader."""
    # Forked workers, as a script has them on Linux; in this spawned process the default would import torch every epoch.
    return DataLoader(dataset, batch_size, shuffle=True, num_workers=2, multiprocessing_context="fork")


def per_image(count: int, *further: Any) -> PerImage:
    """So many images with the usual transforms, and further ones."""
    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(*MEAN_STD["cifar10"]), *further])
    return PerImage(Noise(count).images[:count].numpy(), transform)


def usual_loop(network: torch.nn.Module, loader: DataLoader[Any], optimizer: Any, turn: Connection) -> None:
    """Train as popular scripts do: loss and number of right answers are read from the device after every step."""
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # Lightning's import sets it; a plain loop has none.
    device = training_device()
    torch.backends.cudnn.benchmark = True  # As the repositories have it; it does nothing without a GPU.
    network.to(device).train()
    optimizer = optimizer(network.parameters())

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss, logits = loss_and_logits(network, images, labels)
        loss.backward()
        optimizer.step()
        loss.item()
        logits.argmax(1).eq(labels).sum().item()

    epochs(turn, loader, step)


def zoo(case: Case, turn: Connection) -> None:
    """The zoos' loop."""
    usual_loop(
        build_backbone(case.backbone, 10, case.stem), two_workers(per_image(BATCH * case.batches), BATCH), sgd, turn
    )


def lightning(case: Case, turn: Connection) -> None:
    """Lightning's trainer with our module, fed by torchvision's loader."""
    tune_process()
    timer = EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1_000,
            callbacks=[Turns(turn, timer), timer, FitProgress()],
            default_root_dir=folder,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            benchmark=True,
        )
        trainer.fit(
            ClassifierModule(case.backbone, stem=case.stem, optimizer=sgd),
            two_workers(per_image(BATCH * case.batches), BATCH),
        )


def sides(against: str, case: Case) -> dict[str, tuple[Any, ...]]:
    """Name -> a function and its arguments, as `processes_in_turn` wants them."""
    on_gpu = training_device().type == "cuda"
    data = {"count": BATCH * case.batches, "normalization": "cifar10", "batch_size": BATCH}
    data |= {"image_size": case.image_size} if against == "bare" else {"augmentation": "crop_flip"}
    arguments = [f"--model.backbone={case.backbone}", f"--model.stem={case.stem}", "--data=training.Noise"]
    arguments += [f"--data.init_args.{option}={value}" for option, value in data.items()]
    if against == "bare":
        arguments += COMPILED * on_gpu
        return {"fit": (fit, arguments), "bare": (bare, case, False), "bare, tuned": (bare, case, True)}
    arguments += ["--trainer.benchmark=true", "--model.optimizer=torch.optim.SGD"]
    arguments += [f"--model.optimizer.init_args.{option}={value}" for option, value in SGD.items()]
    compiled = {"fit, compiled, bfloat16": (fit, [*arguments, *COMPILED])} if on_gpu else {}
    return {"fit": (fit, arguments), **compiled, "zoo": (zoo, case), "torchvision's loader": (lightning, case)}


def ours(augmentation: str, image_size: int, count: int) -> Callable[[], float]:
    """Seconds of an epoch through the data module."""
    data = Noise(count, normalization="cifar10", augmentation=augmentation, image_size=image_size)
    data.setup("fit")
    loader = data.train_dataloader()

    def epoch() -> float:
        loader.sampler.set_epoch(loader.sampler.epoch + 1)
        start = time.perf_counter()
        for batch in loader:
            draws = data._epoch_draws(batch[0])
            data.to_input(batch[0], {step: draws[step][batch[2]] for step in data._steps})
        return time.perf_counter() - start

    return epoch


def torchvisions(extra: list[Any], count: int) -> Callable[[], float]:
    """Seconds that as many images take through torchvision's transforms, measured on a tenth of them."""
    loader = DataLoader(per_image(count // 10, *extra), BATCH, shuffle=True)

    def epoch() -> float:
        start = time.perf_counter()
        for _ in loader:
            pass
        return 10 * (time.perf_counter() - start)

    return epoch


def input_epochs(repeats: int, count: int) -> tuple[list[dict[str, Any]], Any]:
    """Rows and seconds of `input`."""
    cases: dict[str, tuple[str, int, list[Any]]] = {
        "crop, flip, normalise": ("crop_flip", 32, []),
        "the same with cutout": ("crop_flip_cutout", 32, [transforms.RandomErasing(p=1.0)]),
        "the same, resized to 64": ("crop_flip", 64, [transforms.Resize(64, antialias=True)]),
    }
    tune_process()
    rows, raw = [], {}
    for case, (augmentation, image_size, extra) in cases.items():
        sides = {"ours": ours(augmentation, image_size, count), "torchvision": torchvisions(extra, count)}
        seconds = raw[case] = in_turn(sides, repeats)
        speeds = {f"{side} images/s": count / statistics.median(values) for side, values in seconds.items()}
        rows.append({"case": case, **speeds, "ratio": median_ratio(seconds["torchvision"], seconds["ours"])})
    return rows, raw


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("against", choices=(*CASES, "input"))
    parser.add_argument("--backbones", nargs="*", help="only these")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, help="of an epoch, instead of the network's own number")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args()
    rows, raw = [], {}
    if options.against == "input":
        rows, raw = input_epochs(options.repeats, BATCH * (options.batches or 160))
    for case in CASES.get(options.against, []):
        usual = case.on_gpu if training_device().type == "cuda" else case.batches
        if not usual or case.backbone not in (options.backbones or [case.backbone]):
            continue
        case = case._replace(batches=options.batches or usual)
        seconds = raw[case.backbone] = processes_in_turn(sides(options.against, case), options.repeats)
        images = BATCH * case.batches
        row = {f"{side} images/s": images / statistics.median(values) for side, values in seconds.items()}
        ours = [side for side in seconds if side.startswith("fit")]
        row |= {
            f"{side} / {other}": median_ratio(seconds[other], seconds[side])
            for side in ours
            for other in seconds
            if other not in ours
        }
        rows.append({"backbone": case.backbone, "stem": case.stem, **row})
    report(f"training_{options.against}", rows, raw, options.output)


if __name__ == "__main__":
    main()
