"""What the commands cost besides training, and what several runs at a time gain. Each side is a process, in turn.

- startup: the command, a tiny comparison and each further run of it, against importing what they need. A tiny run is
  LeNet on 1,000 images of CIFAR-10, one epoch, with its validation and its test of 10,000 images.
- memory: the largest resident set of `fit`, with two and with eight epochs, over an idle process.
- jobs: `--jobs=auto` against one and two runs at a time. Unset OMP_NUM_THREADS first: the threads that torch takes by
  itself are what runs share.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from harness import ROOT, in_turn, median_ratio, report

CLI = [sys.executable, "-m", "cnn_compare"]

FIT = """
from cnn_compare.experiment import ExperimentCLI
options = {{"max_epochs": {epochs}, "limit_train_batches": 100, "default_root_dir": {folder!r}}}
cli = ExperimentCLI({{"model": {{"backbone": "lenet"}}, "trainer": options}}, run=False)
cli.trainer.fit(cli.model, cli.datamodule)
cli.trainer.test(cli.model, cli.datamodule, verbose=False)
"""
PEAK = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
ALLOWED_MIB = 60_000 * 32 * 32 * 3 / 2**20 + 250

TINY = ["--backbones=[lenet]", "--trainer.max_epochs=1", "--data.train_subset=1000"]
FURTHER = 8

DIGITS = ["--data=DigitsDataModule", "--data.batch_size=32", "--data.train_subset=600", "--data.val_size=100"]
SMALL, LARGE = "[lenet,mobilenet_v2,resnet20]", "[resnet18,googlenet,densenet121]"
PHOTOGRAPHS = [
    "--data=FolderDataModule",
    f"--data.labels={os.environ.get('CNN_COMPARE_DATA_DIR', 'data')}/sign-language-digits/labels.csv",
    "--data.image_size=64",
    "--trainer.max_epochs=2",
]
MIXES = {
    "four LeNets": [
        *("--backbones=[lenet]", "--seeds=[0,1,2,3]"),
        *("--trainer.max_epochs=3", "--data.train_subset=20000"),
    ],
    "small only": [f"--backbones={SMALL}", "--trainer.max_epochs=6", *DIGITS],
    "large only": [f"--backbones={LARGE}", "--trainer.max_epochs=2", *DIGITS],
    "one large among small (quick start)": ["--config=configs/comparisons/quickstart.yaml"],
    "five seeds on photographs": ["--backbones=[lenet,lenet_relu,mobilenet_v2]", "--seeds=[0,1,2,3,4]", *PHOTOGRAPHS],
}


def wall(*command: str) -> Callable[[], float]:
    """Seconds that a command takes."""

    def measure() -> float:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)
        return time.perf_counter() - start

    return measure


def comparison(*options: str) -> Callable[[], float]:
    """Seconds of a comparison, in a folder that is not kept."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return wall(*CLI, "compare", "--name=x", f"--log_dir={folder}", *options)()

    return measure


def startup(repeats: int) -> None:
    """The commands against the imports, with the ratios that they may have at most."""
    python = [sys.executable, "-c", "import torch"]
    four = f"{python[-1]}, torchvision, torchmetrics.classification, lightning.pytorch.cli"
    seconds = in_turn(
        {
            "torch": wall(*python),
            "four packages": wall(*python[:-1], four),
            "what fit needs": wall(*python[:-1], f"{four}, sklearn.datasets, rich, yaml"),
            "--help": wall(*CLI, "--help"),
            "backbones": wall(*CLI, "backbones"),
            "fit --help": wall(*CLI, "fit", "--help"),
            "one tiny run": comparison("--seeds=[0]", *TINY),
            "many": comparison(f"--seeds={list(range(1 + FURTHER))}", *TINY),
        },
        repeats,
    )
    pairs = zip(seconds["many"], seconds["one tiny run"], strict=True)
    seconds["each further run"] = [(many - one) / FURTHER for many, one in pairs]
    rows = []
    for imports, what, limit in (
        ("torch", "--help", 0.35),
        ("torch", "backbones", 1.5),
        ("what fit needs", "fit --help", 1.3),
        ("four packages", "one tiny run", 1.35),
        ("four packages", "each further run", 0.13),
    ):
        row = {"what": what, "s": statistics.median(seconds[what]), "against importing": imports}
        rows.append({**row, "ratio": median_ratio(seconds[what], seconds[imports]), "at most": limit})
    report("startup", rows, seconds)


def jobs(mixes: list[str], repeats: int) -> None:
    """`--jobs=auto` against one and two."""
    rows, raw = [], {}
    for mix in mixes:
        ways = {f"--jobs={count}": comparison(*MIXES[mix], f"--jobs={count}") for count in ("auto", 1, 2)}
        seconds = raw[mix] = in_turn(ways, repeats, warm_up=0)
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        row = {f"{way}, s": median for way, median in medians.items()}
        row |= {f"as fast as {way}": median_ratio(seconds[way], seconds["--jobs=auto"]) for way in [*ways][1:]}
        rows.append({"mix": mix, **row})
    report("jobs", rows, raw)


def peak_mib(code: str, **values: Any) -> float:
    """Largest resident set of a process that runs the code."""
    with tempfile.TemporaryDirectory() as folder:
        program = code.format(folder=folder, **values) + PEAK
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def memory(repeats: int) -> None:
    """Peaks of `fit` with LeNet on CIFAR-10, over importing torch and Lightning."""
    sides = {
        "idle": lambda: peak_mib("import torch, lightning"),
        "fit, 2 epochs": lambda: peak_mib(FIT, epochs=2),
        "fit, 8 epochs": lambda: peak_mib(FIT, epochs=8),
    }
    raw = in_turn(sides, repeats, warm_up=0)
    median = {name: statistics.median(values) for name, values in raw.items()}
    rows = [{"what": name, "MiB": mib, "over idle MiB": mib - median["idle"]} for name, mib in median.items()]
    rows.append({"what": "allowed: the data + 250 MiB", "MiB": "", "over idle MiB": ALLOWED_MIB})
    report("memory", rows, raw)


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=("startup", "memory", "jobs"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=MIXES, action="append", help="of jobs: only these mixes")
    options = parser.parse_args()
    subjects = {"startup": startup, "memory": memory, "jobs": partial(jobs, options.only or list(MIXES))}
    subjects[options.subject](options.repeats)


if __name__ == "__main__":
    main()
