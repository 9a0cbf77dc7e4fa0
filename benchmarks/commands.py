"""What the commands cost besides training, and what several runs at a time gain. Each side is a process, in turn.

- startup: the command, a tiny comparison and each further run of it, against importing what they need. A tiny run is
  LeNet on 1,000 images of CIFAR-10, one epoch, with its validation and its test of 10,000 images.
- memory: the largest resident set of `fit`, with two and with eight epochs, over an idle process.
- uses: time and memory of `data`, `predict`, `report` and `export` on many files, against what one process of Pillow,
  torch and numpy needs for the same.
- jobs: `--jobs=auto` against one and two runs at a time, without the turns that measure times afterwards. Unset
  OMP_NUM_THREADS first: the threads that torch takes by itself are what runs share.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, in_turn, median_ratio, report
from PIL import Image
from scaling import store_runs

CLI = [sys.executable, "-m", "cnn_compare"]

FIT = """
from cnn_compare.experiment import ExperimentCLI
options = {{"max_epochs": {epochs}, "limit_train_batches": 100, "default_root_dir": {folder!r}}}
cli = ExperimentCLI({{"model": {{"backbone": "lenet"}}, "trainer": options}}, run=False)
cli.trainer.fit(cli.model, cli.datamodule)
cli.trainer.test(cli.model, cli.datamodule, verbose=False)
"""
PEAK = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
ALLOWED_MIB = 60_000 * 32 * 32 * 3 / 2**20 + 250

TINY = ["--backbones=[lenet]", "--trainer.max_epochs=1", "--data.train_subset=1000"]
FURTHER = 8

DIGITS = ["--data=DigitsDataModule", "--data.batch_size=32", "--data.train_subset=600", "--data.val_size=100"]
SMALL, LARGE = "[lenet,mobilenet_v2,resnet20]", "[resnet18,googlenet,densenet121]"
PHOTOGRAPHS = [
    "--data=FolderDataModule",
    f"--data.labels={os.environ.get('CNN_COMPARE_DATA_DIR', 'data')}/sign-language-digits/labels.csv",
    "--data.image_size=64",
    "--trainer.max_epochs=2",
]
MIXES = {
    "four LeNets": [
        *("--backbones=[lenet]", "--seeds=[0,1,2,3]"),
        *("--trainer.max_epochs=3", "--data.train_subset=20000"),
    ],
    "small only": [f"--backbones={SMALL}", "--trainer.max_epochs=6", *DIGITS],
    "large only": [f"--backbones={LARGE}", "--trainer.max_epochs=2", *DIGITS],
    "one large among small (quick start)": ["--config=configs/comparisons/quickstart.yaml"],
    "five seeds on photographs": ["--backbones=[lenet,lenet_relu,mobilenet_v2]", "--seeds=[0,1,2,3,4]", *PHOTOGRAPHS],
}


def wall(*command: str) -> Callable[[], float]:
    """Seconds that a command takes."""

    def measure() -> float:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)
        return time.perf_counter() - start

    return measure


def comparison(*options: str) -> Callable[[], float]:
    """Seconds of a comparison, in a folder that is not kept."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return wall(*CLI, "compare", "--name=x", f"--log_dir={folder}", *options)()

    return measure


def startup(repeats: int) -> None:
    """The commands against the imports, with the ratios that they may have at most."""
    python = [sys.executable, "-c", "import torch"]
    four = f"{python[-1]}, torchvision, torchmetrics.classification, lightning.pytorch.cli"
    seconds = in_turn(
        {
            "torch": wall(*python),
            "four packages": wall(*python[:-1], four),
            "what fit needs": wall(*python[:-1], f"{four}, sklearn.datasets, rich, yaml"),
            "--help": wall(*CLI, "--help"),
            "backbones": wall(*CLI, "backbones"),
            "fit --help": wall(*CLI, "fit", "--help"),
            "one tiny run": comparison("--seeds=[0]", *TINY),
            "many": comparison(f"--seeds={list(range(1 + FURTHER))}", *TINY),
        },
        repeats,
    )
    pairs = zip(seconds["many"], seconds["one tiny run"], strict=True)
    seconds["each further run"] = [(many - one) / FURTHER for many, one in pairs]
    rows = []
    for imports, what, limit in (
        ("torch", "--help", 0.35),
        ("torch", "backbones", 1.5),
        ("what fit needs", "fit --help", 1.3),
        ("four packages", "one tiny run", 1.35),
        ("four packages", "each further run", 0.13),
    ):
        row = {"what": what, "s": statistics.median(seconds[what]), "against importing": imports}
        rows.append({**row, "ratio": median_ratio(seconds[what], seconds[imports]), "at most": limit})
    report("startup", rows, seconds)


def jobs(mixes: list[str], repeats: int) -> None:
    """`--jobs=auto` against one and two."""
    rows, raw = [], {}
    for mix in mixes:
        options = [*MIXES[mix], "--times=never"]
        ways = {f"--jobs={count}": comparison(*options, f"--jobs={count}") for count in ("auto", 1, 2)}
        seconds = raw[mix] = in_turn(ways, repeats, warm_up=0)
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        row = {f"{way}, s": median for way, median in medians.items()}
        row |= {f"as fast as {way}": median_ratio(seconds[way], seconds["--jobs=auto"]) for way in [*ways][1:]}
        rows.append({"mix": mix, **row})
    report("jobs", rows, raw)


def peak_mib(code: str, **values: Any) -> float:
    """Largest resident set of a process that runs the code."""
    with tempfile.TemporaryDirectory() as folder:
        program = code.format(folder=folder, **values) + PEAK
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def memory(repeats: int) -> None:
    """Peaks of `fit` with LeNet on CIFAR-10, over importing torch and Lightning."""
    sides = {
        "idle": lambda: peak_mib("import torch, lightning"),
        "fit, 2 epochs": lambda: peak_mib(FIT, epochs=2),
        "fit, 8 epochs": lambda: peak_mib(FIT, epochs=8),
    }
    raw = in_turn(sides, repeats, warm_up=0)
    median = {name: statistics.median(values) for name, values in raw.items()}
    rows = [{"what": name, "MiB": mib, "over idle MiB": mib - median["idle"]} for name, mib in median.items()]
    rows.append({"what": "allowed: the data + 250 MiB", "MiB": "", "over idle MiB": ALLOWED_MIB})
    report("memory", rows, raw)


READ = """
import sys, numpy as np
from pathlib import Path
from PIL import Image
def picture(path, side):
    with Image.open(path) as image:
        image = image.convert("RGB")
        scale = side / min(image.size)
        image = image.resize([max(side, round(length * scale)) for length in image.size])
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return np.asarray(image.crop((left, top, left + side, top + side)))
"""
ALONE = {
    "data": READ + "pixels = np.stack([picture(path, 64) for path in sorted(Path(sys.argv[1]).glob('*/*.jpg'))])",
    "predict": READ
    + """
import torch
from cnn_compare import build_backbone
network = build_backbone("resnet18", 10, "imagenet").eval().to(memory_format=torch.channels_last)
paths = sorted(Path(sys.argv[1]).glob("*/*.jpg"))
with torch.inference_mode():
    for start in range(0, len(paths), 64):
        pixels = np.stack([picture(path, 64) for path in paths[start : start + 64]])
        network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).softmax(1)
""",
    "report": """
import sys, numpy as np
from pathlib import Path
right = []
for path in sorted(Path(sys.argv[1]).glob("*/*/predictions.npz")):
    with np.load(path) as file:
        labels, predictions, probabilities = (file[name] for name in ("labels", "predictions", "probabilities"))
    np.add.at(np.zeros((10, 10), int), (labels, predictions), 1)
    np.histogram(probabilities.max(1).astype(float), 15, weights=labels == predictions)
    right.append(labels == predictions)
np.cov(np.array(right, float))
""",
    "export": """
import torch, numpy as np, onnxruntime, io
from cnn_compare import build_backbone
network, example = build_backbone("resnet18", 10, "imagenet").eval(), torch.zeros(2, 3, 64, 64)
batch = {0: torch.export.Dim("batch", min=1)}
program = torch.onnx.export(network, (example,), dynamo=True, dynamic_shapes=(batch,), verbose=False)
file = io.BytesIO()
program.save(file)
session = onnxruntime.InferenceSession(file.getvalue())
for size in (1, 2, 7):
    session.run(None, {session.get_inputs()[0].name: np.zeros((size, 3, 64, 64), np.float32)})
""",
}


# The largest resident set since the program began: what a parent's fork leaves in ru_maxrss is not counted.
PEAK_OF = """
import atexit, os, re, sys
from pathlib import Path
@atexit.register
def peak():
    Path(os.environ["PEAK_FILE"]).write_text(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""
OURS = "from cnn_compare.cli import main; main()"


def cost(code: str, arguments: list[str], peaks: list[float]) -> float:
    """Seconds of a program; the largest resident set of its first process in MiB goes into a list."""
    with tempfile.TemporaryDirectory() as place:
        peak = Path(place) / "peak"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PEAK_FILE": str(peak)}
        program = [sys.executable, "-c", PEAK_OF + code, *arguments]
        start = time.perf_counter()
        subprocess.run(program, check=True, capture_output=True, cwd=place, env=environment)
        seconds = time.perf_counter() - start
        peaks.append(int(peak.read_text()) / 1024)
    return seconds


def uses(pictures: int, repeats: int) -> None:
    """Each command against the same work alone, each time with an empty cache."""
    with tempfile.TemporaryDirectory() as place:
        photos, runs, output = Path(place) / "photos", Path(place) / "runs", Path(place) / "out.onnx"
        draw = np.random.default_rng(0)
        for number in range(pictures):
            folder = photos / f"class {number % 10}"
            folder.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(draw.integers(0, 256, (9, 12, 3), np.uint8))
            coarse.resize((100, 75)).save(folder / f"{number}.jpg")
        some = Path(place) / "some"
        some.mkdir()
        for folder in photos.iterdir():
            (some / folder.name).mkdir()
            for path in sorted(folder.iterdir())[: pictures // 60]:
                (some / folder.name / path.name).hardlink_to(path)
        store_runs(runs, 26 * 5, 26)
        options = [
            "--trainer.max_epochs=1",
            "--data=FolderDataModule",
            f"--data.data_dir={some}",
            "--data.image_size=64",
        ]
        run = ["--backbones=[resnet18]", "--seeds=[0]", "--times=never", "--name=x", f"--log_dir={place}", *options]
        subprocess.run([*CLI, "compare", *run], check=True, capture_output=True, cwd=ROOT)
        trained = f"{place}/x"
        commands = {
            "data": ["data", str(photos), "--data.image_size=64"],
            "predict": ["predict", trained, str(some), f"--output={place}/answers.csv"],
            "report": ["report", str(runs)],
            "export": ["export", trained, f"--output={output}"],
        }
        inputs = {"data": photos, "predict": some, "report": runs, "export": runs}
        os.environ["CNN_COMPARE_CACHE_DIR"] = f"{place}/cache"

        def ours(what: str) -> float:
            for left in (*Path(place).glob("out*"), *Path(place).glob("answers*"), *Path(place).glob("*.md")):
                left.unlink()
            shutil.rmtree(f"{place}/cache", ignore_errors=True)
            return cost(OURS, commands[what], peaks[what])

        def alone(what: str) -> float:
            return cost(ALONE[what], [str(inputs[what])], peaks[f"{what} alone"])

        peaks: dict[str, list[float]] = {side: [] for what in commands for side in (what, f"{what} alone")}
        rows, raw = [], {}
        for what in commands:
            sides = {what: partial(ours, what), f"{what} alone": partial(alone, what)}
            seconds = raw[what] = in_turn(sides, repeats, warm_up=0)
            both = [(statistics.median(seconds[side]), statistics.median(peaks[side])) for side in sides]
            (s, mib), (alone_s, alone_mib) = both
            ratios = {"times as long": s / alone_s, "times the memory": mib / alone_mib}
            rows.append({"what": what, "s": s, "MiB": mib, "alone s": alone_s, "alone MiB": alone_mib, **ratios})
    report("uses", rows, raw)


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=("startup", "memory", "uses", "jobs"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=MIXES, action="append", help="of jobs: only these mixes")
    parser.add_argument("--pictures", type=int, default=60_000, help="of uses")
    options = parser.parse_args()
    subjects = {
        "startup": startup,
        "memory": memory,
        "uses": partial(uses, options.pictures),
        "jobs": partial(jobs, options.only or list(MIXES)),
    }
    subjects[options.subject](options.repeats)


if __name__ == "__main__":
    main()
