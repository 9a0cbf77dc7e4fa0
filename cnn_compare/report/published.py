"""The student report of 2023 that this project grew out of, beside a comparison that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnn_compare.report.load import StoredRuns, distinct
from cnn_compare.report.summary import Network

# ImageNet-pretrained torchvision networks, ten epochs of Adam, normalised with 0.5/0.5, PyTorch 2.0.1 on an RTX 3060.
# (seconds an epoch, accuracy %)
REPORT_2023 = {"alexnet": (17, 70.40), "vgg16": (129, 70.66), "googlenet": (26, 82.46), "resnet18": (17, 79.14)}


def follows_report(config: dict[str, Any]) -> bool:
    """Whether a resolved configuration trains as the 2023 report did, image size and pretraining aside."""
    model, data, trainer = (config.get(section) or {} for section in ("model", "data", "trainer"))
    optimizer = model.get("optimizer") or {}
    data_args = data.get("init_args") or {}
    return (
        optimizer.get("class_path", "").endswith(".Adam")
        and optimizer.get("init_args", {}).get("lr") == 1e-3
        and model.get("lr_scheduler") is None
        and data.get("class_path", "").endswith("CIFAR10DataModule")
        and data_args.get("normalization") == "half"
        and data_args.get("augmentation") == "none"
        and data_args.get("train_subset") is None
        and trainer.get("max_epochs") == 10
    )


def beside_2023(stored: StoredRuns, networks: Sequence[Network]) -> dict[str, Any] | None:
    """The report's figures beside ours, with what differs in the conditions; None where the recipe is another one."""
    config = stored.manifest.get("config") or {}
    rows = [
        {
            "backbone": network.backbone,
            "acc_pct": network.accuracy_pct.value,
            "report_acc_pct": REPORT_2023[network.backbone][1],
            "epoch_s": network.epoch_s,
            "report_epoch_s": REPORT_2023[network.backbone][0],
        }
        for network in networks
        if network.backbone in REPORT_2023
    ]
    if not rows or not follows_report(config):
        return None
    start = "ImageNet weights" if config["model"]["pretrained"] else "random weights"
    conditions = [
        ("start", "ImageNet weights", start),
        ("image size", "not stated", f"{config['data']['init_args']['image_size']} px"),
        ("accuracy", "of which images is not stated", "of an untouched test set, once"),
        ("device", "RTX 3060", ", ".join(distinct(run.result.device for run in stored.finished))),
        ("PyTorch", "2.0.1", ", ".join(distinct(run.result.versions.get("torch") for run in stored.finished))),
    ]
    return {
        "rows": rows,
        "conditions": [dict(zip(("what", "report", "here"), each, strict=True)) for each in conditions],
    }
