"""Whether every backbone under either stem gives the same answers after it is exported: run by hand, once a release.

The networks are fresh, and made to answer differently from image to image, as trained ones do: a fresh network's
answers hardly depend on the image, so that a broken export could look right.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import report
from torch import nn

from cnn_compare import Classifier, ClassifierModule, list_backbones
from cnn_compare.data.augment import to_input
from cnn_compare.data.decode import Decoding
from cnn_compare.data.image_datamodule import MEAN_STD
from cnn_compare.inference.export import SUFFIXES, TOLERANCE, check_pixels, export

SIDE = 32


def classifier(backbone: str, stem: Any, image_size: int) -> Classifier:
    """A fresh network whose batch norm knows the images, and whose logits have a deviation of 2 over them."""
    torch.manual_seed(0)
    module = ClassifierModule(backbone, 10, stem)
    names = [f"class {number}" for number in range(10)]
    result = Classifier(module, names, Decoding(SIDE), image_size, MEAN_STD["imagenet"])
    pixels = np.concatenate([check_pixels(result)[0], check_pixels(result)[0][:, ::-1]])
    images = to_input(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2), result.mean_std, image_size)
    with torch.no_grad():
        module.train()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.5
        for _ in range(8):
            module(images)
        head = [part for part in module.backbone.modules() if isinstance(part, nn.Linear)][-1]
        head.bias.zero_()
        logits = module.eval()(images)
        scale = 2 / logits.std(0).mean()
        head.weight.mul_(scale)
        head.bias.copy_(-scale * logits.mean(0))
    return result


def main() -> None:
    """Export all, and store how far each is from torch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", default=["onnx", "torch_export"], choices=SUFFIXES)
    parser.add_argument("--backbones", default="*", help="a pattern of names")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    rows = []
    for entry in list_backbones(options.backbones):
        for stem in ("imagenet", "cifar"):
            network = classifier(entry.name, stem, max(SIDE, entry.min_size(stem)))
            answers = network.probabilities(check_pixels(network)[0])
            row: dict[str, Any] = {"backbone": entry.name, "stem": stem, "px": network.image_size}
            row["deviation over images"] = float(answers.std(0).max())
            for format in options.formats:
                with tempfile.TemporaryDirectory() as folder:
                    start = time.perf_counter()
                    exported = export(network, format, Path(folder) / f"net{SUFFIXES[format]}")
                    row[f"{format}: difference"] = exported.difference
                    row[f"{format}: s"] = time.perf_counter() - start
                    row[f"{format}: MiB"] = exported.path.stat().st_size / 2**20
            rows.append(row)
            print(*row.values(), flush=True)
    worst = max(row[f"{format}: difference"] for row in rows for format in options.formats)
    print(f"{len(rows)} networks; largest difference {worst:.2g}, allowed {TOLERANCE:g}")
    report("export", rows, {"tolerance": TOLERANCE, "threads": torch.get_num_threads(), "nice": os.nice(0)})


if __name__ == "__main__":
    main()
