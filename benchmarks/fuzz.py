"""Feed 20,000 damaged results, predictions and configurations to the reader of each.

Each file is a good one with bytes changed, cut, doubled or put in. Counted: how often it was taken, how often it was
refused with an error of ours, what else was raised (wanted: nothing), the longest time and the growth of the memory.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import tempfile
import time
from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from harness import report

from cnn_compare.errors import CnnCompareError
from cnn_compare.experiment import experiment_parser
from cnn_compare.report.load import find_runs
from cnn_compare.results import RunResult, metrics_of

ROOT = Path(__file__).parents[1]
SHARES = {"result": 0.6, "predictions": 0.3, "config": 0.1}
WORDS = [b"null", b"NaN", b"-1", b"1e999", b"{}", b"[[", b"&a *a", b"!!python/object:os.system", b'"', b"\n", b"9" * 30]


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with one to eight changes."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        start, length = draw.randrange(len(changed) + 1), draw.randint(1, 40)
        kind = draw.choice(["bytes", "bit", "cut", "drop", "double", "word"])
        if kind == "bytes":
            changed[start : start + length] = draw.randbytes(length)
        elif kind == "bit" and start < len(changed):
            changed[start] ^= 1 << draw.randrange(8)
        elif kind == "cut" and draw.random() < 0.2:
            del changed[start:]
        elif kind == "drop":
            del changed[start : start + length]
        elif kind == "double":
            changed[start:start] = changed[start : start + length]
        elif kind == "word":
            changed[start:start] = draw.choice(WORDS)
        if not changed:
            changed = bytearray(b" ")
    return bytes(changed)


def readers(folder: Path) -> dict[str, tuple[Callable[[bytes], Any], bytes]]:
    """Kind of file -> what writes its content where it belongs and reads it, and a good content."""
    run = folder / "runs" / "lenet" / "seed_0"
    metrics = metrics_of({"test_acc_pct": 50.0, "train_epoch_s": 1.0})
    result = RunResult(backbone="lenet", seed=0, status="finished", metrics=metrics, train_epochs_s=[1.0])
    result.save(run / "result.json")
    good_result = (run / "result.json").read_bytes()
    labels = np.arange(100) % 10
    buffer = io.BytesIO()
    np.savez_compressed(buffer, labels=labels, predictions=labels, probabilities=np.eye(10, dtype=np.float16)[labels])
    settings = experiment_parser(exit_on_error=False)

    def read_result(content: bytes) -> None:
        (run / "result.json").write_bytes(content)
        RunResult.load(run / "result.json")

    def read_predictions(content: bytes) -> None:
        (run / "result.json").write_bytes(good_result)
        (run / "predictions.npz").write_bytes(content)
        for problem in find_runs(folder / "runs").problems:
            raise problem

    def read_config(content: bytes) -> None:
        try:
            parsed = yaml.safe_load(content)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise CnnCompareError("no YAML") from None
        try:
            settings.parse_object(parsed if isinstance(parsed, dict) else {"x": parsed})
        except ArgumentError as error:
            raise CnnCompareError(str(error)) from error

    return {
        "result": (read_result, good_result),
        "predictions": (read_predictions, buffer.getvalue()),
        "config": (read_config, (ROOT / "configs" / "recipes" / "modern.yaml").read_bytes()),
    }


def main() -> None:
    """Damage, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    options = parser.parse_args()
    draw, rows = random.Random(0), []
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        for name, (read, good) in readers(Path(folder)).items():
            row: dict[str, Any] = {"file": name, "taken": 0, "refused": 0, "raised": 0, "longest s": 0.0}
            for _ in range(round(SHARES[name] * options.files)):
                content = mutated(good, draw)
                start, ended = time.perf_counter(), "taken"
                try:
                    read(content)
                except CnnCompareError:
                    ended = "refused"
                except Exception as error:
                    ended = "raised"
                    print(name, type(error).__name__, error, content[:300])
                row[ended] += 1
                row["longest s"] = max(row["longest s"], time.perf_counter() - start)
            rows.append(row)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    report("fuzz", rows, {"memory_growth_mib": growth})


if __name__ == "__main__":
    main()
