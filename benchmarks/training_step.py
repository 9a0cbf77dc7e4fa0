"""A steady epoch of `fit`, logging, metrics, progress bar and timer on, against a bare PyTorch loop.

Both train the same architecture with the same optimiser on the same stored images in the same batches, an epoch of the
one and an epoch of the other in turn within one `fit`. The bare loop gets its batches ready-made: whatever fetching and
normalising cost counts against `fit`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import lightning as L
import torch
from harness import median_ratio, report
from input_pipeline import Noise
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F

from cnn_compare import ClassifierModule, EpochTimer
from cnn_compare.callbacks import CalmProgressBar

# backbone: (image size, batches an epoch)
CASES = {"lenet": (32, 200), "resnet18": (32, 12), "googlenet": (32, 20), "mobilenet_v2": (32, 15), "alexnet": (64, 10)}
BATCH = 128


class BareEpoch(Callback):
    """Before each epoch of `fit`, one of a bare loop. Listed first, so that the timer starts after it."""

    def __init__(self, module: ClassifierModule, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.network, self.batches = module.backbone.train(), batches
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        start = time.perf_counter()
        for images, labels in self.batches:
            self.optimizer.zero_grad()
            output = self.network(images)
            loss = F.cross_entropy(output if isinstance(output, torch.Tensor) else output[0], labels)
            for auxiliary in () if isinstance(output, torch.Tensor) else output[1:]:
                loss = loss + self.network.aux_loss_weight * F.cross_entropy(auxiliary, labels)
            loss.backward()
            self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)


def compare(backbone: str, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of the bare epochs and of those of `fit`, the first pair dropped."""
    image_size, count = CASES[backbone]
    data: Any = Noise(BATCH * count, normalization="cifar10", image_size=image_size, batch_size=BATCH)
    data.setup("fit")
    batches = [(data.to_input(batch[0]), batch[1]) for batch in data.train_dataloader()]
    bare = BareEpoch(ClassifierModule(backbone), batches)
    timer = EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=repeats + 1,
            callbacks=[bare, timer, CalmProgressBar()],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        trainer.fit(ClassifierModule(backbone), data)
    return bare.seconds[1:], timer.train_epoch_s[1:]


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    rows, raw = [], {}
    for backbone in options.backbones:
        bare, fit = compare(backbone, options.repeats)
        raw[backbone] = {"bare_s": bare, "fit_s": fit}
        images = BATCH * CASES[backbone][1]
        rows.append(
            {
                "backbone": backbone,
                "bare images/s": images / statistics.median(bare),
                "fit images/s": images / statistics.median(fit),
                "fit / bare": median_ratio(bare, fit),
            }
        )
    report("training_step", rows, raw)


if __name__ == "__main__":
    main()
