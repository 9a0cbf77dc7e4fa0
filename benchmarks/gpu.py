"""Everything that waits for a GPU, in one command: CUDA tests, speeds and accuracies, each a step with its own limit.

    python -m benchmarks.gpu pack                  # where there is a network: what the GPU's machine lacks, in parts
    python -m benchmarks.gpu unpack                # on the GPU's machine, with one part or all of them in .gpu/
    python -m benchmarks.gpu                       # there: all steps; or name some of them, in the order wanted
    python -m benchmarks.gpu --rehearse --output /tmp/rehearsal        # on any machine: all of it at toy size

A step's rows and the end of its output are in STEP.json as soon as there are any. A step that fails or takes too long
is recorded with its reason, and the others go on. This file needs the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

Row = dict[str, Any]

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "gpu"
PACKED = ROOT / ".gpu"
UNPACKED = Path(tempfile.gettempdir()) / "cnn_compare_gpu"

# What the GPU's machine lacks of the dependencies; it has torch, torchvision, lightning, pandas and pytest.
WHEELS = ("jsonargparse", "docstring_parser", "typeshed_client", "pooch", "platformdirs", "plotly", "shtab")
CIFAR10 = "cifar-10-batches-py"
# With the working tree, a part has to stay below the 64 MiB that one call can carry there.
PART_BYTES = 50 * 2**20

TOY = [
    "--data=DigitsDataModule",
    "--data.train_subset=40",
    "--data.val_size=20",
    "--data.batch_size=20",
    "--data.image_size=32",
    "--trainer.max_epochs=1",
    "--trainer.precision=32-true",
    "--model.compile=false",
    "--backbones=[lenet]",
    "--seeds=[0]",
]
"""What makes any comparison one of a few seconds without a GPU."""

AIRBENCH = {
    "what": "airbench, published and not run here",
    "test_acc_pct": 94.01,
    "training_s": {"airbench94.py (train94)": 3.83, "airbench94_compiled.py": 3.09, "airbench94_muon.py": 2.59},
    "device": "NVIDIA A100",
    "source": "README of github.com/KellerJordan/cifar10-airbench; arXiv:2404.00498",
}

# Where seconds are the result: nothing beside the run, and no result of another machine.
ANEW = ["--jobs=1", "--on_existing=overwrite"]

# ResNet18 is held against a fixed figure, the others against the best published accuracy less 0.3 points.
WANTED_PCT = {"resnet18": 95.5, "vgg16_bn": 94.0, "googlenet": 95.05, "mobilenet_v2": 94.1, "densenet121": 95.25}


class StepError(Exception):
    """Why a step ended early; ``status`` says how."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Work:
    """What a step works with.

    Args:
        rehearsal: Whether toy sizes are wanted.
        scratch: A folder for files that are not kept.
        log_dir: The folder of the comparisons that are kept.
        log: Takes what the step's processes print.
        limit_s: Seconds from now after which they are killed.
    """

    rehearsal: bool
    scratch: Path
    log_dir: Path
    log: TextIO
    limit_s: float

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.limit_s

    def python(self, *arguments: str) -> None:
        """Run Python with these arguments in a process of its own; end that and all that it started at the limit.

        Raises:
            StepError: If it fails or takes too long.
        """
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(max(0.0, self.end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise StepError("timed out", f"stopped after {self.limit_s:.0f} s") from None
        finally:
            # The whole group: a comparison's runs are processes of their own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if status:
            raise StepError("failed", f"{' '.join(arguments[:2])} ended with status {status}")

    def script(self, name: str, repeats: int) -> Iterator[Row]:
        """The rows of another benchmark, with every single measurement; a process a network, so that one can fail."""
        repeats, batches = (1, ["--batches=2"]) if self.rehearsal else (repeats, [])
        for backbone in ("lenet", *self.later("resnet18")):
            output = self.scratch / backbone
            options = [f"--output={output}", f"--repeats={repeats}", "--backbones", backbone]
            self.python(f"benchmarks/{name}.py", *options, *batches)
            (path,) = output.iterdir()
            stored = json.loads(path.read_text())
            for row in stored["rows"]:
                yield {**row, "seconds": stored["raw"][backbone]}

    def later(self, *values: Any) -> tuple[Any, ...]:
        """What a rehearsal leaves out."""
        return () if self.rehearsal else values

    def compare(self, log_dir: Path, name: str, *options: str) -> Iterator[Row]:
        """Run a comparison; a row for each run that has ended, also where a limit ends the comparison early."""
        toy = TOY if self.rehearsal else []
        where = [f"--name={name}", f"--log_dir={log_dir}", "--times=never"]
        try:
            self.python("-m", "cnn_compare", "compare", *options, *where, *toy)
        finally:
            yield from runs(log_dir / name)


def runs(folder: Path) -> Iterator[Row]:
    """What the runs of a comparison recorded."""
    for path in sorted(folder.glob("*/seed_*/result.json")):
        result = json.loads(path.read_text())
        figures = {name: metric["value"] for name, metric in result["metrics"].items()}
        training_s = math.fsum(result["train_epochs_s"])
        kept = ("test_acc_pct", "best_val_acc_pct", "train_epoch_s", "first_epoch_s", "fit_s", "images_per_s")
        yield {
            **{name: result[name] for name in ("backbone", "seed", "status", "reason")},
            **{name: figures[name] for name in kept if name in figures},
            "training_s": training_s,
            "epochs": len(result["train_epochs_s"]),
        }


def cuda_tests(work: Work) -> Iterator[Row]:
    """A row a test. Without a device all are skipped, and so is the step."""
    outcomes = work.scratch / "tests.xml"
    # Without the project's options: the plug-ins and the warnings there may be others.
    options = ["--override-ini=addopts=", "--override-ini=filterwarnings=default", f"--junitxml={outcomes}"]
    try:
        work.python("-m", "pytest", "-q", "-rs", "tests/test_cuda.py", *options)
    finally:
        rows = [outcome(case) for case in ET.parse(outcomes).iter("testcase")] if outcomes.exists() else []
        yield from rows
    if all(row["outcome"] == "skipped" for row in rows):
        raise StepError("skipped", rows[0]["reason"])


def outcome(case: ET.Element) -> Row:
    """Of one test, from pytest's XML."""
    ended = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
    row = {"test": case.get("name"), "seconds": float(case.get("time", 0))}
    if ended is None:
        return {**row, "outcome": "passed"}
    return {**row, "outcome": ended.tag, "reason": ended.get("message")}


def training_step(work: Work) -> Iterator[Row]:
    """`fit` against a bare loop."""
    yield from work.script("training_step", repeats=5)


def peers(work: Work) -> Iterator[Row]:
    """`fit` against the zoos' loop."""
    yield from work.script("peers", repeats=3)


def speedrun(work: Work) -> Iterator[Row]:
    """Three seeds of the recipe, with what airbench published; 45,000 images train, where airbench's are 50,000."""
    yield AIRBENCH
    options = ["--recipe=speedrun", "--backbones=[resnet18]", "--seeds=[0,1,2]"]
    yield from work.compare(work.log_dir, "speedrun", *options, *ANEW)


def report(work: Work) -> Iterator[Row]:
    """The report's four networks for ten epochs, from random weights, and the seconds that all of it took."""
    start = time.monotonic()
    options = ["--config=report", "--model.pretrained=false"]
    options += ["--trainer.precision=bf16-mixed", "--trainer.benchmark=true"]
    yield from work.compare(work.log_dir, "report_gpu", *options, *ANEW)
    yield {"what": "the whole command", "seconds": time.monotonic() - start, "wanted_s": 90}


def jobs(work: Work) -> Iterator[Row]:
    """Images a second of one, two, four and eight runs at a time, all together; each trains for ten seconds."""
    options = ["--recipe=report_scratch", "--data.image_size=32", "--model.stem=cifar", "--data.val_size=500"]
    options += ["--trainer.precision=bf16-mixed", "--trainer.max_epochs=-1", "--trainer.max_time=00:00:00:10"]
    options += ["--data.train_subset=10000"]
    for backbone in ("lenet", *work.later("resnet18")):
        for count in (1, *work.later(2, 4, 8)):
            many = [f"--backbones=[{backbone}]", f"--seeds={list(range(count))}", f"--jobs={count}"]
            found = list(work.compare(work.scratch / f"{backbone}_{count}", "jobs", *options, *many))
            speeds = [row["images_per_s"] for row in found if "images_per_s" in row]
            yield {"backbone": backbone, "jobs": count, "images_per_s": math.fsum(speeds), "runs": len(speeds)}


def anchors(work: Work) -> Iterator[Row]:
    """Accuracies with what is wanted, as far as the time goes; runs that earlier calls finished are not repeated."""
    for row in work.compare(work.log_dir, "anchors", "--config=anchors", "--jobs=2"):
        yield {**row, "wanted_pct": WANTED_PCT.get(row["backbone"])}


@dataclass(frozen=True)
class Step:
    """A step: what it shows, the seconds that it may take, and what it does."""

    what: str
    limit_s: float
    rows: Callable[[Work], Iterator[Row]]


STEPS = {
    "tests": Step("tests/test_cuda.py", 90, cuda_tests),
    "training_step": Step("a steady fit epoch against a bare loop, both compiled, bfloat16", 180, training_step),
    "peers": Step("fit against the zoos' loop", 180, peers),
    "speedrun": Step("recipes/speedrun.yaml beside airbench's published figures", 180, speedrun),
    "report": Step("the report's four networks, ten epochs, 64 px", 180, report),
    "jobs": Step("images/s in all of 1, 2, 4 and 8 runs at a time", 300, jobs),
    "anchors": Step("accuracies of five networks, three seeds, against published ones", 600, anchors),
}


def run_steps(steps: Mapping[str, Step], output: Path, rehearsal: bool, seconds: float = math.inf) -> dict[str, str]:
    """Run steps one after the other, and store ``NAME.json`` of each.

    Args:
        steps: By name, in their order.
        output: Folder of the files; a rehearsal's comparisons are kept there too.
        rehearsal: Whether toy sizes are wanted.
        seconds: Of all steps together; a step for which nothing is left is skipped.

    Returns:
        Name -> ``finished``, ``failed``, ``timed out`` or ``skipped``.
    """
    end, statuses = time.monotonic() + seconds, {}
    log_dir = output / "lightning_logs" if rehearsal else ROOT / "lightning_logs"
    for name, step in steps.items():
        limit_s = min(step.limit_s, end - time.monotonic())
        record: Row = {"step": name, "what": step.what, "rehearsal": rehearsal, "limit_s": limit_s}
        record |= {"status": "running", "reason": None, "rows": []}
        path, start = output / f"{name}.json", time.monotonic()
        store(path, record)
        with tempfile.TemporaryDirectory() as scratch:
            log_path = Path(scratch) / "log"
            with log_path.open("w") as log:
                try:
                    if limit_s <= 0:
                        raise StepError("skipped", "no time is left")
                    for row in step.rows(Work(rehearsal, Path(scratch), log_dir, log, limit_s)):
                        record["rows"].append(row)
                        store(path, record)
                    record["status"] = "finished"
                except StepError as error:
                    record |= {"status": error.status, "reason": str(error)}
                except Exception as error:  # A mistake in one step must not cost the others their hour.
                    record |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
            record["log_tail"] = log_path.read_text(errors="replace").splitlines()[-60:]
        record["seconds"] = time.monotonic() - start
        store(path, record)
        statuses[name] = record["status"]
        print(f"{name}: {record['status']} after {record['seconds']:.0f} s. {record['reason'] or ''}", flush=True)
    return statuses


def store(path: Path, content: Any) -> None:
    """Write JSON so that no reader sees a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def environment() -> dict[str, str]:
    """Of a step's processes: this working tree before the unpacked wheels, and the unpacked data."""
    paths = [str(ROOT), str(UNPACKED / "site"), os.environ.get("PYTHONPATH", "")]
    result = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if (UNPACKED / CIFAR10).is_dir():
        result["CNN_COMPARE_DATA_DIR"] = str(UNPACKED)
    return result


def describe_machine() -> Row:
    """As the benchmarks store it, with the versions of the packages."""
    code = (
        "import json; from benchmarks.machine import machine; from cnn_compare.machine import versions; "
        "print(json.dumps({**machine(), 'versions': versions()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the packages cannot be imported; `unpack` first?\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def pack() -> None:
    """Store wheels and CIFAR-10 in ``.gpu/``, as one archive in parts."""
    data = Path(os.environ.get("CNN_COMPARE_DATA_DIR", "data")) / CIFAR10
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as wheels:
        chosen = ["--only-binary=:all:", "--python-version=3.12", f"--constraint={ROOT / 'constraints.txt'}"]
        subprocess.run([*pip, "download", "--no-deps", *chosen, f"--dest={wheels}", *WHEELS], check=True)
        # For its metadata, in which the versions of a result are looked up; the code is that of the working tree.
        subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={wheels}", str(ROOT)], check=True)
        parts = write_parts({"wheels": Path(wheels), CIFAR10: data}, PACKED, PART_BYTES)
    for path in parts:
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 2**20:.1f} MiB")


def write_parts(folders: Mapping[str, Path], destination: Path, part_bytes: int) -> list[Path]:
    """Write folders, by their names in the archive, as one compressed archive, cut into parts; return their paths."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, folder in folders.items():
            archive.add(folder, name)
    content = buffer.getvalue()
    cuts = range(0, len(content), part_bytes)
    destination.mkdir(exist_ok=True)
    for old in destination.glob("part-*"):
        old.unlink()
    paths = [destination / f"part-{number}-of-{len(cuts)}" for number in range(1, len(cuts) + 1)]
    for path, cut in zip(paths, cuts, strict=True):
        path.write_bytes(content[cut : cut + part_bytes])
    return paths


def unpack(packed: Path, destination: Path) -> bool:
    """Keep the parts in ``packed`` outside of the working tree; once all are there, unpack and install them.

    Returns:
        Whether everything is unpacked.
    """
    kept = destination / "parts"
    kept.mkdir(parents=True, exist_ok=True)
    for path in packed.glob("part-*-of-*"):
        (kept / path.name).write_bytes(path.read_bytes())
    parts = sorted(kept.iterdir(), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
    wanted = int(parts[0].name.rpartition("-")[2]) if parts else 1
    print(f"{len(parts)} of {wanted} parts are there", flush=True)
    if len(parts) < wanted:
        return False
    content = b"".join(path.read_bytes() for path in parts)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(destination, filter="data")
    if wheels := [str(path) for path in (destination / "wheels").glob("*.whl")]:
        install = ["install", "--quiet", "--no-index", "--no-deps", "--upgrade", f"--target={destination / 'site'}"]
        subprocess.run([sys.executable, "-m", "pip", *install, *wheels], check=True)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 if a step failed or took too long."""
    described = "\n".join(f"  {name:14} {step.what}; {step.limit_s:.0f} s at most" for name, step in STEPS.items())
    parser = argparse.ArgumentParser(
        "benchmarks.gpu",
        description=f"{__doc__}\nsteps:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", help="pack, unpack, or steps; default: all steps", metavar="STEP")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="folder of the results")
    parser.add_argument("--seconds", type=float, default=math.inf, help="of all steps together")
    parser.add_argument("--rehearse", action="store_true", help="run at toy size, also without a GPU")
    options = parser.parse_args(arguments)
    if options.what == ["pack"]:
        pack()
        return 0
    if options.what == ["unpack"]:
        unpack(PACKED, UNPACKED)
        return 0
    if unknown := set(options.what) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    if options.rehearse and options.output == RESULTS:
        parser.error("--rehearse needs another --output: its results are none")
    output, begun = options.output.resolve(), time.monotonic()
    machine = describe_machine()
    if not (options.rehearse or machine["device"].startswith("cuda")):
        parser.error("no CUDA device; --rehearse runs all steps at toy size")
    store(output / "machine.json", machine)
    steps = {name: STEPS[name] for name in options.what or STEPS}
    statuses = run_steps(steps, output, options.rehearse, options.seconds - (time.monotonic() - begun))
    return int(any(status in ("failed", "timed out") for status in statuses.values()))


if __name__ == "__main__":
    sys.exit(main())
