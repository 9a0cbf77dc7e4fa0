"""A thousand tiny runs in one comparison: does anything grow?

python benchmarks/load.py --output benchmarks/results/load.json

Watched from outside: resident memory and open files of the command and of the processes that its runs are
forked from, once for every fifty results. At the end every result is read back.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from cnn_compare.results import RunResult

OPTIONS = ["--data=DigitsDataModule", "--data.train_subset=40", "--data.val_size=20", "--trainer.max_epochs=1"]


def watch(process: subprocess.Popen[bytes], folder: Path) -> list[dict[str, float]]:
    """Memory and files of the command and of its lasting children, once for every fifty results."""
    command, samples = psutil.Process(process.pid), []
    while process.poll() is None:
        done = len(list((folder / "load" / "lenet").glob("*/result.json")))
        if done >= 50 * (len(samples) + 1):
            try:
                lasting = [command, *command.children()]
                samples.append(
                    {
                        "runs": done,
                        "memory_mib": sum(member.memory_info().rss for member in lasting) / 2**20,
                        "files": sum(member.num_fds() for member in lasting),
                    }
                )
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.5)
    return samples


def main() -> None:
    """Run, watch, read back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        folder, start = Path(temporary), time.monotonic()
        seeds = f"--seeds={list(range(options.runs))}"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "cnn_compare", "compare", "--name=load", f"--log_dir={folder}"),
                *("--backbones=[lenet]", seeds, *OPTIONS),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        samples = watch(process, folder)
        seconds = time.monotonic() - start
        results = [RunResult.load(path) for path in (folder / "load").rglob("result.json")]
    outcome: dict[str, Any] = {
        "runs": len(results),
        "finished": sum(result.status == "finished" for result in results),
        "exit_status": process.returncode,
        "seconds_a_run": seconds / max(1, len(results)),
        "samples": samples,
    }
    if len(samples) >= 4:
        half = len(samples) // 2
        for key in ("memory_mib", "files"):
            first, second = (statistics.median(each[key] for each in part) for part in (samples[:half], samples[half:]))
            outcome[f"{key}_second_half_over_first"] = second / first
    options.output.write_text(json.dumps(outcome, indent=1) + "\n")
    print({name: value for name, value in outcome.items() if name != "samples"})


if __name__ == "__main__":
    main()
