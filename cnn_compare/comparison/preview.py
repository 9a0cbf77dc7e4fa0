"""The runs of a command, and about how long they take; nothing is run or changed."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Sequence
from functools import cache

import torch

from cnn_compare.backbones import Stem, build_backbone, find_backbone
from cnn_compare.comparison.existing import Existing
from cnn_compare.comparison.jobs import work_of
from cnn_compare.comparison.runner import finished_earlier
from cnn_compare.comparison.spec import RunSpec
from cnn_compare.data import CIFAR10DataModule, DigitsDataModule, FolderDataModule
from cnn_compare.experiment import make_data
from cnn_compare.formatting import format_duration
from cnn_compare.profiling import train_step

TIMED_S, NETWORK_TIMED_S = 8.0, 1.0
"""For so long, at most, steps of all networks together, and of one of them, are timed."""
Key = tuple[str, Stem, int, int]


def preview(specs: Sequence[RunSpec], existing: Existing) -> list[dict[str, str]]:
    """A row for each planned run: its network, images, seed and fold, what happens to it, and about how long it trains.

    A network that has finished with another seed and as many images gives the time. Of others a few training steps are
    timed, and the images and epochs give the rest; a user's own network is not built here, and takes the time of its
    multiply-accumulates.
    """
    work = {spec.key: work_of(spec) for spec in specs}
    measured: dict[tuple[str, int | None], list[float]] = {}
    s_per_mac: list[float] = []
    for spec in specs:
        result = existing.results.get(spec.key)
        fit_s = result.value("fit_s") if result else None
        if fit_s is not None:
            measured.setdefault((spec.key.network, spec.key.train_subset), []).append(fit_s)
            if work[spec.key]:
                s_per_mac.append(fit_s / work[spec.key])
    missing = {
        _key(spec): spec
        for spec in specs
        if spec.key not in existing.results
        and (spec.key.network, spec.key.train_subset) not in measured
        and ":" not in spec.key.backbone
    }
    timed = dict(zip(missing, seconds_per_image([*missing.values()]), strict=True))
    for key, spec in missing.items():
        if work[spec.key] and (seconds := timed[key] * _images_shown(spec)) > 0:  # Not NaN either.
            s_per_mac.append(seconds / work[spec.key])
    rows = []
    for spec in specs:
        macs = work[spec.key]
        if spec.key in existing.results:
            what, how_long = finished_earlier(existing.results[spec.key]), ""
        else:
            kept = not any(spec.folder.path.is_relative_to(path) for path in existing.remove)
            resumes = kept and (spec.folder.checkpoints / spec.folder.LAST).exists()
            what = "goes on from its last checkpoint" if resumes else "is trained"
            if alike := measured.get((spec.key.network, spec.key.train_subset)):
                how_long = f"{format_duration(statistics.median(alike))}, as with other runs"
            elif (per_image := timed.get(_key(spec), math.nan)) > 0 and (shown := _images_shown(spec)):
                how_long = f"roughly {format_duration(per_image * shown)}, by a few steps"
            elif macs and s_per_mac:
                how_long = f"roughly {format_duration(macs * statistics.median(s_per_mac))}, by its MACs"
            else:
                how_long = "unknown"
        which = {"network": spec.key.network}
        which |= {} if spec.key.train_subset is None else {"training images": f"{spec.key.train_subset:,}"}
        which |= {"seed": str(spec.key.seed)}
        which |= {} if spec.key.fold is None else {"fold": str(spec.key.fold)}
        rows.append({**which, "run": what, "training": how_long})
    return rows


def _key(spec: RunSpec) -> Key:
    data, model = spec.config["data"]["init_args"], spec.config["model"]
    size = data.get("image_size") or max(32, find_backbone(spec.key.backbone).min_size(model["stem"]))
    return spec.key.backbone, model["stem"], size, data.get("batch_size") or 128


def _images_shown(spec: RunSpec) -> float:
    """The number of training images that a run sees in all its epochs; 0 where that is not known."""
    data, epochs = spec.config["data"], spec.config["trainer"]["max_epochs"] or 0
    return max(0, epochs) * float(data["init_args"].get("train_subset") or _training_images(json.dumps(data)))


@cache
def _training_images(section: str) -> float:
    """About how many there are, 0 where that is not known; nothing is downloaded or decoded for it."""
    data = make_data({"data": json.loads(section)})
    if isinstance(data, DigitsDataModule):
        return float(len(data.splits["train"]))
    if isinstance(data, FolderDataModule):
        images = 0.8 * len(data.pictures.pictures)
    elif isinstance(data, CIFAR10DataModule):
        images = 50_000.0
    else:
        return 0.0
    return images * (1 - data.val_size) if data.val_size < 1 else images - data.val_size


def seconds_per_image(specs: Sequence[RunSpec]) -> list[float]:
    """Training seconds an image of each network, from a few steps on noise; NaN where that fails.

    The first step, with its warm-up, does not count. All of it takes about `TIMED_S`, or two steps a network.
    """
    cuda = torch.cuda.is_available() and all(spec.config["trainer"].get("accelerator") != "cpu" for spec in specs)
    device = torch.device("cuda" if cuda else "cpu")
    return [_seconds_per_image(spec, device, min(NETWORK_TIMED_S, TIMED_S / len(specs))) for spec in specs]


def _seconds_per_image(spec: RunSpec, device: torch.device, budget_s: float) -> float:
    backbone, stem, size, batch = _key(spec)
    # Fewer images than in training: each takes about as long, and a large network ends in time.
    batch, bf16 = min(batch, 16 if device.type == "cpu" else batch), "bf16" in str(spec.config["trainer"]["precision"])
    try:
        network = build_backbone(backbone, spec.config["model"]["num_classes"], stem).to(device)
        network = network.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)
        images = torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
        labels = torch.zeros(batch, dtype=torch.long, device=device)
        durations: list[float] = []
        while len(durations) < 2 or sum(durations) < budget_s:
            began = time.perf_counter()
            train_step(network, optimizer, images, labels, bf16).item()  # Waits for the device.
            durations.append(time.perf_counter() - began)
        return statistics.median(durations[1:]) / batch
    except Exception:  # Whatever is wrong with it, the run will say.
        return math.nan
