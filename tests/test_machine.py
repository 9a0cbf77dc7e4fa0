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
for _ in range(3):  # What a training step does: large tensors come and go.
    kept = [torch.ones(2**22) for _ in range(8)]
    del kept
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    kept = [torch.ones(2**22) for _ in range(8)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_tuned_process_does_not_have_memory_cleared_for_it_again_and_again():
    # 40 tensors of 16 MiB each: 4,096 pages of 4 KiB, or 8 of 2 MiB.
    assert faults("tuned") < 10
    assert faults("plain") >= 40


def test_a_tuned_process_asks_cuda_itself_whether_there_is_a_gpu(monkeypatch):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    tune_process()
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ
