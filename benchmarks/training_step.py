"""A steady epoch of `cnn-compare fit`, logging, metrics, progress bar and timer on, against a bare PyTorch loop.

Both train the same architecture with the same optimiser on the same stored images in the same batches, each in a
process of its own, an epoch of the one and an epoch of the other in turn. The bare loop gets its batches ready-made:
whatever fetching and normalising cost counts against `fit`. `fit` sets its process up for training (see
`cnn_compare.machine.tune_process`) and fuses its optimiser; a bare loop that does the same is measured too.
On a GPU all sides compile the network and train in bfloat16.
"""

from __future__ import annotations

import argparse
import os
import statistics
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from harness import RESULTS, fit, median_ratio, processes_in_turn, report
from input_pipeline import Noise
from machine import training_device
from torch.nn import functional as F

from cnn_compare import build_backbone
from cnn_compare.backbones import Stem
from cnn_compare.machine import now, tune_process


class Case(NamedTuple):
    """A network, and how long its epoch is."""

    batches: int
    stem: Stem = "imagenet"
    image_size: int = 32


CASES = {
    "cpu": {
        "lenet": Case(200),
        "resnet18": Case(12),
        "googlenet": Case(20),
        "mobilenet_v2": Case(15),
        "alexnet": Case(10, image_size=64),
    },
    "cuda": {"lenet": Case(390), "resnet18": Case(390, "cifar"), "googlenet": Case(390), "mobilenet_v2": Case(390)},
}
BATCH = 128
COMPILED = ["--trainer.precision=bf16-mixed", "--trainer.benchmark=true", "--model.compile=true"]


def bare(backbone: str, case: Case, tuned: bool, turn: Connection) -> None:
    """A plain loop; an epoch whenever it is this side's turn."""
    if tuned:
        tune_process()
    else:
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # Lightning's import sets it; a plain loop has none.
    device = training_device()
    on_gpu = device.type == "cuda"
    data = Noise(BATCH * case.batches, normalization="cifar10", image_size=case.image_size, batch_size=BATCH)
    data.setup("fit")
    batches = [(data.to_input(batch[0]).to(device), batch[1].to(device)) for batch in data.train_dataloader()]
    network = build_backbone(backbone, 10, case.stem).to(device, memory_format=torch.channels_last).train()
    if on_gpu:
        torch.backends.cudnn.benchmark = True
        network.compile(dynamic=False)
    optimizer = torch.optim.Adam(network.parameters(), fused=tuned or None)
    while turn.recv():
        start = now(device)
        for images, labels in batches:
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
                output = network(images)
                loss = F.cross_entropy(output if isinstance(output, torch.Tensor) else output[0], labels)
                for auxiliary in () if isinstance(output, torch.Tensor) else output[1:]:
                    loss = loss + network.aux_loss_weight * F.cross_entropy(auxiliary, labels)
            loss.backward()
            optimizer.step()
        turn.send(now(device) - start)


def compare(backbone: str, case: Case, repeats: int) -> dict[str, list[float]]:
    """Seconds of the epochs of each side."""
    data = {"count": BATCH * case.batches, "image_size": case.image_size, "batch_size": BATCH}
    options = [f"--data.init_args.{option}={value}" for option, value in data.items()]
    arguments = [f"--model.backbone={backbone}", f"--model.stem={case.stem}", "--data=input_pipeline.Noise", *options]
    arguments += ["--data.init_args.normalization=cifar10", *(COMPILED if training_device().type == "cuda" else [])]
    sides = {"bare": (bare, backbone, case, False), "bare, tuned": (bare, backbone, case, True)}
    return processes_in_turn({**sides, "fit": (fit, arguments)}, repeats)


def main() -> None:
    """Measure and store."""
    cases = CASES[training_device().type]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="*", default=list(cases), choices=list(cases))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batches", type=int, help="of an epoch, instead of the network's own number")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args()
    rows, raw = [], {}
    for backbone in options.backbones:
        case = cases[backbone]._replace(**({"batches": options.batches} if options.batches else {}))
        seconds = raw[backbone] = compare(backbone, case, options.repeats)
        images = BATCH * case.batches
        speeds = {f"{side} images/s": images / statistics.median(values) for side, values in seconds.items()}
        ratios = {f"fit / {side}": median_ratio(seconds[side], seconds["fit"]) for side in ("bare", "bare, tuned")}
        rows.append({"backbone": backbone, **speeds, **ratios})
    report("training_step", rows, raw, options.output)


if __name__ == "__main__":
    main()
