"""Run folders made up from predictions whose truth is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
import yaml
from helpers import run_result

from cnn_compare.files import write_bytes, write_csv, write_text
from cnn_compare.results import RunFolder

IMAGES, CLASSES = 1_000, 10
LABELS = np.arange(IMAGES) % CLASSES


@pytest.fixture(scope="session")
def store_in():
    """Store a run whose answers are right for the images of ``right``, and one class further for the others."""

    def store(
        folder,
        backbone="resnet18",
        seed=0,
        right=range(800),
        config=None,
        labels=LABELS,
        fold=None,
        arrays=None,
        **fields,
    ):
        classes = max(CLASSES, int(labels.max()) + 1)
        folder = folder / backbone / f"seed_{seed}"
        folder = folder if fold is None else folder / f"fold_{fold}"
        predictions = (labels + 1) % classes
        predictions[list(right)] = labels[list(right)]
        probabilities = np.full((len(labels), classes), 0.02, np.float16)
        probabilities[np.arange(len(labels)), predictions] = 0.82
        buffer = io.BytesIO()
        answers = {"labels": labels, "predictions": predictions, "probabilities": probabilities}
        np.savez_compressed(buffer, **answers, **(arrays or {}))
        write_bytes(folder / "predictions.npz", buffer.getvalue())
        accuracy = 100 * float((predictions == labels).mean())
        curve = [
            {"epoch": e, "val/acc": (e + 1) / 3 * accuracy / 100, "val/loss": 2 - e / 2, "time/train_epoch_s": 5.0}
            for e in range(3)
        ]
        write_csv(folder / "metrics.csv", curve)
        settings = {"seed_everything": seed, "model": {"backbone": backbone}, "trainer": {"max_epochs": 3}}
        write_text(folder / "config.yaml", yaml.safe_dump({**settings, **(config or {})}))
        figures = {"test_acc_pct": accuracy, "best_val_acc_pct": accuracy, "train_acc_pct": 90.0, "first_epoch_s": 9.0}
        figures |= {"train_epoch_s": 5.0, "images_per_s": 1000.0, "params": 11_181_642, "macs": 1_800_000_000}
        figures |= {"training_memory_bytes": 2**30, "data_fingerprint": f"{seed} {fold}", "test_images": len(labels)}
        figures |= {"device": "cpu: this one", "precision": "32-true", "versions": {"torch": "2.15.0"}}
        figures |= {"class_names": [f"<{name}>" for name in "abcdefghij"], "contended": False}
        figures |= {"architecture": {"year": 2015, "venue": "CVPR 2016", "key_idea": "shortcuts", "depth": 18}}
        RunFolder(folder).save_result(run_result(backbone=backbone, seed=seed, fold=fold, **{**figures, **fields}))
        return folder

    return store


@pytest.fixture
def store_run(store_in, tmp_path):
    """The same in ``tmp_path``, unless a folder is named."""
    return lambda *arguments, folder=tmp_path, **fields: store_in(folder, *arguments, **fields)
