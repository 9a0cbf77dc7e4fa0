"""Feed 20,000 damaged result, configuration and batch files to the reader of each.

python benchmarks/fuzz.py --output benchmarks/results/fuzz.json

Each file is a good one with bytes changed, cut, doubled or put in. Counted: how often it was taken, how often it was
refused with an error of ours, what else was raised (wanted: nothing), the longest time and the growth of the memory.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import resource
import tempfile
import time
from argparse import ArgumentError
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from cnn_compare import CIFAR10DataModule
from cnn_compare.errors import CnnCompareError
from cnn_compare.experiment import experiment_parser
from cnn_compare.report.load import find_runs
from cnn_compare.results import RunResult, measured

ROOT = Path(__file__).parents[1]
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


def main() -> None:
    """Damage, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    draw = random.Random(0)
    settings = experiment_parser(exit_on_error=False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = folder / "runs" / "lenet" / "seed_0"
        metrics = measured({"test_acc_pct": 50.0, "train_epoch_s": 1.0})
        result = RunResult(backbone="lenet", seed=0, status="finished", metrics=metrics, train_epochs_s=[1.0])
        result.save(run / "result.json")
        good_result = (run / "result.json").read_bytes()
        good_config = (ROOT / "configs" / "recipes" / "modern.yaml").read_bytes()
        labels = np.arange(100) % 10
        buffer = io.BytesIO()
        probabilities = np.eye(10, dtype=np.float16)[labels]
        np.savez_compressed(buffer, labels=labels, predictions=labels, probabilities=probabilities)
        batch = pickle.dumps({"data": np.zeros((20, 3072), np.uint8), "labels": [0] * 20})
        (folder / "data" / "cifar-10-batches-py").mkdir(parents=True)
        for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]:
            (folder / "data" / "cifar-10-batches-py" / name).write_bytes(batch)

        def read_result(content: bytes) -> None:
            (run / "result.json").write_bytes(content)
            RunResult.load(run / "result.json")

        def predictions(content: bytes) -> None:
            (run / "result.json").write_bytes(good_result)
            (run / "predictions.npz").write_bytes(content)
            for problem in find_runs(folder / "runs").problems:
                raise problem

        def config(content: bytes) -> None:
            try:
                parsed = yaml.safe_load(content)
            except (yaml.YAMLError, ValueError, RecursionError):
                raise CnnCompareError("no YAML") from None
            try:
                settings.parse_object(parsed if isinstance(parsed, dict) else {"x": parsed})
            except ArgumentError as error:
                raise CnnCompareError(str(error)) from error

        def cifar(content: bytes) -> None:
            (folder / "data" / "cifar-10-batches-py" / "data_batch_1").write_bytes(content)
            CIFAR10DataModule(str(folder / "data")).load("train")

        readers: dict[str, tuple[Callable[[bytes], None], bytes, float]] = {
            "result": (read_result, good_result, 0.45),
            "predictions": (predictions, buffer.getvalue(), 0.25),
            "config": (config, good_config, 0.1),
            "cifar batch": (cifar, batch, 0.2),
        }
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        counts: dict[str, Counter[str]] = {}
        longest_s: dict[str, float] = {}
        for name, (read, good, share) in readers.items():
            counts[name], longest_s[name] = Counter(), 0.0
            for _ in range(round(share * options.files)):
                content = mutated(good, draw)
                start = time.perf_counter()
                try:
                    read(content)
                    counts[name]["taken"] += 1
                except CnnCompareError:
                    counts[name]["refused"] += 1
                except Exception as error:
                    counts[name][f"raised {type(error).__name__}"] += 1
                    if counts[name][f"raised {type(error).__name__}"] <= 3:
                        print(name, type(error).__name__, error, content[:300])
                longest_s[name] = max(longest_s[name], time.perf_counter() - start)
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    outcome = {
        "files": sum(sum(each.values()) for each in counts.values()),
        "counts": {name: dict(each) for name, each in counts.items()},
        "longest_s": longest_s,
        "memory_growth_mib": growth,
    }
    options.output.write_text(json.dumps(outcome, indent=1) + "\n")
    print(json.dumps(outcome, indent=1))


if __name__ == "__main__":
    main()
