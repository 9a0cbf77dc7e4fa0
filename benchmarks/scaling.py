"""Past one machine: what scheduling, several devices and many runs cost.

python benchmarks/scaling.py                  # all of it, about half an hour
python benchmarks/scaling.py reports          # schedulers, devices or reports
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import in_turn, median_ratio, report

from cnn_compare import write_report
from cnn_compare.files import write_csv
from cnn_compare.results import RunResult, metrics_of

TRIVIAL = ["--data=DigitsDataModule", "--data.train_subset=40", "--data.val_size=20", "--trainer.max_epochs=1"]
EPOCHS = [TRIVIAL[0], "--data.augmentation=crop_flip", "--trainer.max_epochs=4", "--trainer.accelerator=cpu"]


def compare(folder: Path, *options: str, threads: int = 1) -> float:
    """Seconds of a comparison."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "cnn_compare", "compare", "--name=x", f"--log_dir={folder}", *options]
    start = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.perf_counter() - start


def schedulers(runs: int) -> list[dict[str, Any]]:
    """Seconds a run of many trivial ones, less those of a comparison of one; two at a time on two cores."""
    ways = {"local, one at a time": "--jobs=1", "local, two at a time": "--jobs=2", "ray": "--executor=ray"}
    rows = []
    for way, option in ways.items():
        total = {}
        for count in (1, runs):
            seeds = f"--seeds={list(range(count))}"
            with tempfile.TemporaryDirectory() as folder:
                total[count] = compare(Path(folder), "--backbones=[lenet]", seeds, *TRIVIAL, option)
                sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
        run_s = (total[runs] - total[1]) / (runs - 1)
        rows.append({"way": way, "s a run": run_s, "first run s": total[1], "bytes a run": sum(sizes) / runs})
    return rows


def epoch_s(backbone: str, processes: int) -> float:
    """Seconds of an epoch in so many processes, which share two threads."""
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), f"--backbones=[{backbone}]", f"--trainer.devices={processes}", *EPOCHS, threads=2)
        (path,) = Path(folder).rglob("result.json")
        return float(RunResult.load(path).value("train_epoch_s") or 0)


def devices(rounds: int) -> list[dict[str, Any]]:
    """An epoch in one process with two threads, and in two processes with one thread each, in turn."""
    rows = []
    for backbone in ("lenet", "resnet20"):
        sides = {"one process": partial(epoch_s, backbone, 1), "two processes": partial(epoch_s, backbone, 2)}
        seconds = in_turn(sides, rounds, warm_up=0)
        ratio = median_ratio(seconds["two processes"], seconds["one process"])
        rows.append({"backbone": backbone, "two over one": ratio, "seconds": seconds})
    return rows


def store_runs(folder: Path, runs: int, networks: int) -> None:
    """So many finished runs, each with the curves of 50 epochs and 10,000 predictions."""
    draw = np.random.default_rng(0)
    labels = np.arange(10_000) % 10
    noise = draw.dirichlet(np.full(10, 0.2), 10_000).astype(np.float16)
    for number in range(runs):
        backbone, seed = f"net{number % networks}", number // networks
        run = folder / backbone / f"seed_{seed}"
        right = draw.random(10_000) < 0.8 + 0.1 * (number % networks) / networks
        predictions = np.where(right, labels, (labels + 1) % 10)
        run.mkdir(parents=True)
        np.savez(run / "predictions.npz", labels=labels, predictions=predictions, probabilities=draw.permutation(noise))
        curve = [{"epoch": e, "val/acc": 0.8 * e / 50, "time/train_epoch_s": 10.0} for e in range(50)]
        write_csv(run / "metrics.csv", curve)
        (run / "config.yaml").write_text(f"seed_everything: {seed}\nmodel:\n  backbone: {backbone}\n")
        result = RunResult(
            backbone=backbone,
            seed=seed,
            status="finished",
            metrics=metrics_of({"test_acc_pct": 100 * float(right.mean()), "train_epoch_s": 10.0, "params": 1_000_000}),
            test_images=10_000,
            train_epochs_s=[float(seconds) for seconds in draw.uniform(9, 11, 50)],
            data_fingerprint=f"{seed}",
        )
        result.save(run / "result.json")


def report_of(runs: int, networks: int) -> dict[str, Any]:
    """Time, memory and page of a report."""
    with tempfile.TemporaryDirectory() as folder:
        store_runs(Path(folder), runs, networks)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        write_report(folder)
        return {
            "runs": runs,
            "networks": networks,
            "s": time.perf_counter() - start,
            "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "peak before MiB": before / 1024,
            "page MiB": (Path(folder) / "report.html").stat().st_size / 2**20,
        }


def reports() -> list[dict[str, Any]]:
    """Each in a process of its own, so that its peak of memory is its own too."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(report_of, (1_000, 1_000, 10_000), (10, 30, 10)))


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("schedulers", "devices", "reports")
    parser.add_argument("parts", choices=parts, nargs="*", default=parts)
    parser.add_argument("--runs", type=int, default=200, help="of each scheduler")
    parser.add_argument("--rounds", type=int, default=5, help="of the devices")
    options = parser.parse_args()
    measure = {"schedulers": partial(schedulers, options.runs), "devices": partial(devices, options.rounds)}
    measure["reports"] = reports
    for part in options.parts:
        report(f"scaling_{part}", measure[part](), None)


if __name__ == "__main__":
    main()
