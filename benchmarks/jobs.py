"""`--jobs=auto` against one and two runs at a time, for four LeNets and three mixes of networks.

The ways take turns. Unset OMP_NUM_THREADS first: the threads that torch takes by itself are what runs share.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable

from harness import in_turn, median_ratio, report
from startup import CLI, wall

DIGITS = ["--data=DigitsDataModule", "--data.batch_size=32", "--data.train_subset=600", "--data.val_size=100"]
CIFAR = ["--data.train_subset=20000"]
SMALL, LARGE = "[lenet,mobilenet_v2,resnet20]", "[resnet18,googlenet,densenet121]"
MIXES = {
    "four LeNets": ["--backbones=[lenet]", "--seeds=[0,1,2,3]", "--trainer.max_epochs=3", *CIFAR],
    "small only": [f"--backbones={SMALL}", "--trainer.max_epochs=6", *DIGITS],
    "large only": [f"--backbones={LARGE}", "--trainer.max_epochs=2", *DIGITS],
    "one large among small (quick start)": ["--config=configs/comparisons/quickstart.yaml"],
}
WAYS = ("auto", "1", "2")


def comparison(options: list[str], jobs: str) -> Callable[[], float]:
    """Seconds of a comparison."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return wall(*CLI, "compare", *options, "--name=x", f"--log_dir={folder}", f"--jobs={jobs}")()

    return measure


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=MIXES, default=None)
    options = parser.parse_args()
    rows, raw = [], {}
    for mix in [options.only] if options.only else MIXES:
        seconds = raw[mix] = in_turn({jobs: comparison(MIXES[mix], jobs) for jobs in WAYS}, options.repeats)
        best = min(("1", "2"), key=lambda jobs: statistics.median(seconds[jobs]))
        rows.append(
            {
                "mix": mix,
                **{f"--jobs={jobs}, s": statistics.median(seconds[jobs]) for jobs in WAYS},
                "times as fast as --jobs=1": median_ratio(seconds["1"], seconds["auto"]),
                "as the best of 1 and 2": median_ratio(seconds[best], seconds["auto"]),
            }
        )
    report("jobs", rows, raw)


if __name__ == "__main__":
    main()
