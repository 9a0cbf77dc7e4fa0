"""Wall time of starting the command, against importing what it needs. Each side is a process; the sides take turns."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness import ROOT, in_turn, ratios, report

CLI = [sys.executable, "-m", "cnn_compare"]


def wall(*command: str, clone: Path = ROOT) -> Callable[[], float]:
    """Seconds that a command takes with the version in a clone."""

    def measure() -> float:
        environment = {**os.environ, "PYTHONPATH": str(clone)}
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=clone, env=environment)
        return time.perf_counter() - start

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
        },
        options.repeats,
    )
    pairs = [
        ("--help", "import torch", 0.35),
        ("backbones", "import torch", 1.6),
        ("fit --help", "import what fit needs", 1.3),
    ]
    report("startup", ratios(seconds, pairs), seconds)


if __name__ == "__main__":
    main()
