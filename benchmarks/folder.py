"""A folder of pictures: decoding it into the cache, against one process of Pillow and torchvision's transforms.

Both sides read the same JPEG files, as large as those of ImageNet, and end with one uint8 array; ours is on the disk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import in_turn, median_ratio, report
from PIL import Image
from torchvision.transforms import functional as TF

from cnn_compare.data.cache import clear_cache, decoded
from cnn_compare.data.decode import Decoding

WIDTH, HEIGHT, SIDE = 500, 375, 224
# Different files; the others are further names of theirs.
DISTINCT = 50


def write_photos(folder: Path, count: int) -> list[str]:
    """Write JPEG files of cloudy noise, which take about as many bytes as photographs; return their paths."""
    generator = np.random.default_rng(0)
    paths = [f"{number:06}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if number < DISTINCT:
            coarse = Image.fromarray(generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8))
            clouds = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
            noisy = clouds + generator.normal(0, 8, clouds.shape).astype(np.int16)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / path, quality=90)
        else:
            os.link(folder / paths[number % DISTINCT], folder / path)
    return paths


def ours(folder: Path, paths: list[str]) -> float:
    """Pictures a second, from an empty cache to the mapped array."""
    clear_cache(folder)
    start = time.perf_counter()
    decoded(folder, paths, Decoding(SIDE))
    return len(paths) / (time.perf_counter() - start)


def reference(folder: Path, paths: list[str]) -> float:
    """Pictures a second of one process, into memory."""
    start = time.perf_counter()
    images = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for row, path in zip(images, paths, strict=True):
        with Image.open(folder / path) as image:
            row[:] = TF.center_crop(TF.resize(image.convert("RGB"), SIDE), [SIDE, SIDE])
    return len(paths) / (time.perf_counter() - start)


def main() -> None:
    """Measure, check, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["CNN_COMPARE_CACHE_DIR"] = f"{temporary}/cache"
        folder = Path(temporary) / "photos"
        folder.mkdir()
        paths = write_photos(folder, options.pictures)
        sides = {"ours": lambda: ours(folder, paths), "one process": lambda: reference(folder, paths)}
        speeds = in_turn(sides, options.repeats)
    row = {f"{side} pictures/s": float(np.median(values)) for side, values in speeds.items()}
    ratio = median_ratio(speeds["ours"], speeds["one process"])
    report("folder_decoding", [{"case": f"{WIDTH}x{HEIGHT} JPEG to {SIDE}", **row, "ratio": ratio}], speeds)


if __name__ == "__main__":
    main()
