"""Times, measured: of backbones on their own (`profile`), and of trainings that take turns (`take_turns`)."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from cnn_compare.backbones import Stem, build_backbone, count_macs, count_parameters, find_backbone
from cnn_compare.configs import as_list
from cnn_compare.errors import InvalidValueError
from cnn_compare.files import write_json
from cnn_compare.formatting import format_list
from cnn_compare.machine import PeakMemory, describe_device, now, tune_process
from cnn_compare.times import ratio_uncertainty

T = TypeVar("T")

TRAIN_BATCH, INFERENCE_BATCH = 128, 256
# Repetitions for a median, and the limit of their total time.
REPEATS, SECONDS = 20, 5.0

# Turns end once the ratio of any two is known to this share.
UNCERTAINTY = 0.05
# Two rounds may agree by chance, and fewer than these give no interval worth the name, also when the time is over.
LEAST_ROUNDS = 5
# In the time that there is. Longer turns than this average no better, because the machine's speed wanders more slowly.
USUAL_ROUNDS, LONGEST_TURN_S = 12, 1.0


@dataclass(frozen=True)
class Profile:
    """The measured costs of one backbone; names end in units; ``predict_ms`` is for one image."""

    backbone: str
    stem: str
    image_size: int
    params: int
    macs: int
    weight_bytes: int
    train_images_per_s: float
    predict_ms: float
    inference_images_per_s: float
    peak_memory_bytes: int
    train_bf16_images_per_s: float
    inference_bf16_images_per_s: float
    device: str


def profile(
    backbones: Sequence[str] | str, image_size: int = 32, stem: Stem = "imagenet", output: str = "profile.json"
) -> list[Profile]:
    """Measure each backbone in its own process: training at batch size 128, inference at 1 and 256.

    They are in float32, and the speeds also in bf16, as with ``trainer.precision=bf16-mixed``.

    Args:
        backbones: Names, as `build_backbone` takes them, or one name.
        image_size: Height and width of the images, in pixels.
        stem: ``imagenet`` or ``cifar``.
        output: JSON file for the results.

    Raises:
        UnknownBackboneError: If a backbone does not exist.
        UsageError: If the images are too small for one.
        InvalidValueError: If there are no names, or ``output`` is a folder.
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
        profiles = [pool.submit(profile_one, name, image_size, stem).result() for name in backbones]
    write_json(Path(output), [asdict(each) for each in profiles])
    return profiles


def profile_one(backbone: str, image_size: int, stem: Stem) -> Profile:
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

    def train(bf16: bool = False) -> torch.Tensor:
        return train_step(network, optimizer, train_batch, labels, bf16)

    def median_s(step: Callable[[], object]) -> float:
        return statistics.median(seconds_of(step, device))

    train_s = median_s(train)
    network.eval()
    with torch.inference_mode():
        single, many = images(1), images(INFERENCE_BATCH)
        predict_s = median_s(lambda: network(single))
        inference_s = median_s(lambda: network(many))
    peak_memory_bytes = memory.bytes(device)
    network.train()
    train_bf16_s = median_s(lambda: train(bf16=True))
    network.eval()
    with torch.inference_mode():
        inference_bf16_s = median_s(in_bf16(lambda: network(many), device))
    return Profile(
        backbone=backbone,
        stem=stem,
        image_size=image_size,
        params=count_parameters(network),
        macs=count_macs(backbone, image_size, 10, stem),
        weight_bytes=sum(tensor.nbytes for tensor in network.state_dict().values()),
        train_images_per_s=TRAIN_BATCH / train_s,
        predict_ms=1000 * predict_s,
        inference_images_per_s=INFERENCE_BATCH / inference_s,
        peak_memory_bytes=peak_memory_bytes,
        train_bf16_images_per_s=TRAIN_BATCH / train_bf16_s,
        inference_bf16_images_per_s=INFERENCE_BATCH / inference_bf16_s,
        device=describe_device(device),
    )


def train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, bf16: bool
) -> torch.Tensor:
    """One optimiser step on a batch, as Lightning makes it with ``32-true`` or ``bf16-mixed``; returns the loss."""
    optimizer.zero_grad()
    # Around this step alone: until its outermost exit, autocast keeps copies of the weights, which steps leave stale.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        output = network(images)
        logits = output if isinstance(output, torch.Tensor) else output[0]
        loss = F.cross_entropy(logits, labels)
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.detach()


def in_bf16(step: Callable[[], T], device: torch.device) -> Callable[[], T]:
    """A step in bf16, in a context of its own each time, so that it converts the weights as every use does."""

    def run() -> T:
        with torch.autocast(device.type, torch.bfloat16):
            return step()

    return run


def seconds_of(step: Callable[[], object], device: torch.device) -> list[float]:
    """Durations of 20 single steps, or of those that there is time for, without two warm-up steps."""
    end, seconds = time.perf_counter() + SECONDS, list[float]()
    # At least three after the warm-up.
    while len(seconds) < 5 or (len(seconds) < REPEATS + 2 and time.perf_counter() < end):
        seconds.append(burst(step, device))
    return seconds[2:]


def bf16_in_words(ratios: Mapping[str, Mapping[str, float]]) -> str:
    """A sentence about when bf16 pays on this machine.

    Args:
        ratios: ``training`` or the like -> network -> how many times as fast it was in bf16 as in float32.
    """
    parts = []
    for what, by_network in ratios.items():
        paying = {name: ratio for name, ratio in by_network.items() if ratio > 1}
        least, most = (f"{end(paying.values(), default=1):.2g}" for end in (min, max))
        times = least if least == most else f"{least} to {most}"
        names = "all" if len(paying) == len(by_network) > 1 else format_list([*paying]) if paying else "none"
        parts.append(f"in {what} for {names}" + (f" ({times} times as fast as float32)" if paying else ""))
    return f"bf16 pays here {' and '.join(parts)}."


def burst(step: Callable[[], object], device: torch.device, steps: int = 1) -> float:
    """Seconds a step takes, on average over so many in a row; the device is waited for at both ends alone."""
    start = now(device)
    for _ in range(steps):
        step()
    return (now(device) - start) / steps


def take_turns(bursts: Mapping[str, Callable[[int], float]], limit_s: float) -> dict[str, list[float]]:
    """Let trainings take turns on the device until the ratio between any two is known to 5 %, or the time is over.

    In every round each has one turn, in a shuffled order: what slows the machine down for a while then hits them all
    alike, and cancels in the ratios of one round. To stop once the interval is narrow makes it a little too narrow: in
    simulations it held the true ratio in 92.6 to 95.5 % of 4,000 measurements, with turns that vary by 1 to 20 %.

    Args:
        bursts: Name -> what makes so many steps, and returns the seconds that one took.
        limit_s: After so many seconds the last round begins, if there have been five by then.

    Returns:
        Name -> seconds a step, one value a round.
    """
    end = time.perf_counter() + limit_s
    # The first burst is slower: memory is allocated, and kernels are chosen or compiled.
    usual = {name: [make(1) for _ in range(2)][-1] for name, make in bursts.items()}
    turn_s = min(LONGEST_TURN_S, limit_s / len(bursts) / USUAL_ROUNDS)
    steps = {name: max(1, round(turn_s / seconds)) for name, seconds in usual.items()}
    order, shuffle = list(bursts), random.Random(0).shuffle  # noqa: S311, it keeps no secret
    rounds: dict[str, list[float]] = {name: [] for name in bursts}
    for done in itertools.count():
        if done >= LEAST_ROUNDS and (time.perf_counter() >= end or ratio_uncertainty(rounds.values()) <= UNCERTAINTY):
            break
        shuffle(order)
        for name in order:
            rounds[name].append(bursts[name](steps[name]))
    return rounds
