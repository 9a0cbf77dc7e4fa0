"""Peak memory of `fit` with LeNet on CIFAR-10, over a process that only imports torch and Lightning.

Each figure is the largest resident set of a process of its own, as the system counts it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from harness import in_turn, report

FIT = """
from cnn_compare.experiment import ExperimentCLI
options = {{"max_epochs": {epochs}, "limit_train_batches": 100, "default_root_dir": {folder!r}}}
cli = ExperimentCLI({{"model": {{"backbone": "lenet"}}, "trainer": options}}, run=False)
cli.trainer.fit(cli.model, cli.datamodule)
cli.trainer.test(cli.model, cli.datamodule, verbose=False)
"""
PEAK = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
ALLOWED_MIB = 60_000 * 32 * 32 * 3 / 2**20 + 250


def peak_mib(code: str, **values: Any) -> float:
    """Largest resident set of a process that runs the code."""
    with tempfile.TemporaryDirectory() as folder:
        program = code.format(folder=folder, **values) + PEAK
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    sides = {
        "idle": lambda: peak_mib("import torch, lightning"),
        "fit, 2 epochs": lambda: peak_mib(FIT, epochs=2),
        "fit, 8 epochs": lambda: peak_mib(FIT, epochs=8),
    }
    raw = in_turn(sides, parser.parse_args().repeats, warm_up=0)
    median = {name: statistics.median(values) for name, values in raw.items()}
    rows = [{"what": name, "MiB": mib, "over idle MiB": mib - median["idle"]} for name, mib in median.items()]
    rows.append({"what": "allowed: the data + 250 MiB", "MiB": "", "over idle MiB": ALLOWED_MIB})
    report("memory", rows, raw)


if __name__ == "__main__":
    main()
