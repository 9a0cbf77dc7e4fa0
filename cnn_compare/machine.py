"""The machine: versions, settings of the process, name of the device, memory, and the GPU's counters."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = ("cnn-compare", "torch", "torchvision", "lightning", "torchmetrics", "numpy", "jsonargparse")

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of every package that can change a result."""
    return {"python": platform.python_version(), **{package: metadata.version(package) for package in PACKAGES}}


def tune_process() -> None:
    """Configure this process for faster training with the same results; call it before the first step.

    Makes glibc keep freed memory for the next tensors: by default it returns large blocks to the system, which clears
    new ones at every step, a quarter of LeNet's time on a CPU. Other C libraries are not changed. Makes torch ask the
    CUDA runtime for GPUs: Lightning makes it ask NVML, which without a GPU searches the disk at each step.
    """
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def now(device: torch.device) -> float:
    """Seconds of a clock, read when the device has done all that was asked of it."""
    # Kernels run asynchronously: without this wait an epoch would end when its last batch is queued.
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def describe_device(device: torch.device) -> str:
    """``cuda: NVIDIA A100``, or the processor's name and the number of threads that torch uses."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


class PeakMemory:
    """The largest memory that was in use since this object was made, beyond what was in use then.

    On a GPU it is torch's memory; elsewhere this process's, without the 500 MiB and more that imported libraries take.
    Linux tells mapped files apart, such as the code of those libraries, which becomes resident as it is first used:
    they do not count there. This takes a process that keeps freed memory, as `tune_process` makes it do.
    """

    def __init__(self) -> None:
        memory = psutil.Process().memory_info()
        self._before = memory.rss - _mapped_bytes(memory)

    def bytes(self, device: torch.device) -> int:
        """The peak so far, where ``device`` is what the process computes on."""
        if device.type == "cuda":
            return torch.cuda.max_memory_allocated(device)
        memory = psutil.Process().memory_info()
        return max(0, _peak_rss(memory) - _mapped_bytes(memory) - self._before)


def _mapped_bytes(memory: Any) -> int:
    return getattr(memory, "shared", 0)


def _peak_rss(memory: Any) -> int:
    if sys.platform == "win32":
        return int(memory.peak_wset)
    import resource  # Windows has no such module.

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def energy_j(device: torch.device) -> float | None:
    """Joules that a GPU has used since its driver was loaded; None without a counter."""
    library = _nvml(device)
    if library is None:
        return None
    nvml, handle = library
    try:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except nvml.NVMLError:
        return None  # GPUs older than Volta have no counter.


def other_gpu_processes(device: torch.device) -> int:
    """Number of processes that compute on a GPU besides this one, which does; 0 if unknown."""
    library = _nvml(device)
    if library is None:
        return 0
    nvml, handle = library
    try:
        # Not by number: in a container this process has another one than NVML, which knows the host's.
        return max(0, len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)) - 1)
    except nvml.NVMLError:
        return 0


def _nvml(device: torch.device) -> tuple[Any, Any] | None:
    """NVIDIA's management library (``pip install cnn-compare[energy]``) and its handle of a GPU, if there are both."""
    if device.type != "cuda":
        return None
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        # By UUID: NVML ignores CUDA_VISIBLE_DEVICES, and may number the GPUs differently.
        return nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except nvml.NVMLError:
        return None
