"""Plans of runs and of their processes, and the messages that a run sends: plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cnn_compare.results import RunFolder, RunResult, Status
from cnn_compare.run_key import RunKey

Config = dict[str, Any]
"""A resolved configuration: ``trainer``, ``model``, ``data`` and more, defaults written out."""


@dataclass(frozen=True)
class RunSpec:
    """A planned run.

    Args:
        key: Its identity within the comparison.
        config: The whole configuration.
        folder: Where the run's files go.
        recipe: Name of the recipe, for the report.
        declared_changes: Dotted names and values of what the variant and the backbone's own recipe change.
        tested: Whether the network sees the test images; a trial of a search does not.
        attempts: How often the run was begun within one command, this time included.
    """

    key: RunKey
    config: Config
    folder: RunFolder
    recipe: str | None = None
    declared_changes: Config = field(default_factory=dict)
    tested: bool = True
    attempts: int = 1

    def with_threads(self, threads: int) -> RunSpec:
        """This run with a number of torch's threads, where its configuration names none."""
        return replace(self, config={**self.config, "threads": self.config.get("threads") or threads})

    def result(self, status: Status, **fields: Any) -> RunResult:
        """A result of this run; ``fields`` are those of `RunResult` that the spec does not determine."""
        return RunResult(
            **asdict(self.key),
            recipe=self.recipe,
            tested=self.tested,
            declared_changes=self.declared_changes,
            status=status,
            attempts=self.attempts,
            log_tail=[] if status == "finished" else self.folder.log_tail(),
            finished_at=datetime.now().astimezone().isoformat(timespec="seconds"),
            **fields,
        )


@dataclass(frozen=True)
class WorkerSpec:
    """The part of the machine that one process of a run uses, and its rank in the run.

    Args:
        slot: Number of the run among those that run at the same time, from 0.
        jobs: How many runs run at the same time.
        visible_gpus: ``CUDA_VISIBLE_DEVICES``; None: not set.
        rank: Number of the process in the run, from 0.
        world_size: Number of processes of the run, one per device.
        port: Where the first process listens for the others.
        checkpoint: The one that the run resumes from. The first process finds it; the others are told.
    """

    slot: int = 0
    jobs: int = 1
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
class Started:
    """A run's first process knows what the run resumes from; None: it starts from the beginning."""

    checkpoint: Path | None


@dataclass(frozen=True)
class Progress:
    """A run has reached an epoch, counted from 0, and a share of its training, from 0 to 1."""

    epoch: int
    share: float


@dataclass(frozen=True)
class NewFiles:
    """Files of a run that are new or have changed: path within the run's folder, and content."""

    contents: dict[str, bytes]


@dataclass(frozen=True)
class Ended:
    """A run has ended; ``reason`` says why, if it left no result."""

    reason: str | None
