"""The command for the hour with a GPU, rehearsed without one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from cnn_compare.cli import main

ROOT = Path(__file__).parents[1]
WAITS = "import signal; signal.pause()"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.gpu")


def stored(folder, step):
    return json.loads((folder / f"{step}.json").read_text())


def python_step(gpu, *codes, limit_s=60):
    """A step of one row for each code, which then runs."""

    def rows(work):
        for number, code in enumerate(codes):
            yield {"number": number}
            work.python("-c", code)

    return gpu.Step("codes", limit_s, rows)


def test_a_rehearsal_stores_the_machine_and_a_file_for_each_step(gpu, tmp_path, monkeypatch):
    """In this process: what starts and ends others is tested below."""
    started = []

    def python(work, module, *arguments):
        started.append(arguments)
        if arguments[0] == "cnn_compare":
            main([*arguments[1:]])

    monkeypatch.setattr(gpu.Work, "python", python)
    monkeypatch.setattr(gpu, "machine", lambda: {"device": "cpu: made up"})
    assert gpu.main(["tests", "speedrun", "--rehearse", f"--output={tmp_path}"]) == 0
    assert stored(tmp_path, "machine") == {"device": "cpu: made up"}
    assert (stored(tmp_path, "tests")["status"], started[0][0]) == ("finished", "pytest")
    assert all((ROOT / argument).exists() for argument in started[0] if argument.startswith("tests/"))
    speedrun = stored(tmp_path, "speedrun")
    assert speedrun["status"] == "finished"
    (run,) = speedrun["rows"]
    assert (run["backbone"], run["status"], run["epochs"]) == ("lenet", "finished", 1)
    assert run["training_s"] > 0
    assert (tmp_path / "lightning_logs" / "speedrun" / "manifest.json").exists()


def test_the_machine_of_the_benchmarks_is_the_one_that_trains(gpu):
    found = importlib.import_module("benchmarks.harness").machine()
    assert found["device"].startswith(("cpu: ", "cuda"))
    assert found["versions"]["torch"] == metadata.version("torch")


def test_a_step_that_fails_or_takes_too_long_is_recorded_and_the_next_one_runs(gpu, tmp_path):
    steps = {
        "fails": python_step(gpu, "", "print('why'); exit(3)"),
        "hangs": python_step(gpu, WAITS, limit_s=0.2),
        "mistaken": gpu.Step("no step", 60, lambda work: iter([{}[0]])),
        "works": python_step(gpu, "print('done')"),
    }
    assert [*gpu.run_steps(steps, tmp_path, rehearsal=True).values()] == ["failed", "timed out", "failed", "finished"]
    fails, hangs, mistaken, works = (stored(tmp_path, name) for name in steps)
    assert fails["reason"].endswith("ended with status 3")
    assert fails["log_tail"] == ["why"]
    assert [row["number"] for row in fails["rows"]] == [0, 1]
    assert hangs["reason"] == "stopped after 0 s"
    assert [row["number"] for row in hangs["rows"]] == [0]
    assert mistaken["reason"] == "KeyError: 0"
    assert (works["reason"], works["log_tail"]) == (None, ["done"])


def test_processes_that_a_step_has_started_end_with_it(gpu, tmp_path):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    inner = f"import os; os.write({writer}, b'x'); print(flush=True); {WAITS}"
    # The outer process hands the pipe on to one of its own, and ends when that waits.
    outer = "import subprocess, sys; "
    outer += (
        f"inner = subprocess.Popen([sys.executable, '-c', {inner!r}], pass_fds=[{writer}], stdout=subprocess.PIPE); "
    )
    outer += "inner.stdout.readline(); sys.exit(3)"
    popen = subprocess.Popen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu.subprocess, "Popen", lambda *args, **options: popen(*args, **options, pass_fds=[writer]))
        statuses = gpu.run_steps({"leaves": python_step(gpu, outer)}, tmp_path, rehearsal=True)
    os.close(writer)
    assert statuses == {"leaves": "failed"}
    # The pipe ends only when nobody holds its other end any more.
    assert os.read(reader, 2) == b"x"
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_step_is_skipped_when_no_time_is_left_for_it(gpu, tmp_path):
    assert gpu.run_steps({"late": python_step(gpu, "")}, tmp_path, rehearsal=True, seconds=0) == {"late": "skipped"}
    assert stored(tmp_path, "late")["reason"] == "no time is left"


def test_runs_that_ended_are_kept_when_a_comparison_is_stopped(gpu, tmp_path, monkeypatch):
    def stopped(work, *arguments):
        folder = work.log_dir / "anchors" / "resnet18" / "seed_0"
        folder.mkdir(parents=True)
        result = {"backbone": "resnet18", "seed": 0, "status": "finished", "reason": None, "train_epochs_s": [2, 1.5]}
        result["metrics"] = {"test_acc_pct": {"value": 95.6, "unit": "%", "larger_is_better": True}}
        (folder / "result.json").write_text(json.dumps(result))
        raise gpu.StepError("timed out", "stopped after 5 s")

    monkeypatch.setattr(gpu.Work, "python", stopped)
    gpu.run_steps({"anchors": gpu.STEPS["anchors"]}, tmp_path, rehearsal=True)
    record = stored(tmp_path, "anchors")
    assert (record["status"], record["reason"]) == ("timed out", "stopped after 5 s")
    (row,) = record["rows"]
    assert (row["test_acc_pct"], row["training_s"]) == (95.6, 3.5)


def test_an_unknown_step_is_refused_with_those_that_exist(gpu, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["speed"])
    assert "no such step: speed; there are tests, zoo" in capsys.readouterr().err
