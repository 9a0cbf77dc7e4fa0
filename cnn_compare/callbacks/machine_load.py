"""Whether other processes used the machine during a run, which makes its times unreliable."""

from __future__ import annotations

import os
import time

import lightning as L
import psutil
import torch
from lightning.pytorch.callbacks import Callback

from cnn_compare.machine import other_gpu_processes

# Of a core. The services of an idle system stay well below. More cores do not raise this limit: a step that all cores
# share ends with the slowest of them, however many they are.
TOLERATED_CORES = 0.2
# Of the cores that the run leaves free: all cores share the memory's bandwidth, and two logical ones a physical one.
TOLERATED_SHARE_OF_FREE = 0.5


class MachineLoad(Callback):
    """Measures the processor time of other processes during training, and counts other processes on the GPU.

    A run on a CPU takes a core for each of its threads, a run on GPUs a core for each of them; the others are free.
    The times count as contended where other processes keep more cores busy, on average, than half of the free ones and
    a fifth of a core, or use the GPU.

    Attributes:
        other_cpu_pct: Processor time of other processes since training began, in percent of all cores' time; None
            before the first epoch has ended.
        other_gpu_processes: The largest number of other processes seen on the GPU; 0 without a GPU or NVML.
    """

    def __init__(self) -> None:
        self.other_cpu_pct: float | None = None
        self.other_gpu_processes = 0
        self._limit_pct = 0.0
        self._start: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def contended(self) -> bool:
        """Whether other processes used the machine enough to disturb the times."""
        return (self.other_cpu_pct or 0.0) > self._limit_pct or self.other_gpu_processes > 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start(pl_module.device, trainer.num_devices)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.update(pl_module.device, trainer.num_devices)

    def start(self, device: torch.device, devices: int = 1) -> None:
        """Read the clocks, before work on so many devices."""
        cores = psutil.cpu_count() or 1
        taken = devices * (torch.get_num_threads() if device.type == "cpu" else 1)
        tolerated = TOLERATED_CORES + TOLERATED_SHARE_OF_FREE * max(0, cores - taken)
        self._limit_pct = 100 * tolerated / cores
        self._start = _clocks(devices)

    def update(self, device: torch.device, devices: int = 1) -> None:
        """Compare the clocks with those at the start, and look who is on the GPU."""
        wall, busy, own = (now - then for now, then in zip(_clocks(devices), self._start, strict=True))
        cores = psutil.cpu_count() or 1
        self.other_cpu_pct = 100 * max(0.0, busy - own) / (wall * cores) if wall > 0 else 0.0
        self.other_gpu_processes = max(self.other_gpu_processes, other_gpu_processes(device))


def _clocks(processes: int) -> tuple[float, float, float]:
    """Seconds of the wall clock, of all cores at work, and of them for this run and its parent process.

    A run on several devices has several ``processes``; each is assumed to take as much time as this one.
    """
    times = psutil.cpu_times()
    busy = sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
    own = processes * sum(os.times()[:2])
    try:
        parent = psutil.Process(os.getppid()).cpu_times()
        own += parent.user + parent.system
    except psutil.Error:
        pass  # The parent has ended, or its times cannot be read.
    return time.monotonic(), busy, own
