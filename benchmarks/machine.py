"""What is stored of the machine with each result."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from cnn_compare.machine import describe_device


def training_device() -> torch.device:
    """Where `fit` trains unless told otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    """The description of this machine that is stored with each result."""
    device = training_device()
    described = {"device": describe_device(device), "cpu_count": os.cpu_count(), "system": platform.system()}
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        described |= {"cuda": torch.version.cuda, "device_memory_bytes": memory}
    return described
