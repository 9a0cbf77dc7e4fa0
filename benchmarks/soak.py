"""Kill one comparison again and again, at random moments, and see whether it ends as if nothing had happened.

Compared with an uninterrupted run: predictions and curves bit for bit, and the tested weights. Half of the kills wait
for a file that is being written (checkpoints, curves, results: their temporary names), and strike there.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import report

BACKBONES, SEEDS = ["lenet", "lenet_relu", "resnet20"], [0, 1]
OPTIONS = ["--data=DigitsDataModule", "--data.train_subset=400", "--data.val_size=100", "--data.augmentation=crop_flip"]
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


def command(folder: Path) -> list[str]:
    """The comparison: six runs of 80 epochs."""
    return [
        *(sys.executable, "-m", "cnn_compare", "compare", "--name=soak", f"--log_dir={folder}"),
        *(f"--backbones=[{','.join(BACKBONES)}]", f"--seeds={SEEDS}", "--trainer.max_epochs=80", *OPTIONS),
    ]


def outcome(folder: Path) -> dict[str, Any]:
    """What must not depend on interruptions, by run."""
    found = {}
    for path in sorted((folder / "soak").rglob("result.json")):
        run = path.parent
        with np.load(run / "predictions.npz") as stored:
            predictions = stored["probabilities"].tobytes()
        with (run / "metrics.csv").open() as file:
            curves = [{k: v for k, v in row.items() if "_s" not in k} for row in csv.DictReader(file)]
        weights = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        tensors = {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
        status = json.loads(path.read_text())["status"]
        found[str(run.relative_to(folder))] = (status, predictions, curves, tensors)
    return found


def half_written(folder: Path) -> list[str]:
    """Files that are being written at this moment, or were when their writer died."""
    return [path.name for path in folder.rglob(".*.tmp")]


def strike(folder: Path, draw: random.Random, longest_s: float) -> dict[str, Any] | None:
    """Start the comparison and end it by a signal; None if it came to its end before.

    A strike at a write goes to all processes at once, so that the file stays half written; others to the command alone.
    """
    process = subprocess.Popen(
        command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    sent, at_write = draw.choice(SIGNALS), draw.random() < 1 / 2
    after_s = draw.uniform(0.5, longest_s)
    start = time.monotonic()
    while process.poll() is None and time.monotonic() - start < after_s:
        time.sleep(0.02)
    while at_write and process.poll() is None and not half_written(folder) and time.monotonic() - start < after_s + 10:
        pass
    if process.poll() is not None:
        return None
    if at_write:
        sent = signal.SIGKILL
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    process.wait()
    elapsed = round(time.monotonic() - start, 2)
    return {"signal": sent.name, "after_s": elapsed, "half_written": half_written(folder)}


def main() -> None:
    """Run once in peace, once under fire, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A shell that starts this in the background has it ignore interrupts, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as temporary:
        whole, soaked = Path(temporary) / "whole", Path(temporary) / "soaked"
        start = time.monotonic()
        subprocess.run(command(whole), check=True, capture_output=True)
        whole_s = time.monotonic() - start
        draw, kills = random.Random(options.seed), []
        while len(kills) < options.kills:
            # Short enough for all kills to fall within the comparison.
            kill = strike(soaked, draw, longest_s=max(6.0, 3 * whole_s / options.kills))
            if kill is None:
                break
            kills.append(kill)
            print(len(kills), kill, flush=True)
        last = subprocess.run(command(soaked), capture_output=True, text=True)
        same = outcome(soaked) == outcome(whole)
    half = sum(bool(kill["half_written"]) for kill in kills)
    row = {"kills": len(kills), "half written": half, "same as without": same, "last status": last.returncode}
    report("soak", [row], kills)
    sys.exit(0 if same and last.returncode == 0 else f"differs from the comparison without kills:\n{last.stderr}")


if __name__ == "__main__":
    main()
