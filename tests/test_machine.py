from __future__ import annotations

import os
import platform
import runpy
import subprocess
import sys

import pytest

from cnn_compare import machine
from cnn_compare.machine import tune_process

ONE_PROCESS = """
import mmap, os, resource, sys, tempfile, torch
from cnn_compare.machine import PeakMemory, tune_process

def faults():
    for _ in range(5):  # As in a training step, a large tensor is allocated and freed.
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
tune_process()
print(plain, faults(), flush=True)
if os.fork():  # As a run's process: a new program, such as this one, inherits the peak of what started it.
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
libraries = torch.ones(2**26)
memory, device = PeakMemory(), torch.device("cpu")
torch.ones(2**25)
peak = memory.bytes(device)
with tempfile.TemporaryFile() as file:
    file.truncate(2**28)
    mapped = mmap.mmap(file.fileno(), 0)
    read = sum(mapped[page] for page in range(0, 2**28, mmap.PAGESIZE))
    print(peak, memory.bytes(device))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or sys.platform != "linux", reason="needs Linux with glibc")
def test_a_tuned_process_gets_no_memory_cleared_again_and_again_and_its_peak_is_what_was_added_without_mapped_files():
    done = subprocess.run([sys.executable, "-c", ONE_PROCESS], check=True, capture_output=True, text=True)
    plain, tuned, peak, with_mapped = map(int, done.stdout.split())
    # A small allocation in between may take the freed memory of a few of the 20 tensors.
    assert 4 * tuned < plain
    assert [peak, with_mapped] == pytest.approx([2**27, 2**27], rel=0.1)


def test_a_tuned_process_asks_cuda_itself_whether_there_is_a_gpu(monkeypatch):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    tune_process()
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


def test_the_module_loads_where_there_is_no_module_resource(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert runpy.run_path(machine.__file__)["tune_process"]
