"""Everything that waits for a GPU, in one command: CUDA tests, speeds and accuracies, each a step with its own limit.

    python -m benchmarks.gpu                                       # all steps; or name some, in the order wanted
    python -m benchmarks.gpu --rehearse --output rehearsal         # on any machine: all of it at toy size

A step's rows and the end of its output are in STEP.json as soon as there are any. A step that fails or takes too long
is recorded with its reason, and the others go on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from cnn_compare.files import write_json

Row = dict[str, Any]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu"

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

# Where seconds are the result: nothing beside the run, and no result of another machine.
ANEW = ["--jobs=1", "--on_existing=overwrite"]


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
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
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

    def training(self, against: str, repeats: int) -> Iterator[Row]:
        """The rows of training.py, with every single measurement; a process a network, so that one can fail."""
        repeats, batches = (1, ["--batches=2"]) if self.rehearsal else (repeats, [])
        for backbone in ("lenet",) if self.rehearsal else ("lenet", "resnet18"):
            output = self.scratch / backbone
            options = [f"--output={output}", f"--repeats={repeats}", "--backbones", backbone]
            self.python("benchmarks/training.py", against, *options, *batches)
            (path,) = output.iterdir()
            stored = json.loads(path.read_text())
            for row in stored["rows"]:
                yield {**row, "seconds": stored["raw"][backbone]}

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
    """No rows: the end of pytest's output names what failed or was skipped. Without a device it skips all."""
    # Without the project's options: the plug-ins and the warnings there may be others.
    options = ["--override-ini=addopts=", "--override-ini=filterwarnings=default"]
    work.python("-m", "pytest", "-q", "-rs", "tests/test_cuda.py", *options)
    yield from ()


def speedrun(work: Work) -> Iterator[Row]:
    """Three seeds of the recipe; 45,000 images train, where airbench's are 50,000."""
    options = ["--recipe=speedrun", "--backbones=[resnet18]", "--seeds=[0,1,2]"]
    yield from work.compare(work.log_dir, "speedrun", *options, *ANEW)


def report(work: Work) -> Iterator[Row]:
    """The report's four networks for ten epochs, from random weights, and the seconds that all of it took."""
    start = time.monotonic()
    options = ["--config=report", "--model.pretrained=false"]
    options += ["--trainer.precision=bf16-mixed", "--trainer.benchmark=true"]
    yield from work.compare(work.log_dir, "report_gpu", *options, *ANEW)
    yield {"what": "the whole command", "seconds": time.monotonic() - start, "wanted_s": 90}


def anchors(work: Work) -> Iterator[Row]:
    """Accuracies, as far as the time goes; runs that earlier calls finished are not repeated."""
    yield from work.compare(work.log_dir, "anchors", "--config=anchors", "--jobs=2")


@dataclass(frozen=True)
class Step:
    """A step: what it shows, the seconds that it may take, and what it does."""

    what: str
    limit_s: float
    rows: Callable[[Work], Iterator[Row]]


STEPS = {
    "tests": Step("tests/test_cuda.py", 90, cuda_tests),
    "zoo": Step("a steady fit epoch against the zoos' loop", 180, lambda work: work.training("zoo", 3)),
    "bare": Step("the same against a bare loop, both compiled, bfloat16", 180, lambda work: work.training("bare", 5)),
    "speedrun": Step("seconds and accuracy of recipes/speedrun.yaml", 180, speedrun),
    "report": Step("the report's four networks, ten epochs, 64 px", 180, report),
    "anchors": Step("accuracies of five networks, three seeds", 600, anchors),
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
        write_json(path, record)
        with tempfile.TemporaryDirectory() as scratch:
            log_path = Path(scratch) / "log"
            with log_path.open("w") as log:
                try:
                    if limit_s <= 0:
                        raise StepError("skipped", "no time is left")
                    for row in step.rows(Work(rehearsal, Path(scratch), log_dir, log, limit_s)):
                        record["rows"].append(row)
                        write_json(path, record)
                    record["status"] = "finished"
                except StepError as error:
                    record |= {"status": error.status, "reason": str(error)}
                except Exception as error:  # A mistake in one step must not cost the others their hour.
                    record |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
            record["log_tail"] = log_path.read_text(errors="replace").splitlines()[-60:]
        record["seconds"] = time.monotonic() - start
        write_json(path, record)
        statuses[name] = record["status"]
        print(f"{name}: {record['status']} after {record['seconds']:.0f} s. {record['reason'] or ''}", flush=True)
    return statuses


def machine() -> Row:
    """As the benchmarks store it; in a process of its own, so that none of the GPU's memory stays taken."""
    code = "import json; from benchmarks.harness import machine; print(json.dumps(machine()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 if a step failed or took too long."""
    described = "\n".join(f"  {name:14} {step.what}; {step.limit_s:.0f} s at most" for name, step in STEPS.items())
    parser = argparse.ArgumentParser(
        "benchmarks.gpu",
        description=f"{__doc__}\nsteps:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", help="default: all steps", metavar="STEP")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="folder of the results")
    parser.add_argument("--seconds", type=float, default=math.inf, help="of all steps together")
    parser.add_argument("--rehearse", action="store_true", help="run at toy size, also without a GPU")
    options = parser.parse_args(arguments)
    if unknown := set(options.what) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    if options.rehearse and options.output == RESULTS:
        parser.error("--rehearse needs another --output: its results are none")
    output, begun = options.output.resolve(), time.monotonic()
    found = machine()
    if not (options.rehearse or found["device"].startswith("cuda")):
        parser.error("no CUDA device; --rehearse runs all steps at toy size")
    write_json(output / "machine.json", found)
    steps = {name: STEPS[name] for name in options.what or STEPS}
    statuses = run_steps(steps, output, options.rehearse, options.seconds - (time.monotonic() - begun))
    return int(any(status in ("failed", "timed out") for status in statuses.values()))


if __name__ == "__main__":
    sys.exit(main())
