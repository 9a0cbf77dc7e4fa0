"""A steady epoch of `cnn-compare fit`, logging, metrics, progress bar and timer on, against a bare PyTorch loop.

Both train the same architecture with the same optimiser on the same stored images in the same batches, each in a
process of its own, an epoch of the one and an epoch of the other in turn. The bare loop gets its batches ready-made:
whatever fetching and normalising cost counts against `fit`. `fit` sets its process up for training (see
`cnn_compare.machine.tune_process`) and fuses its optimiser; a bare loop that does the same is measured too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from multiprocessing.connection import Connection

import torch
from harness import fit, median_ratio, processes_in_turn, report
from input_pipeline import Noise
from torch.nn import functional as F

from cnn_compare import build_backbone
from cnn_compare.machine import tune_process

# backbone: (image size, batches an epoch)
CASES = {"lenet": (32, 200), "resnet18": (32, 12), "googlenet": (32, 20), "mobilenet_v2": (32, 15), "alexnet": (64, 10)}
BATCH = 128


def bare(backbone: str, tuned: bool, turn: Connection) -> None:
    """A plain loop; an epoch whenever it is this side's turn."""
    if tuned:
        tune_process()
    else:
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # Lightning's import sets it; a plain loop has none.
    image_size, count = CASES[backbone]
    data = Noise(BATCH * count, normalization="cifar10", image_size=image_size, batch_size=BATCH)
    data.setup("fit")
    batches = [(data.to_input(batch[0]), batch[1]) for batch in data.train_dataloader()]
    network = build_backbone(backbone, 10).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), fused=tuned or None)
    while turn.recv():
        start = time.perf_counter()
        for images, labels in batches:
            optimizer.zero_grad()
            output = network(images)
            loss = F.cross_entropy(output if isinstance(output, torch.Tensor) else output[0], labels)
            for auxiliary in () if isinstance(output, torch.Tensor) else output[1:]:
                loss = loss + network.aux_loss_weight * F.cross_entropy(auxiliary, labels)
            loss.backward()
            optimizer.step()
        turn.send(time.perf_counter() - start)


def compare(backbone: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of the epochs of each side."""
    image_size, count = CASES[backbone]
    data = {"count": BATCH * count, "normalization": "cifar10", "image_size": image_size, "batch_size": BATCH}
    options = [f"--data.init_args.{option}={value}" for option, value in data.items()]
    arguments = [f"--model.backbone={backbone}", "--data=input_pipeline.Noise", *options]
    return processes_in_turn(
        {"bare": (bare, backbone, False), "bare, tuned": (bare, backbone, True), "fit": (fit, arguments)}, repeats
    )


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    rows, raw = [], {}
    for backbone in options.backbones:
        seconds = raw[backbone] = compare(backbone, options.repeats)
        images = BATCH * CASES[backbone][1]
        speeds = {f"{side} images/s": images / statistics.median(values) for side, values in seconds.items()}
        ratios = {f"fit / {side}": median_ratio(seconds[side], seconds["fit"]) for side in ("bare", "bare, tuned")}
        rows.append({"backbone": backbone, **speeds, **ratios})
    report("training_step", rows, raw)


if __name__ == "__main__":
    main()
