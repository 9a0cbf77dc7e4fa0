"""What a run leaves behind: `RunResult`, its JSON, and files that are whole or not there at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from cnn_compare.errors import ResultError

SCHEMA = 1

Status = Literal["finished", "failed", "diverged"]


@dataclass(kw_only=True)
class RunResult:
    """One run: one backbone, one seed. ``None`` and empty lists stand for what a failed run did not get to.

    ``status`` is ``diverged`` where the loss became infinite or no number; ``reason`` and ``log_tail``, the last lines
    of its log, tell why a run has no accuracy; ``attempts`` counts how often it was begun within one command.

    Units stand in the names. Accuracies are percents of images, 0 .. 100; ``train_epoch_s`` has one value an epoch, the
    first with its warm-up included; ``macs`` are multiply-accumulates of one image's forward pass; the weights tested
    are those of ``best_epoch``, the first one with the highest validation accuracy, counted from 0; ``contended`` says
    that others used the machine too (``other_cpu_pct`` of all its cores): the times are not the network's alone then;
    ``seconds_to_target`` of training until the validation accuracy first was at ``target_acc_pct``, None where it never
    was; ``declared`` are the settings, by their dotted names, that the comparison's ``variant`` or the backbone's own
    recipe changes; ``architecture`` is what the registry knows of the backbone (``year``, ``venue``, ``paper``,
    ``key_idea``, ``depth``).
    """

    backbone: str
    seed: int
    status: Status
    reason: str | None = None
    log_tail: list[str] = field(default_factory=list)
    attempts: int = 1
    recipe: str | None = None
    variant: str | None = None
    declared: dict[str, Any] = field(default_factory=dict)
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
    target_acc_pct: float | None = None
    seconds_to_target: float | None = None
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
    class_names: list[str] = field(default_factory=list)
    architecture: dict[str, Any] = field(default_factory=dict)
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
        kinds = {each.name: str(each.type) for each in fields(cls)}
        wrong = [name for name in ("backbone", "seed", "status") if name not in stored]
        wrong += [name for name, value in stored.items() if name not in kinds or not _is(value, kinds[name])]
        if stored.get("status") == "finished" and "test_acc_pct" not in wrong:
            accuracy = stored.get("test_acc_pct")
            wrong += ["test_acc_pct"] if accuracy is None or not 0 <= accuracy <= 100 else []
        if wrong:
            raise ResultError(path, f"its fields are not those of a result ({', '.join(sorted(set(wrong)))})")
        return cls(**stored)


def _is(value: Any, kind: str) -> bool:
    """Whether a value from JSON is of a field's annotated type."""
    if kind.endswith(" | None"):
        return value is None or _is(value, kind.removesuffix(" | None"))
    if kind.startswith("list["):
        return isinstance(value, list) and all(_is(each, kind[5:-1]) for each in value)
    if kind.startswith("dict["):
        return isinstance(value, dict)
    if kind == "Status":
        return value in get_args(Status)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value).__name__ == kind


def network_name(backbone: str, variant: str | None) -> str:
    """How reports call a backbone, and one variant of it: ``resnet18 (cifar stem)``."""
    return backbone if variant is None else f"{backbone} ({variant})"


def without_nan(value: Any) -> Any:
    """The same with null for what JSON has no word for: NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a restart after power loss, finds the old one or the new one, never a half."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview, keep: Path | None = None) -> None:
    """`write_text` for bytes; ``keep`` gets the file that was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
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
