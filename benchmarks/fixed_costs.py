"""What a comparison costs besides training: one tiny run, and each further one, against importing what they need.

A tiny run is LeNet on 1,000 images of CIFAR-10, one epoch, with its validation and its test of 10,000 images. The sides
take turns. Also the memory that four runs at a time share, where Linux tells (PSS).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import psutil
from harness import in_turn, ratios, report
from startup import CLI, wall

TINY = ["--backbones=[lenet]", "--trainer.max_epochs=1", "--data.train_subset=1000"]
FURTHER = 8
IMAGES = "_images.npy"


def tiny(runs: int) -> Callable[[], float]:
    """Seconds of a comparison of so many tiny runs."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return wall(*CLI, "compare", "--name=x", f"--log_dir={folder}", f"--seeds={list(range(runs))}", *TINY)()

    return measure


def shared_pixels(runs: int) -> dict[str, float]:
    """MiB of mapped images while so many runs go on: of each process alone (RSS), and of all together (PSS)."""
    most = {"rss": 0.0, "pss": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        what = ["--name=x", f"--log_dir={folder}", f"--seeds={list(range(runs))}", f"--jobs={runs}", *TINY]
        process = subprocess.Popen([*CLI, "compare", *what], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ended = threading.Event()
        threading.Thread(target=lambda: (process.wait(), ended.set()), daemon=True).start()
        while not ended.wait(0.05):
            maps = []
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                try:
                    maps += [part for part in child.memory_maps() if part.path.endswith(IMAGES)]
                except psutil.Error:
                    continue  # It has just ended.
            for kind in most:
                most[kind] = max(most[kind], sum(getattr(part, kind) for part in maps) / 2**20)
    return most


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    python, imports = [sys.executable, "-c"], "the four packages"
    seconds = in_turn(
        {
            "import torch": wall(*python, "import torch"),
            imports: wall(*python, "import torch, torchvision, torchmetrics, lightning"),
            "backbones": wall(*CLI, "backbones"),
            "one tiny run": tiny(1),
            "many": tiny(1 + FURTHER),
        },
        options.repeats,
    )
    pairs = zip(seconds.pop("many"), seconds["one tiny run"], strict=True)
    seconds["each further run"] = [(many - one) / FURTHER for many, one in pairs]
    wanted = [("one tiny run", imports, 1.35), ("each further run", imports, 0.13), ("backbones", "import torch", 1.5)]
    memory = shared_pixels(4)
    print(
        f"four runs at a time map {memory['rss']:.0f} MiB of images, and hold {memory['pss']:.0f} MiB of memory for it"
    )
    report("fixed_costs", ratios(seconds, wanted), {"seconds": seconds, "shared_pixels_mib": memory, "at": time.time()})


if __name__ == "__main__":
    main()
