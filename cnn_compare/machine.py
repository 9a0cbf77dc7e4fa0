"""The machine under a run: what it is called, how much memory was used, what its GPU's own counters say."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def tune_process() -> None:
    """Set this process up for training: faster, with the same numbers. Called before its first step.

    The C library keeps freed memory for the next tensors; its default hands large blocks back and has the system clear
    fresh ones at every step, a quarter of LeNet's time on a CPU. Where it is not glibc, nothing happens. And torch asks
    the CUDA runtime whether there is a GPU: Lightning has it ask NVML, which without a GPU searches the disk each step.
    """
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def describe_device(device: torch.device) -> str:
    """``cuda: NVIDIA A100``, or the processor with the threads that torch uses of it."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def peak_memory_bytes(device: torch.device) -> int:
    """The largest so far: of torch's memory on a GPU, elsewhere of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def energy_j(device: torch.device) -> float | None:
    """Joules that a GPU has used since its driver was loaded; None where nothing counts them."""
    found = _nvml(device)
    if found is None:
        return None
    nvml, handle = found
    try:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except nvml.NVMLError:
        return None  # GPUs older than Volta do not count.


def other_gpu_processes(device: torch.device) -> int:
    """How many processes besides this one compute on a GPU; 0 where that is not known."""
    found = _nvml(device)
    if found is None:
        return 0
    nvml, handle = found
    try:
        return sum(process.pid != os.getpid() for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except nvml.NVMLError:
        return 0


def _nvml(device: torch.device) -> tuple[Any, Any] | None:
    """NVIDIA's management library and its handle of a GPU; None without either: ``pip install cnn-compare[energy]``."""
    if device.type != "cuda":
        return None
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        # By its UUID: NVML does not know of CUDA_VISIBLE_DEVICES, and may number the GPUs otherwise.
        return nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except nvml.NVMLError:
        return None
