"""Whether the machine had other work during a training, which its times then say little about."""

from __future__ import annotations

import os
import time

import lightning as L
import psutil
from lightning.pytorch.callbacks import Callback

from cnn_compare.machine import other_gpu_processes

# Of the whole machine's processor time. An idle system's own services stay well below.
CONTENDED_PCT = 10.0
# The same where a GPU trains, whose processor has little to do; what counts there is the GPU.
CONTENDED_BESIDE_GPU_PCT = 50.0


class MachineLoad(Callback):
    """Measures how much processor time others used while training, and who else was on the GPU.

    Attributes:
        other_cpu_pct: Processor time used by other processes, in percent of all cores' time, since this process began
            to train; None before its first epoch has ended.
        other_gpu_processes: The largest number of other processes seen on the GPU; 0 where there is none or no NVML.
    """

    def __init__(self) -> None:
        self.other_cpu_pct: float | None = None
        self.other_gpu_processes = 0
        self._most_pct = CONTENDED_PCT
        self._start: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def contended(self) -> bool:
        """Whether the times are those of a shared machine."""
        return (self.other_cpu_pct or 0.0) > self._most_pct or self.other_gpu_processes > 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        self._most_pct = CONTENDED_PCT if pl_module.device.type == "cpu" else CONTENDED_BESIDE_GPU_PCT
        self._start = _clocks(trainer.num_devices)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count so far."""
        wall, busy, own = (now - then for now, then in zip(_clocks(trainer.num_devices), self._start, strict=True))
        cores = psutil.cpu_count() or 1
        self.other_cpu_pct = 100 * max(0.0, busy - own) / (wall * cores) if wall > 0 else 0.0
        others = other_gpu_processes(pl_module.device)
        self.other_gpu_processes = max(self.other_gpu_processes, others)


def _clocks(processes: int) -> tuple[float, float, float]:
    """Seconds: of the wall clock; of all cores at work; of them for this training and for what waits for it.

    A training on several devices has as many ``processes``, of which each takes as much as this one.
    """
    times = psutil.cpu_times()
    busy = sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
    own = processes * sum(os.times()[:2])
    try:
        parent = psutil.Process(os.getppid()).cpu_times()
        own += parent.user + parent.system
    except psutil.Error:
        pass  # It has ended, or is not ours to look at.
    return time.monotonic(), busy, own
