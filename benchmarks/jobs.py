"""`--jobs=auto` against one and two runs at a time: four LeNets, three mixes, and five seeds on photographs.

The ways take turns. Unset OMP_NUM_THREADS first: the threads that torch takes by itself are what runs share. With
`--before FOLDER`, a clone of an earlier version takes part, with one run at a time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import in_turn, median_ratio, report
from startup import CLI

DIGITS = ["--data=DigitsDataModule", "--data.batch_size=32", "--data.train_subset=600", "--data.val_size=100"]
CIFAR = ["--data.train_subset=20000"]
SMALL, LARGE = "[lenet,mobilenet_v2,resnet20]", "[resnet18,googlenet,densenet121]"
PHOTOGRAPHS = [
    "--data=FolderDataModule",
    f"--data.labels={os.environ.get('CNN_COMPARE_DATA_DIR', 'data')}/sign-language-digits/labels.csv",
    "--data.image_size=64",
    "--trainer.max_epochs=2",
]
MIXES = {
    "four LeNets": ["--backbones=[lenet]", "--seeds=[0,1,2,3]", "--trainer.max_epochs=3", *CIFAR],
    "small only": [f"--backbones={SMALL}", "--trainer.max_epochs=6", *DIGITS],
    "large only": [f"--backbones={LARGE}", "--trainer.max_epochs=2", *DIGITS],
    "one large among small (quick start)": ["--config=configs/comparisons/quickstart.yaml"],
    "five seeds on photographs": ["--backbones=[lenet,lenet_relu,mobilenet_v2]", "--seeds=[0,1,2,3,4]", *PHOTOGRAPHS],
}
WAYS = ("auto", "1", "2")


def comparison(options: list[str], jobs: str, clone: Path) -> Callable[[], float]:
    """Seconds of a comparison by the version in a clone."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [*CLI, "compare", *options, "--name=x", f"--log_dir={folder}", f"--jobs={jobs}"]
            start = time.perf_counter()
            subprocess.run(
                command, check=True, capture_output=True, cwd=clone, env={**os.environ, "PYTHONPATH": str(clone)}
            )
            return time.perf_counter() - start

    return measure


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=MIXES, action="append", help="only these mixes")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a clone of an earlier version")
    options = parser.parse_args()
    here = Path(__file__).parents[1]
    rows, raw = [], {}
    for mix in options.only or MIXES:
        ways = {jobs: comparison(MIXES[mix], jobs, here) for jobs in WAYS}
        if options.before:
            ways["before"] = comparison(MIXES[mix], "1", options.before.resolve())
        seconds = raw[mix] = in_turn(ways, options.repeats, warm_up=0)
        best = min(("1", "2"), key=lambda jobs: statistics.median(seconds[jobs]))
        earlier = {"before, s": statistics.median(seconds["before"])} if options.before else {}
        rows.append(
            {
                "mix": mix,
                **{f"--jobs={jobs}, s": statistics.median(seconds[jobs]) for jobs in WAYS},
                **earlier,
                "times as fast as --jobs=1": median_ratio(seconds["1"], seconds["auto"]),
                "as the best of 1 and 2": median_ratio(seconds[best], seconds["auto"]),
                **({"as before": median_ratio(seconds["before"], seconds["auto"])} if options.before else {}),
            }
        )
    report("jobs", rows, raw)


if __name__ == "__main__":
    main()
