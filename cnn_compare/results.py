"""What a run leaves behind: `RunResult`, its JSON, and files that are whole or not there at all."""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from cnn_compare.errors import ResultError

SCHEMA = 1

Status = Literal["finished", "failed"]


@dataclass(kw_only=True)
class RunResult:
    """One run: one backbone, one seed. ``None`` and empty lists stand for what a failed run did not get to.

    Units stand in the names. Accuracies are percents of images, 0 .. 100; ``train_epoch_s`` has one value an epoch, the
    first with its warm-up included; ``macs`` are multiply-accumulates of one image's forward pass; the weights tested
    are those of ``best_epoch``, the first one with the highest validation accuracy, counted from 0; ``contended`` says
    that others used the machine too (``other_cpu_pct`` of all its cores): the times are not the network's alone then.
    """

    backbone: str
    seed: int
    status: Status
    reason: str | None = None
    test_acc_pct: float | None = None
    test_top5_pct: float | None = None
    test_macro_f1_pct: float | None = None
    test_loss: float | None = None
    best_val_acc_pct: float | None = None
    best_epoch: int | None = None
    train_acc_pct: float | None = None
    train_images: int | None = None
    test_images: int | None = None
    train_epoch_s: list[float] = field(default_factory=list)
    first_epoch_s: float | None = None
    val_epoch_s: list[float] = field(default_factory=list)
    fit_s: float | None = None
    images_per_s: float | None = None
    params: int | None = None
    macs: int | None = None
    peak_memory_bytes: int | None = None
    energy_j_per_epoch: float | None = None
    other_cpu_pct: float | None = None
    contended: bool | None = None
    device: str | None = None
    precision: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    data_fingerprint: str | None = None
    schema: int = SCHEMA

    @property
    def steady_epoch_s(self) -> float | None:
        """Seconds of a usual epoch: the median without the first; with one epoch, that one."""
        steady = self.train_epoch_s[1:] or self.train_epoch_s
        return statistics.median(steady) if steady else None

    def save(self, path: Path) -> None:
        """Write as JSON; the file is whole or not there."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ResultError: If the file is missing, not whole, or of another schema.
        """
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ResultError(path, "the file is missing") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ResultError(path, f"it cannot be read as JSON ({error})") from error
        if not isinstance(stored, dict) or stored.get("schema") != SCHEMA:
            schema = stored.get("schema") if isinstance(stored, dict) else None
            raise ResultError(path, f"its schema is {schema!r}, and this version reads {SCHEMA}")
        known = {each.name for each in fields(cls)}
        wrong = sorted(set(stored) - known) or [name for name in ("backbone", "seed", "status") if name not in stored]
        if wrong or not isinstance(stored["backbone"], str) or stored["status"] not in ("finished", "failed"):
            raise ResultError(path, f"its fields are not those of a result ({', '.join(map(str, wrong)) or 'status'})")
        return cls(**stored)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a restart after power loss, finds the old one or the new one, never a half."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """`write_text` for bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; columns in the order in which the rows first name them."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())
