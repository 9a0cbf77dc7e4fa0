"""Past one machine: what scheduling, several devices and many runs cost here, and what follows for a cluster.

python benchmarks/scaling.py measure     # schedulers, devices and reports on this machine, about half an hour
python benchmarks/scaling.py simulate    # from what was measured, 1 to 1,000 GPUs

Both write to results/scaling.json. The simulation is no measurement: it plays 10,000 runs through with the measured
start-up times and sizes, and with a spread of run times and a failure rate that it names.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from growth import store_runs

from cnn_compare import write_report
from cnn_compare.machine import describe_device, versions
from cnn_compare.results import RunResult

STORED = Path(__file__).parent / "results" / "scaling.json"
LOGS = Path(__file__).parents[1] / "lightning_logs"
TRIVIAL = ["--data=DigitsDataModule", "--data.train_subset=40", "--data.val_size=20", "--trainer.max_epochs=1"]
EPOCHS = ["--data.augmentation=crop_flip", "--trainer.max_epochs=4", "--trainer.accelerator=cpu"]

# 419 unexpected interruptions in 54 days of 16,384 GPUs: Llama Team 2024, arXiv:2407.21783, section 3.3.4.
GPU_HOURS_PER_FAILURE = 54 * 24 * 16_384 / 419
RUNS, SEEDS = 10_000, 10
MEAN_RUN_S = 1_800.0
GPUS = (1, 10, 100, 1_000)
EPOCHS_A_RUN = 60


def compare_s(folder: Path, *options: str, threads: int = 1) -> tuple[float, float]:
    """Seconds of a comparison, and of the processor for the process that leads it."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", LEADER, "compare", f"--log_dir={folder}", *options]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, float(done.stderr.rpartition("leader ")[2])


LEADER = """
import resource, sys
from cnn_compare.cli import main
main()
used = resource.getrusage(resource.RUSAGE_SELF)
print("leader", used.ru_utime + used.ru_stime, file=sys.stderr)
"""


def schedulers(runs: int) -> dict[str, dict[str, float]]:
    """Seconds a run of many trivial ones, less those of a comparison of one; two at a time on two cores."""
    ways = {"local, one at a time": ["--jobs=1"], "local, two at a time": ["--jobs=2"], "ray": ["--executor=ray"]}
    found = {}
    for name, options in ways.items():
        total = {}
        for count in (1, runs):
            seeds = f"--seeds={list(range(count))}"
            with tempfile.TemporaryDirectory() as folder:
                total[count] = compare_s(Path(folder), "--name=x", "--backbones=[lenet]", seeds, *TRIVIAL, *options)
                sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
        (first, _), (every, leader) = total[1], total[runs]
        found[name] = {
            "seconds_a_run": (every - first) / (runs - 1),
            "leader_cpu_s_a_run": (leader - total[1][1]) / (runs - 1),
            "first_run_s": first,
            "bytes_a_run": sum(sizes) / runs,
        }
        print(name, found[name], flush=True)
    return found


def devices(rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds of an epoch in one process with two threads, and in two processes with one thread each, in turn."""
    found: dict[str, dict[str, Any]] = {}
    for backbone in ("lenet", "resnet20"):
        raw: dict[str, list[float]] = {"one process": [], "two processes": []}
        for _ in range(rounds):
            for name, count in (("one process", 1), ("two processes", 2)):
                with tempfile.TemporaryDirectory() as folder:
                    options = ["--name=x", f"--backbones=[{backbone}]", f"--trainer.devices={count}", *EPOCHS]
                    compare_s(Path(folder), "--data=DigitsDataModule", *options, threads=2)
                    (path,) = Path(folder).rglob("result.json")
                    raw[name].append(float(RunResult.load(path).value("train_epoch_s") or 0))
        median = {name: statistics.median(values) for name, values in raw.items()}
        found[backbone] = {"two_over_one": median["two processes"] / median["one process"], "epoch_s": raw}
        print(backbone, found[backbone], flush=True)
    return found


def report_of(runs: int, networks: int, results: Any) -> None:
    """Time, memory and page of a report, put into ``results``."""
    with tempfile.TemporaryDirectory() as folder:
        store_runs(Path(folder), runs, networks)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        write_report(folder)
        results.put(
            {
                "runs": runs,
                "networks": networks,
                "seconds": time.perf_counter() - start,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "peak_mib_before": before / 1024,
                "html_mib": (Path(folder) / "report.html").stat().st_size / 2**20,
                "folder_bytes_a_run": sum(path.stat().st_size for path in Path(folder).rglob("*")) / runs,
            }
        )


def reports() -> list[dict[str, float]]:
    """Each in a process of its own, so that its peak of memory is its own too."""
    context, found = multiprocessing.get_context("spawn"), []
    for runs, networks in ((1_000, 10), (1_000, 30), (10_000, 10)):
        results: Any = context.Queue()
        process = context.Process(target=report_of, args=(runs, networks, results))
        process.start()
        found.append(results.get())
        process.join()
        print(found[-1], flush=True)
    return found


def run_times() -> np.ndarray:
    """Of the stored reference runs, relative to their mean: what differs between networks of one comparison."""
    seconds = [s for path in LOGS.rglob("result.json") if (s := RunResult.load(path).value("fit_s"))]
    return np.array(seconds) / np.mean(seconds)


def simulate(
    gpus: int, spread: np.ndarray, start_s: float, leader_s: float, failures: float, longest_first: bool
) -> Any:
    """Play the runs through: each on the GPU that is free first, repeated from its last epoch when a GPU fails.

    Args:
        gpus: How many.
        spread: Run times, relative to their mean.
        start_s: From one run's end to the next one's first step.
        leader_s: Of the leading process for each run, one after the other.
        failures: A GPU-second's chance of one.
        longest_first: Whether the long runs of each seed begin first.
    """
    draw = np.random.default_rng(0)
    lengths = draw.choice(spread, RUNS // SEEDS) * MEAN_RUN_S
    if longest_first:
        lengths = np.sort(lengths)[::-1]
    lengths = np.tile(lengths, SEEDS)
    free = [0.0] * gpus
    leader, useful, lost, end = 0.0, 0.0, 0.0, 0.0
    for length in lengths:
        # The leader hands out one run at a time, and takes in one at a time.
        leader = max(leader, free[0]) + leader_s
        now, left = max(heapq.heappop(free), leader), float(length)
        while True:
            now += start_s
            until_failure = draw.exponential(1 / failures)
            if until_failure >= left:
                break
            kept = until_failure // (length / EPOCHS_A_RUN) * (length / EPOCHS_A_RUN)
            lost, now, left = lost + until_failure - kept, now + until_failure, left - kept
        useful += length
        heapq.heappush(free, now + left)
        end = max(end, now + left)
    return {
        "gpus": gpus,
        "longest_first": longest_first,
        "makespan_h": end / 3600,
        "utilisation": useful / (gpus * end),
        "lost_h": lost / 3600,
        "leader_busy": RUNS * leader_s / end,
    }


def simulations(measured: dict[str, Any]) -> dict[str, Any]:
    """The whole table, and what it starts from."""
    ray = measured["schedulers"]["ray"]
    spread = run_times()
    given: dict[str, Any] = {
        "runs": RUNS,
        "mean_run_s": MEAN_RUN_S,
        "start_s": 2 * ray["seconds_a_run"],  # Two at a time on the two cores that were measured.
        "leader_s": ray["leader_cpu_s_a_run"],
        "gpu_hours_per_failure": GPU_HOURS_PER_FAILURE,
        "spread": {"runs": len(spread), "longest": float(spread.max()), "std": float(spread.std())},
    }
    rows = []
    for often in (1, 1_000):
        failures = often / (GPU_HOURS_PER_FAILURE * 3600)
        for longest_first in (False, True):
            for gpus in GPUS:
                row = simulate(gpus, spread, given["start_s"], given["leader_s"], failures, longest_first)
                rows.append({"failures": often, **row})
                print(rows[-1], flush=True)
    return {"given": given, "rows": rows}


def main() -> None:
    """Measure or simulate, and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "schedulers", "devices", "reports", "simulate"))
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    stored: dict[str, Any] = json.loads(STORED.read_text()) if STORED.exists() else {}
    steps: dict[str, Callable[[], Any]] = {
        "schedulers": lambda: schedulers(options.runs),
        "devices": lambda: devices(options.rounds),
        "reports": reports,
        "simulate": lambda: simulations(stored),
    }
    for name in ("schedulers", "devices", "reports") if options.what == "measure" else (options.what,):
        stored[name] = steps[name]()
        stored["machine"] = {"device": describe_device(torch.device("cpu")), "cpu_count": os.cpu_count()}
        stored["versions"] = versions()
        STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
