"""What is to be run, by which process, and what that process tells its parent: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnn_compare.results import RunFolder, network_name

Config = dict[str, Any]
"""A resolved configuration: ``trainer``, ``model``, ``data`` and more, defaults written out."""


@dataclass(frozen=True)
class RunSpec:
    """A planned run.

    Args:
        backbone: Its backbone.
        seed: Its seed.
        config: The whole configuration.
        folder: For its files.
        recipe: Name of the recipe, for the report.
        variant: Name of the variant; None where the comparison has none.
        declared_changes: Dotted names and values of what the variant and the backbone's own recipe change.
    """

    backbone: str
    seed: int
    config: Config
    folder: RunFolder
    recipe: str | None = None
    variant: str | None = None
    declared_changes: Config = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages call the run."""
        return f"{network_name(self.backbone, self.variant)} seed {self.seed}"


@dataclass(frozen=True)
class WorkerSpec:
    """What one process of a run gets of the machine.

    Args:
        slot: Number of the run among those that run side by side.
        jobs: How many those are.
        threads: For torch on the processor, in the whole run; None: an equal share of torch's own number.
        visible_gpus: ``CUDA_VISIBLE_DEVICES``; None: not set.
        rank: Number of the process among those of the run.
        world_size: Number of processes of the run, one a device.
        port: Where the first process waits for the others.
        checkpoint: What the run resumes from; set for all processes but the first, which finds it.
    """

    slot: int = 0
    jobs: int = 1
    threads: int | None = None
    visible_gpus: str | None = None
    rank: int = 0
    world_size: int = 1
    port: int = 0
    checkpoint: Path | None = None

    def environment(self) -> dict[str, str]:
        """The variables that Lightning's ``LightningEnvironment`` and CUDA read."""
        variables = {}
        if self.visible_gpus is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.visible_gpus
        if self.world_size > 1:
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.port), "NODE_RANK": "0"}
            variables |= {"WORLD_SIZE": str(self.world_size), "LOCAL_RANK": str(self.rank)}
        return variables


@dataclass(frozen=True)
class Progress:
    """How far a run is: its epoch, counted from 0, and the share of the training that is done."""

    epoch: int
    share: float


@dataclass(frozen=True)
class Started:
    """The first process of a run on several devices has found what to resume from; None: it begins anew."""

    checkpoint: Path | None


@dataclass(frozen=True)
class NewFiles:
    """Files of a run that came into being or changed, by their path in the run's folder."""

    contents: dict[str, bytes]


@dataclass(frozen=True)
class Ended:
    """The run is over; ``reason`` tells why there is no result, where there is none."""

    reason: str | None
