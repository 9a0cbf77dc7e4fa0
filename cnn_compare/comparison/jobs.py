"""Numbers of runs at the same time on this machine, and of their threads."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import psutil
import torch

from cnn_compare.backbones import Stem, count_macs, find_backbone
from cnn_compare.comparison.spec import RunSpec

# A process with its imports, and what training keeps of each pixel of a batch, between AlexNet's and DenseNet's.
PROCESS_BYTES, BYTES_PER_PIXEL = 2**30, 2**11


def work_of(spec: RunSpec) -> float:
    """The multiply-accumulates of a whole training; 0 where epochs or network are not known."""
    model, data, epochs = spec.config["model"], spec.config["data"]["init_args"], spec.config["trainer"]["max_epochs"]
    # Both are the same in all runs, unless a variant sets them: only the ratio of two runs is used.
    images = data.get("train_subset") or 50_000
    size = data.get("image_size") or max(32, find_backbone(spec.key.backbone).min_size(model["stem"]))
    macs = _macs(spec.key.backbone, size, model["num_classes"], model["stem"])
    return max(0.0, float(macs * images * (epochs or 0)))


def planned_work(spec: RunSpec) -> float:
    """`work_of`, but infinite where it is not known, as for a user's own network.

    That network is built in its own runs only: there it can hang, or end its process, and the others go on.
    """
    return (0.0 if ":" in spec.key.backbone else work_of(spec)) or math.inf


@cache
def _macs(backbone: str, image_size: int, num_classes: int, stem: Stem) -> int:
    try:
        return count_macs(backbone, image_size, num_classes, stem)
    except Exception:  # It runs the user's code, which can raise anything; the run will say what.
        return 0


def jobs_on_gpus(trainer: dict[str, Any], processes: int) -> int | None:
    """The number of runs at a time: one a GPU that torch can use; None where the runs train on the processor.

    Args:
        trainer: Arguments of the trainer.
        processes: Number of processes of each run, one a GPU.
    """
    if trainer.get("accelerator", "auto") == "cpu" or not torch.accelerator.is_available():
        return None
    # Runs that name their GPU all have the same one.
    chosen = isinstance(trainer.get("devices", "auto"), list)
    return 1 if chosen else max(1, torch.accelerator.device_count() // processes)


def jobs_on_cores(specs: Sequence[RunSpec], cores: int) -> int:
    """The number of runs at a time with which all of them end first, each with an equal share of the cores.

    Args:
        specs: The runs, in the order in which they start.
        cores: At least one; fewer are used where the memory would not suffice for so many runs.
    """
    work = [planned_work(spec) for spec in specs]
    longest = max((each for each in work if each < math.inf), default=1.0)
    work = [min(each, longest) for each in work]
    jobs = range(1, max(1, min(cores, len(specs), _runs_in_memory(specs))) + 1)
    return min(jobs, key=lambda jobs: _end(work, jobs, cores // jobs))


def _end(work: Sequence[float], jobs: int, threads: int) -> float:
    """The time at which the last run ends, each starting as soon as one of those before it has ended."""
    ends = [0.0] * jobs
    for each in work:
        # Two threads make LeNet and ResNet18 1.3 to 1.5 times as fast as one does, and so on for more.
        heapq.heapreplace(ends, ends[0] + each / threads**0.5)
    return max(ends)


def _runs_in_memory(specs: Sequence[RunSpec]) -> int:
    """The number of runs that the free memory suffices for, roughly."""
    data = [spec.config["data"]["init_args"] for spec in specs]
    pixels = max(each.get("batch_size", 128) * (each.get("image_size") or 32) ** 2 for each in data)
    return int(psutil.virtual_memory().available // (PROCESS_BYTES + BYTES_PER_PIXEL * pixels))
