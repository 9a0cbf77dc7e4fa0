"""How many runs go on at a time, how many threads each has, and that this stays so when a comparison goes on."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from helpers import DATA, small_comparison

from cnn_compare.comparison.jobs import jobs_on_cores, planned_work
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.experiment import read_classes, resolve_config
from cnn_compare.results import MANIFEST, Metric


def planned(backbones, seeds):
    config = read_classes(resolve_config({"data": DATA}))
    return plan_runs(Comparison("x", backbones, seeds, config=config))


@pytest.mark.parametrize(
    ("backbones", "seeds", "cores", "jobs"),
    [
        (["lenet"], [0], 2, 1),
        (["lenet"], [0, 1, 2, 3], 2, 2),
        (["resnet18"], [0, 1], 2, 2),
        (["lenet", "googlenet", "resnet18", "mobilenet_v2", "densenet121"], [0], 2, 2),
        # The large one would train on one core while the other idles.
        (["vgg16", "lenet"], [0], 2, 1),
        (["lenet"], list(range(100)), 8, 8),
        (["resnet18"], [0, 1], 64, 2),
    ],
)
def test_as_many_runs_go_on_as_make_the_last_one_end_first(backbones, seeds, cores, jobs):
    assert jobs_on_cores(planned(backbones, seeds), cores) == jobs


def test_no_more_runs_go_on_than_the_memory_holds(monkeypatch):
    free = type("Memory", (), {"available": 3 * 2**30})
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    assert jobs_on_cores(planned(["lenet"], [0, 1, 2, 3]), 4) == 2


def test_a_users_own_network_is_not_built_by_the_planning_process():
    (spec,) = planned(["test_jobs:ends_its_process"], [0])
    assert planned_work(spec) == float("inf")


def ends_its_process(num_classes):
    raise SystemExit("built")


@pytest.fixture
def threads(monkeypatch):
    """The number of threads of each run that was carried out, in order; none is trained."""
    seen = []

    def run(self, spec, on_progress):
        seen.append(spec.config["threads"])
        spec.folder.save_config(spec.config)
        spec.folder.save_result(spec.result("finished", metrics={"test_acc_pct": Metric(50.0, "%", True)}))

    monkeypatch.setattr(LocalExecutor, "run", run)
    return seen


def test_a_comparison_that_goes_on_keeps_its_threads_on_another_machine(tmp_path, monkeypatch, threads, capfd):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    folder = small_comparison(tmp_path, seeds=[0, 1])
    assert "2 runs at a time, 2 threads each" in capfd.readouterr().err
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    small_comparison(tmp_path, seeds=[0, 1, 2, 3, 4])
    assert "3 runs at a time, 2 threads each" in capfd.readouterr().err
    (folder / MANIFEST).unlink()
    small_comparison(tmp_path, seeds=[0, 1, 2, 3, 4, 5], executor=LocalExecutor(jobs=1))
    assert threads == [2] * 6
    assert json.loads((folder / MANIFEST).read_text())["threads"] == 2
    assert {yaml.safe_load(path.read_text())["threads"] for path in folder.rglob("config.yaml")} == {2}


def test_a_given_number_of_jobs_or_threads_is_kept_to(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    small_comparison(tmp_path / "jobs", seeds=[0, 1], executor=LocalExecutor(jobs=4))
    small_comparison(tmp_path / "threads", seeds=[0, 1], threads=5)
    assert threads == [2, 2, 5, 5]
