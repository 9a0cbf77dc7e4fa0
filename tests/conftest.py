"""What several test files need: a trainer without side effects, and CIFAR-10, tiny and real.

Fixtures import torch and what needs it: the process that only hands out the tests starts in a second, not in ten.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import shutil
import sys
from pathlib import Path

# Before torch is imported, and for the processes that tests start: on networks this small two threads wait for each
# other longer than they compute, and with a test on each core they hardly get anywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Derived from the test itself: a failure is one for everybody, and no run of the suite depends on another.
settings.register_profile(
    "suite", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("suite")

CIFAR10_FOLDER = "cifar-10-batches-py"


@pytest.fixture(autouse=True)
def no_seed_left_over(monkeypatch):
    """`seed_everything` of one test must not reach the next."""
    # Set, then deleted: monkeypatch remembers that there was none, and deletes at the end what the test has set.
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.delenv("PL_GLOBAL_SEED")


@pytest.fixture(autouse=True)
def nothing_trusted_yet(monkeypatch):
    """What one test has named is not trusted in the next."""
    monkeypatch.setattr("cnn_compare.trusted._given", set())


@pytest.fixture(autouse=True)
def path_of_its_own(monkeypatch):
    """The working folder that a command adds to Python's path is not searched in the next test."""
    monkeypatch.setattr("sys.path", [*sys.path])


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch, tmp_path):
    """What a test decodes is stored in its own folder, not in the user's."""
    monkeypatch.setenv("CNN_COMPARE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def make_trainer(tmp_path):
    """A function that makes a trainer on the CPU that writes and prints nothing, unless its options say so."""
    from lightning import Trainer

    def make(**options):
        quiet = {
            "accelerator": "cpu",
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "default_root_dir": tmp_path,
        }
        return Trainer(**{**quiet, **options})

    return make


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory) -> Path:
    """The folder of a comparison of LeNet with both activations and two seeds, for all tests; none may change it."""
    from helpers import small_comparison

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with (root / "trained_once.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "trained_once").exists():
            made = small_comparison(root / "being_trained", backbones=["lenet", "lenet_relu"], seeds=[0, 1])
            made.parent.rename(root / "trained_once")
    return root / "trained_once" / "small"


@pytest.fixture(scope="module")
def finished(trained_once, tmp_path_factory) -> Path:
    """A copy for the tests of one file, which may go on with it."""
    return Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("logs") / "small"))


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture(scope="session")
def tiny_cifar10_files():
    """The files of a CIFAR-10 of random images, by name: five batches and a test batch of 40, four of each class."""
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    batches = {
        name: {
            "data": rng.integers(0, 256, (40, 3072), dtype=np.uint8),
            "labels": rng.permutation(np.arange(40) % 10).tolist(),
        }
        for name in names
    }
    contents = {**batches, CIFAR10.meta["filename"]: {"label_names": [f"class {n}" for n in range(10)]}}
    return {name: pickle.dumps(content) for name, content in contents.items()}


@pytest.fixture
def published_tiny_cifar10(tiny_cifar10_files, monkeypatch):
    """torchvision takes the tiny files for the published ones; they are nowhere yet, and the network is down."""
    from torchvision.datasets import CIFAR10

    for kind in ("train_list", "test_list"):
        published = [[name, md5(tiny_cifar10_files[name])] for name, _ in getattr(CIFAR10, kind)]
        monkeypatch.setattr(CIFAR10, kind, published)
    meta = CIFAR10.meta["filename"]
    monkeypatch.setitem(CIFAR10.meta, "md5", md5(tiny_cifar10_files[meta]))
    # Nobody listens at port 9 of this machine, which says so at once; a proxy is not to be asked about it.
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")


@pytest.fixture
def tiny_cifar10(tiny_cifar10_files, published_tiny_cifar10, tmp_path) -> Path:
    """A ``data_dir`` with the tiny CIFAR-10, the test's own to damage: 200 training and 40 test images."""
    folder = tmp_path / "cifar" / CIFAR10_FOLDER
    folder.mkdir(parents=True)
    for name, content in tiny_cifar10_files.items():
        (folder / name).write_bytes(content)
    return folder.parent


@pytest.fixture(scope="session")
def real_cifar10() -> Path:
    """The ``data_dir`` of the real CIFAR-10; tests that need it are skipped where it is not."""
    folder = os.environ.get("CNN_COMPARE_DATA_DIR")
    if not folder or not (Path(folder) / CIFAR10_FOLDER).is_dir():
        pytest.skip(f"needs the real CIFAR-10: set CNN_COMPARE_DATA_DIR to the folder of {CIFAR10_FOLDER}/")
    return Path(folder)
