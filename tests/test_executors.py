"""Runs at the same time, on several devices, and on a cluster give the numbers of one run at a time on one device."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from helpers import DATA, ENVIRONMENT, command, drops, small_comparison, wait_until
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from cnn_compare import DigitsDataModule, compare, load_results
from cnn_compare.comparison.cluster import RayExecutor
from cnn_compare.comparison.local import LocalExecutor, world_size
from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.comparison.runner import run_all
from cnn_compare.data.order import EpochSampler, shard, shard_size
from cnn_compare.errors import InvalidValueError, MissingExtraError, RunError, UsageError
from cnn_compare.experiment import read_classes, resolve_config
from cnn_compare.results import RunResult
from cnn_compare.run_key import path_name

TWO_DEVICES = {"max_epochs": 3, "accelerator": "cpu", "devices": 2}


@given(
    size=st.integers(1, 70),
    batch_size=st.integers(1, 40),
    world_size=st.sampled_from([1, 2, 3, 4, 8]),
    seed=st.integers(0, 9),
)
def test_all_devices_together_see_the_batches_of_one(size, batch_size, world_size, seed):
    def batches(rank: int, world_size: int) -> list[list[int]]:
        """As `DataLoader` forms them, and `ResidentDataset` takes them apart."""
        sampler = EpochSampler(size, seed, batch_size, rank, world_size)
        loader = DataLoader(range(2 * size), shard_size(batch_size, world_size), sampler=sampler)
        formed = [*loader.batch_sampler]
        assert len(loader) == len(formed)
        return [[*batch[:-1], *batch[-1]] if isinstance(batch[-1], tuple) else batch for batch in formed]

    single = batches(0, 1)
    assert sorted(itertools.chain(*single)) == list(range(size))
    least = 1 if min(size, batch_size) == 1 else 2
    assert all(least <= len(batch) <= batch_size + 1 for batch in single)
    shards = [batches(rank, world_size) for rank in range(world_size)]
    for batch, *parts in zip(single, *shards, strict=True):
        together = [*itertools.chain(*parts)]
        assert {len(part) for part in parts} == {
            len(batch) if world_size == 1 else max(2, -(-len(batch) // world_size))
        }
        assert together[: len(batch)] == batch
        assert all(index < 0 and ~index in batch for index in together[len(batch) :])


def test_a_device_s_part_is_what_the_hand_counts():
    assert [shard(np.arange(10, 14), rank, 2).tolist() for rank in (0, 1)] == [[10, 11], [12, 13]]
    assert [shard(np.arange(14, 17), rank, 2).tolist() for rank in (0, 1)] == [[14, 15], [16, ~14]]


@pytest.mark.parametrize(
    ("devices", "size"), [("auto", 1), (None, 1), (1, 1), ("3", 3), ([0, 2], 2), ("0,1,", 2), (4, 4)]
)
def test_the_devices_of_a_run_are_counted(devices, size):
    assert world_size({"trainer": {"devices": devices}}) == size


@pytest.mark.parametrize(
    ("trainer", "field"),
    [
        ({"devices": -1}, "trainer.devices"),
        ({"devices": "-1"}, "trainer.devices"),
        ({"devices": "two"}, "trainer.devices"),
        ({"num_nodes": 2}, "trainer.num_nodes"),
    ],
)
def test_devices_that_a_run_cannot_have_are_refused(tmp_path, trainer, field):
    with pytest.raises(InvalidValueError, match=f"^{field} must be"):
        small_comparison(tmp_path, trainer=trainer)
    assert not list(tmp_path.iterdir())


def stored(folder: Path, backbone: str, seed: int = 0) -> dict[str, np.ndarray]:
    with np.load(folder / backbone / f"seed_{seed}" / "predictions.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_runs_side_by_side_give_what_they_give_one_after_the_other(trained_once, tmp_path):
    options = {"backbones": ["lenet", "lenet_relu"], "seeds": [0, 1]}
    two = small_comparison(tmp_path, executor=LocalExecutor(jobs=2), **options)
    for backbone in options["backbones"]:
        for seed in options["seeds"]:
            first, second = stored(trained_once, backbone, seed), stored(two, backbone, seed)
            assert all((first[name] == second[name]).all() for name in first)
    assert list(load_results(two).status) == ["finished"] * 4


class Pairs:
    """An executor whose runs end two at a time; it keeps the order in which they start."""

    jobs = 2

    def __init__(self):
        self.started, self.pair = [], threading.Barrier(2)

    def run(self, spec, on_progress):
        self.started.append(spec.key.label)
        self.pair.wait(timeout=60)

    def stop(self):
        pass


def test_runs_side_by_side_start_seed_by_seed_the_longest_first(tmp_path):
    config = read_classes(resolve_config({"data": DATA}))
    executor = Pairs()
    specs = plan_runs(Comparison("small", ["lenet", "resnet20"], [5, 3, 4], config=config, log_dir=str(tmp_path)))
    assert [spec.key.label for spec in specs[:2]] == ["resnet20/5", "lenet/5"]
    run_all(specs, executor)
    # The two of a pair start at the same time, and either may be noted first.
    pairs = [sorted(executor.started[first : first + 2]) for first in (0, 2, 4)]
    assert pairs == [[f"lenet/{seed}", f"resnet20/{seed}"] for seed in (5, 3, 4)]


def test_a_script_without_a_main_guard_is_told_and_trains_nothing(tmp_path, monkeypatch):
    script = tmp_path / "no_guard.py"
    script.write_text("from cnn_compare import compare\ncompare('x', ['lenet'])\n")
    main = ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    told = rf"^{script} calls compare\(\) when it is imported, .* Put the call under `if __name__ == \"__main__\":`\.$"
    with pytest.raises(UsageError, match=told):
        small_comparison(tmp_path, backbones=["lenet", "lenet_relu"], executor=LocalExecutor(jobs=2))
    assert not list(tmp_path.rglob("result.json"))


def test_two_devices_train_what_one_trains(tmp_path):
    """101 images in batches of 50: the last batch, of 51, and the last one of the 53 for validation are filled up."""
    data = {
        "class_path": "DigitsDataModule",
        "init_args": {"train_subset": 101, "val_size": 53, "batch_size": 50, "augmentation": "crop_flip_cutout"},
    }
    one, two = (
        small_comparison(tmp_path / str(devices), trainer={**TWO_DEVICES, "devices": devices}, data=data)
        for devices in (1, 2)
    )
    results = [RunResult.load(folder / "lenet" / "seed_0" / "result.json") for folder in (one, two)]
    assert results[0].data_fingerprint == results[1].data_fingerprint
    assert results[1].device.startswith("2 x cpu")
    assert results[1].value("images_per_s") == pytest.approx(101 / results[1].value("train_epoch_s"))
    first, second = stored(one, "lenet"), stored(two, "lenet")
    assert (first["labels"] == second["labels"]).all()
    np.testing.assert_allclose(first["probabilities"], second["probabilities"], atol=2e-3)  # stored with 11 bits
    weights = [
        torch.load(folder / "lenet" / "seed_0" / "checkpoints" / "best.ckpt")["state_dict"] for folder in (one, two)
    ]
    for name, values in weights[0].items():
        torch.testing.assert_close(values, weights[1][name], atol=1e-5, rtol=1e-4)
    rows = [curves(folder, "lenet") for folder in (one, two)]
    assert len(rows[0]) == len(rows[1]) == 3
    for alone, shared in zip(*rows, strict=True):
        assert alone.keys() == shared.keys()
        for name in alone:
            assert shared[name] == pytest.approx(alone[name], rel=1e-3), name


def normed(num_classes):
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3072, num_classes))


def test_devices_agree_on_a_learning_rate_that_follows_the_clock_and_on_statistics_of_all_their_images(tmp_path):
    precise = {"class_path": "cnn_compare.PreciseBatchNorm"}
    trainer = {**TWO_DEVICES, "max_epochs": -1, "max_time": "00:00:00:01", "callbacks": [precise]}
    model = {"lr_scheduler": {"class_path": "cnn_compare.module.WarmupCosine"}}
    options = {**DATA["init_args"], "augmentation": "none"}
    folder = small_comparison(
        tmp_path,
        backbones=[f"{__name__}:normed"],
        trainer=trainer,
        model=model,
        data={**DATA, "init_args": options},
        executor=LocalExecutor(timeout_s=300),
    )
    (path,) = folder.rglob("result.json")
    result = RunResult.load(path)
    assert result.status == "finished", result.reason
    weights = torch.load(path.with_name("checkpoints") / "best.ckpt")["state_dict"]
    train = DigitsDataModule(**options).splits["train"]
    pixels = (train.images[train.subset].double() / 255 - 0.5) / 0.5
    # Batch norm comes first: it has seen the images themselves.
    torch.testing.assert_close(weights["backbone.0.running_mean"].double(), pixels.mean((0, 1, 2)), atol=1e-4, rtol=0)
    expected = pixels.var((0, 1, 2), correction=0)
    torch.testing.assert_close(weights["backbone.0.running_var"].double(), expected, atol=1e-4, rtol=0)


def curves(folder: Path, backbone: str) -> list[dict[str, float]]:
    lines = (folder / backbone / "seed_0" / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
    return [{name: row[name] for name in names if "_s" not in name} for row in rows]


class Dies(nn.Module):
    """Kills its process in the fifth step of the second of two devices, once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.steps = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), 0

    def forward(self, images):
        self.steps += self.training
        if self.steps == 5 and os.environ.get("LOCAL_RANK") == "1" and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(images)


def dies(num_classes):
    return Dies()


@pytest.mark.faults
def test_a_killed_device_fails_the_run_and_the_same_command_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"backbones": [f"{__name__}:dies"], "trainer": TWO_DEVICES}
    folder = small_comparison(tmp_path / "a", **options)
    (path,) = folder.rglob("result.json")
    reason = RunResult.load(path).reason
    assert RunResult.load(path).status == "failed"
    assert "its process for device 1 was killed by SIGKILL" in reason or "closed by peer" in reason
    small_comparison(tmp_path / "a", **options)
    assert RunResult.load(path).status == "finished"
    assert "Restored all states" in path.with_name("run.log").read_text()
    whole = small_comparison(tmp_path / "b", **options)
    name = path.parents[1].name
    assert (stored(folder, name)["probabilities"] == stored(whole, name)["probabilities"]).all()


# On a cluster


class Waits(nn.Module):
    """Makes a step in a tenth of a second, and no sixteenth one before the file of `GO` is there."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.steps, self.go = drops(10), 0, Path(os.environ.get(GO, os.devnull))

    def forward(self, images):
        self.steps += self.training
        waits = 0
        while self.training and not self.go.exists() and (self.steps > 15 or waits < 10):
            threading.Event().wait(0.01)
            waits += 1
        return self.layers(images)


GO = "CNN_COMPARE_TEST_GO"
WAITS = f"{__name__}:waits"


def waits(num_classes):
    return Waits()


@pytest.fixture
def cluster(tmp_path):
    """A head node without cores and a node with one core, both on this machine, in a process of their own."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**ENVIRONMENT, **OF_RAY, GO: str(tmp_path / "go")},
    )
    address = process.stdout.readline().strip()
    assert address, "Ray did not start"
    yield process, address
    process.communicate("end\n")


OF_RAY = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
if sys.stdin.readline() == "kill\\n":
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    print("killed", flush=True)
    sys.stdin.readline()
cluster.shutdown()
"""


@pytest.mark.faults
def test_a_cluster_gives_the_same_bits_though_the_driver_and_then_a_node_are_killed(tmp_path, cluster):
    process, address = cluster
    arguments = command(tmp_path, f"--backbones=[{WAITS}]", "--executor=ray", f"--ray_address={address}", epochs=12)
    checkpoint = tmp_path / "small" / path_name(WAITS) / "seed_0" / "checkpoints" / "last.ckpt"

    driver = subprocess.Popen(arguments, env=ENVIRONMENT | OF_RAY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(checkpoint.exists, driver)
    driver.kill()
    driver.wait()
    arrived = checkpoint.stat().st_mtime_ns

    driver = subprocess.Popen(
        arguments, env=ENVIRONMENT | OF_RAY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_until(lambda: checkpoint.stat().st_mtime_ns > arrived, driver)
    process.stdin.write("kill\n")
    process.stdin.flush()
    assert process.stdout.readline() == "killed\n"
    (tmp_path / "go").touch()
    printed, _ = driver.communicate()
    assert driver.returncode == 0, printed
    assert (checkpoint.parents[1] / "run.log").read_text().count("Restored all states") == 2

    config = json.loads((tmp_path / "small" / "manifest.json").read_text())["config"]
    settings = {name: config[name] for name in ("trainer", "data")}
    whole = compare("small", WAITS, log_dir=str(tmp_path / "whole"), times="never", **settings)
    first, second = stored(tmp_path / "small", path_name(WAITS)), stored(whole, path_name(WAITS))
    assert all((first[name] == second[name]).all() for name in first)
    assert curves(tmp_path / "small", path_name(WAITS)) == curves(whole, path_name(WAITS))
    assert load_results(tmp_path / "small").data_fingerprint.tolist() == load_results(whole).data_fingerprint.tolist()


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"^executor=ray needs `pip install 'cnn-compare\[ray\]'`"):
        RayExecutor()


def test_without_a_cluster_at_the_address_the_error_says_how_to_start_one():
    with pytest.raises(RunError, match=r"no Ray cluster at 127.0.0.1:9: .*ray start --head"):
        RayExecutor("127.0.0.1:9")


CLUSTER_FILES = Path(__file__).parents[1] / "configs" / "cluster"


def test_the_cluster_s_configuration_is_one_for_ray():
    ray = pytest.importorskip("ray")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((CLUSTER_FILES / "ray.yaml").read_text()), schema)


def test_the_slurm_script_runs_its_comparison_on_all_nodes(tmp_path):
    """Stand-ins for SLURM's and Ray's commands write down their arguments."""
    for name, script in (("srun", 'echo "srun $*" >>calls; [[ $* != *hostname* ]] || echo 10.0.0.1'), ("ray", ":")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
    (tmp_path / "scontrol").write_text("#!/bin/bash\nprintf 'node1\\nnode2\\n'\n")
    for path in tmp_path.iterdir():
        path.chmod(0o700)
    slurm = {"JOB_NODELIST": "node[1-2]", "JOB_NUM_NODES": "2", "CPUS_PER_TASK": "32", "GPUS_ON_NODE": "8"}
    environment = {f"SLURM_{name}": value for name, value in slurm.items()}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = CLUSTER_FILES / "slurm_compare.sh"
    subprocess.run(["bash", script, "my.yaml"], cwd=tmp_path, env=environment, check=True)
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert "--nodelist=node1" in first
    assert second.endswith(
        "ray symmetric-run --address 10.0.0.1:6379 --min-nodes 2 --num-cpus=32 --num-gpus=8 -- cnn-compare compare "
        "--config my.yaml --executor=ray --ray_address=10.0.0.1:6379 --resources_per_run={GPU: 1, CPU: 4}"
    )
