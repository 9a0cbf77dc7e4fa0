from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from cnn_compare.machine import tune_process

FAULTS = """
import resource, sys, torch
from cnn_compare.machine import tune_process
if sys.argv[1] == "tuned":
    tune_process()
for _ in range(5):  # As in a training step, a large tensor is allocated and freed.
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_tuned_process_does_not_have_memory_cleared_for_it_again_and_again():
    # A small allocation in between may take the freed memory of a few of the 20 tensors.
    assert 4 * faults("tuned") < faults("plain")


def test_a_tuned_process_asks_cuda_itself_whether_there_is_a_gpu(monkeypatch):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    tune_process()
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


def test_the_module_loads_where_there_is_no_module_resource():
    # Other packages import it on this system.
    program = "import psutil, sys, torch; sys.modules['resource'] = None; import cnn_compare.machine"
    subprocess.run([sys.executable, "-c", program], check=True)
