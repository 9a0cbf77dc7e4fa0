"""Wall time of starting the command, against importing what it needs; and of five runs against one.

Each side is a process of its own; the sides take turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from harness import in_turn, ratios, report

CLI = [sys.executable, "-m", "cnn_compare"]
ONE_STEP = [
    "--data=DigitsDataModule",
    "--trainer.max_epochs=1",
    *(f"--trainer.limit_{stage}_batches=1" for stage in ("train", "val", "test")),
]


def wall(*command: str) -> Callable[[], float]:
    """Seconds that a command takes."""

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start

    return measure


def comparison(runs: int) -> Callable[[], float]:
    """Seconds of a comparison of so many one-step runs."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            what = ["--name=x", f"--log_dir={folder}", "--backbones=[lenet]", f"--seeds={list(range(runs))}"]
            return wall(*CLI, "compare", *what, *ONE_STEP)()

    return measure


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    python = [sys.executable, "-c"]
    needs = "import torch, torchvision, torchmetrics.classification, lightning.pytorch.cli, lightning.pytorch.callbacks"
    seconds = in_turn(
        {
            "import torch": wall(*python, "import torch"),
            "--help": wall(*CLI, "--help"),
            "backbones": wall(*CLI, "backbones"),
            "import what fit needs": wall(*python, f"{needs}, sklearn.datasets, rich, yaml"),
            "fit --help": wall(*CLI, "fit", "--help"),
            "compare, 1 run": comparison(1),
            "compare, 5 runs": comparison(5),
        },
        options.repeats,
    )
    pairs = [
        ("--help", "import torch", 0.35),
        ("backbones", "import torch", 1.6),
        ("fit --help", "import what fit needs", 1.3),
        ("compare, 5 runs", "compare, 1 run", 1.5),
    ]
    report("startup", ratios(seconds, pairs), seconds)


if __name__ == "__main__":
    main()
