"""Peak memory of `fit` with LeNet on CIFAR-10 (or random images in its format), over a process that only imports.

Each figure is the largest resident set of a process of its own, as the system counts it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from harness import report

IDLE = "import torch, lightning"
FIT = """
from cnn_compare.experiment import ExperimentCLI
options = {{"max_epochs": {epochs}, "limit_train_batches": 100, "default_root_dir": {folder!r}}}
cli = ExperimentCLI({{"model": {{"backbone": "lenet"}}, "trainer": options}}, run=False)
cli.trainer.fit(cli.model, cli.datamodule)
cli.trainer.test(cli.model, cli.datamodule, verbose=False)
"""
PEAK = """
import json, resource
sizes = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print("\\n" + json.dumps(sizes))
"""
MIB = 2**20
DATASET = 60_000 * 32 * 32 * 3


def peak(code: str, **values: Any) -> tuple[int, int]:
    """Largest resident set, in bytes, of a process that runs the code, and of its children."""
    with tempfile.TemporaryDirectory() as folder:
        program = code.format(folder=folder, **values) + PEAK
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    own, children = json.loads(done.stdout.splitlines()[-1])
    return own, children


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    raw: dict[str, list[int]] = {"idle": [], "fit, 2 epochs": [], "fit, 8 epochs": []}
    for _ in range(options.repeats):
        raw["idle"].append(peak(IDLE)[0])
        raw["fit, 2 epochs"].append(peak(FIT, epochs=2)[0])
        raw["fit, 8 epochs"].append(peak(FIT, epochs=8)[0])
    median = {name: statistics.median(values) for name, values in raw.items()}
    rows: list[dict[str, Any]] = [
        {"what": name, "MiB": value / MIB, "over idle MiB": (value - median["idle"]) / MIB}
        for name, value in median.items()
    ]
    rows.append({"what": "allowed over idle: the data + 250 MiB", "MiB": 0.0, "over idle MiB": DATASET / MIB + 250})
    report("memory", rows, raw)


if __name__ == "__main__":
    main()
