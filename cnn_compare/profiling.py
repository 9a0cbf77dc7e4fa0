"""Speed, latency and memory of backbones on this machine, without training them."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from cnn_compare.backbones import Stem, build_backbone, count_macs, count_parameters, find_backbone
from cnn_compare.configs import as_list
from cnn_compare.errors import InvalidValueError
from cnn_compare.files import write_text
from cnn_compare.machine import PeakMemory, describe_device, tune_process

TRAIN_BATCH, INFERENCE_BATCH = 128, 256
# Repetitions for a median, and the limit of their total time.
REPEATS, SECONDS = 20, 5.0


@dataclass(frozen=True)
class Profile:
    """The measured costs of one backbone; names end in units, latencies are for one image."""

    backbone: str
    stem: str
    image_size: int
    params: int
    macs: int
    weight_bytes: int
    train_images_per_s: float
    latency_p50_ms: float
    latency_p90_ms: float
    inference_images_per_s: float
    peak_memory_bytes: int
    device: str


def profile(
    backbones: Sequence[str] | str, image_size: int = 32, stem: Stem = "imagenet", output: str = "profile.json"
) -> list[Profile]:
    """Measure each backbone in its own process: training at batch size 128, inference at 1 and 256.

    Args:
        backbones: Names, as `build_backbone` takes them, or one name.
        image_size: Height and width of the images, in pixels.
        stem: ``imagenet`` or ``cifar``.
        output: JSON file for the results.

    Raises:
        UnknownBackboneError: If a backbone does not exist.
        ImageTooSmallError: If the images are too small for one.
    """
    backbones = as_list(backbones)
    if not backbones:
        raise InvalidValueError("backbones", list(backbones), "a list of at least one name")
    if image_size < 1:
        raise InvalidValueError("image_size", image_size, "at least 1")
    for name in backbones:
        find_backbone(name).require_image_size(stem, image_size, "image_size", "stem")
    if Path(output).is_dir():
        raise InvalidValueError("output", output, "a file, and not a folder")
    Path(output).parent.mkdir(parents=True, exist_ok=True)  # Before the measurements, in case it cannot be made.
    # A fresh process each: the memory peak of one network would hide that of the next.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        profiles = [pool.submit(measure, name, image_size, stem).result() for name in backbones]
    write_text(Path(output), json.dumps([asdict(profile) for profile in profiles], indent=2) + "\n")
    return profiles


def measure(backbone: str, image_size: int, stem: Stem) -> Profile:
    """Measure one backbone, on the GPU if there is one; meant for a fresh process."""
    tune_process()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    memory = PeakMemory()
    network = build_backbone(backbone, 10, stem).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def images(count: int) -> torch.Tensor:
        return torch.randn(count, 3, image_size, image_size, device=device).to(memory_format=torch.channels_last)

    train_batch, labels = images(TRAIN_BATCH), torch.randint(10, (TRAIN_BATCH,), device=device)
    network.train()
    train_s = statistics.median(_seconds(lambda: _train_step(network, optimizer, train_batch, labels), device))
    network.eval()
    with torch.inference_mode():
        single, many = images(1), images(INFERENCE_BATCH)
        latencies = sorted(_seconds(lambda: network(single), device))
        inference_s = statistics.median(_seconds(lambda: network(many), device))
    return Profile(
        backbone=backbone,
        stem=stem,
        image_size=image_size,
        params=count_parameters(network),
        macs=count_macs(backbone, image_size, 10, stem),
        weight_bytes=sum(tensor.nbytes for tensor in network.state_dict().values()),
        train_images_per_s=TRAIN_BATCH / train_s,
        latency_p50_ms=1000 * statistics.median(latencies),
        latency_p90_ms=1000 * latencies[int(0.9 * (len(latencies) - 1))],
        inference_images_per_s=INFERENCE_BATCH / inference_s,
        peak_memory_bytes=memory.bytes(device),
        device=describe_device(device),
    )


def _train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> None:
    optimizer.zero_grad()
    output = network(images)
    logits = output if isinstance(output, torch.Tensor) else output[0]
    torch.autograd.backward(F.cross_entropy(logits, labels))
    optimizer.step()


def _seconds(step: Callable[[], object], device: torch.device) -> list[float]:
    """Durations of single steps, without two warm-up steps."""
    return list(_timed(step, device))[2:]


def _timed(step: Callable[[], object], device: torch.device) -> Iterator[float]:
    end = time.perf_counter() + SECONDS
    done = 0
    # At least three after the warm-up, then as many as there is time for.
    while done < 5 or (done < REPEATS + 2 and time.perf_counter() < end):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield time.perf_counter() - start
        done += 1
