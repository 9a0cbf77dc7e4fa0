from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cnn_compare.callbacks import MachineLoad, machine_load


@pytest.fixture
def load(monkeypatch):
    """A function: what `MachineLoad` says of ten seconds, with so many seconds of cores used in all and by us."""

    def measure(
        busy: float, own: float, others_on_gpu: int = 0, device: str = "cpu", cores: int = 4, threads: int = 4
    ) -> MachineLoad:
        clocks = iter([(100.0, 1000.0, 50.0), (110.0, 1000.0 + busy, 50.0 + own)])
        monkeypatch.setattr(machine_load, "_clocks", lambda processes: next(clocks))
        monkeypatch.setattr(machine_load.psutil, "cpu_count", lambda: cores)
        monkeypatch.setattr(machine_load.torch, "get_num_threads", lambda: threads)
        monkeypatch.setattr(machine_load, "other_gpu_processes", lambda device: others_on_gpu)
        callback, module = MachineLoad(), SimpleNamespace(device=torch.device(device))
        trainer = SimpleNamespace(num_devices=1)
        callback.on_train_start(trainer, module)
        callback.on_train_epoch_end(trainer, module)
        return callback

    return measure


def test_other_processes_share_is_what_neither_idles_nor_is_ours(load):
    assert load(busy=30.0, own=20.0).other_cpu_pct == pytest.approx(25.0)


@pytest.mark.parametrize("cores", [2, 64])
def test_a_run_on_all_cores_shares_a_fifth_of_one_however_many_there_are(load, cores):
    own = 10.0 * cores - 5.0
    assert not load(busy=own + 1.9, own=own, cores=cores, threads=cores).contended
    assert load(busy=own + 2.1, own=own, cores=cores, threads=cores).contended


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda", 64)])
def test_others_may_use_half_of_the_cores_that_a_run_leaves_free(load, device, threads):
    """63 of 64 are free: 31.5 of them and a fifth of one."""
    assert not load(busy=326.0, own=10.0, device=device, cores=64, threads=threads).contended
    assert load(busy=328.0, own=10.0, device=device, cores=64, threads=threads).contended


def test_clocks_that_disagree_a_little_never_give_a_negative_share(load):
    assert load(busy=19.9, own=20.0).other_cpu_pct == 0.0


def test_another_process_on_the_gpu_is_contention(load):
    assert load(busy=20.0, own=20.0, others_on_gpu=1).contended


def test_real_clocks_count_this_processs_own_work_as_its_own():
    wall, busy, own = machine_load._clocks(1)
    sum(range(3_000_000))
    later = machine_load._clocks(1)
    assert later[0] > wall
    assert later[1] >= busy
    assert later[2] > own


def test_work_at_low_priority_counts_and_waiting_does_not(monkeypatch):
    # `user` holds the guests' time already.
    times = SimpleNamespace(user=5.0, nice=3.0, system=2.0, idle=90.0, iowait=4.0, guest=1.0)
    monkeypatch.setattr(machine_load.psutil, "cpu_times", lambda: times)
    assert machine_load._clocks(1)[1] == 10.0


def test_the_other_devices_processes_of_a_training_are_its_own(monkeypatch):
    monkeypatch.setattr(machine_load.os, "times", lambda: (4.0, 1.0, 0.0, 0.0, 0.0))
    alone, together = machine_load._clocks(1)[2], machine_load._clocks(3)[2]
    assert together - alone == pytest.approx(10.0, abs=1.0)  # the parent's own time goes on
