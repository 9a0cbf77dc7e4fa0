"""A network trained for an epoch on a few pictures, its checkpoint, and comparisons made up of copies of that."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import run_result
from lightning import Trainer
from PIL import Image

from cnn_compare import ClassifierModule, FolderDataModule
from cnn_compare.results import RunFolder

CLASSES = ("a b", "grün", "강아지")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 3 classes with 12 pictures each, of different sizes and formats."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(12):
            pixels = rng.normal(60 + 70 * label, 30, (50 + number, 70 - number, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.{('png', 'jpg', 'bmp')[number % 3]}")
    return root


def make_data(pictures, **options):
    # Every option of the preparation is other than its default.
    settings = {"batch_size": 4, "image_size": 32, "stored_size": 40, "fit": "pad", "background": (200, 10, 90)}
    return FolderDataModule(str(pictures), **{**settings, "normalization": "own", "val_size": 6, **options})


@pytest.fixture(scope="session")
def trained(pictures, tmp_path_factory):
    """The trained module, its data module, and the checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, num_sanity_val_steps=0, **quiet)
    module, data = ClassifierModule("lenet_relu", num_classes=3), make_data(pictures, augmentation="flip")
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "best.ckpt", weights_only=True)
    return module, data, folder / "best.ckpt"


@pytest.fixture
def store_run(tmp_path, trained):
    """Store a finished run of a comparison, with its checkpoint."""

    def store(backbone, seed, test_acc_pct, best_val_acc_pct, checkpoint=trained[2], status="finished"):
        run = RunFolder(tmp_path / "comparison" / backbone / f"seed_{seed}")
        run.save_result(
            run_result(
                backbone=backbone,
                seed=seed,
                status=status,
                test_acc_pct=test_acc_pct,
                best_val_acc_pct=best_val_acc_pct,
            )
        )
        run.checkpoints.mkdir()
        run.checkpoints.joinpath("best.ckpt").write_bytes(checkpoint.read_bytes())
        return tmp_path / "comparison"

    return store
