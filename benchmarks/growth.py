"""How costs grow: training time per image with the size of the data, report time with the number of stored runs."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from harness import report
from input_pipeline import Noise

from cnn_compare import ClassifierModule, EpochTimer, write_report
from cnn_compare.files import write_csv
from cnn_compare.machine import tune_process
from cnn_compare.results import RunResult, measured, usual_epoch_s

SIZES = (5_000, 15_000, 50_000)
RUNS = (10, 100, 1_000)


def epoch_s(size: int) -> float:
    """Seconds of LeNet's second epoch on so many images."""
    data: Any = Noise(size, augmentation="crop_flip")
    timer = EpochTimer()
    tune_process()
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(
        max_epochs=2, callbacks=[timer], logger=False, enable_checkpointing=False, num_sanity_val_steps=0, **quiet
    )
    trainer.fit(ClassifierModule("lenet"), data)
    return timer.train_epoch_s[1]


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
        metrics = {
            "test_acc_pct": 100 * float(right.mean()),
            "best_val_acc_pct": 85.0,
            "first_epoch_s": 12.0,
            "images_per_s": 5_000.0,
            "params": 1_000_000,
            "macs": 10_000_000,
            "training_memory_bytes": 2**30,
        }
        epochs_s = [float(seconds) for seconds in draw.uniform(9, 11, 50)]
        result = RunResult(
            backbone=backbone,
            seed=seed,
            status="finished",
            metrics=measured({**metrics, "train_epoch_s": usual_epoch_s(epochs_s)}),
            test_images=10_000,
            train_epochs_s=epochs_s,
            data_fingerprint=f"{seed}",
        )
        result.save(run / "result.json")


def report_s(runs: int) -> float:
    """Seconds of a report on so many stored runs of ten backbones."""
    with tempfile.TemporaryDirectory() as folder:
        store_runs(Path(folder), runs, networks=10)
        start = time.perf_counter()
        write_report(folder)
        return time.perf_counter() - start


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    raw: dict[str, dict[int, list[float]]] = {"epoch_s": {n: [] for n in SIZES}, "report_s": {n: [] for n in RUNS}}
    for _ in range(options.repeats):
        for size in SIZES:
            raw["epoch_s"][size].append(epoch_s(size))
        for runs in RUNS:
            raw["report_s"][runs].append(report_s(runs))
    rows = []
    for what, seconds_by_size in raw.items():
        unit_s = {size: statistics.median(values) / size for size, values in seconds_by_size.items()}
        first = next(iter(unit_s.values()))
        rows += [
            {
                "what": what,
                "n": n,
                "s": unit_s[n] * n,
                "microseconds each": unit_s[n] * 1e6,
                "against first": unit_s[n] / first,
            }
            for n in unit_s
        ]
    report("growth", rows, raw)


if __name__ == "__main__":
    main()
