"""The package as others get it: built, installed outside of the clone, used from there.

The environment is empty but for the wheel. torch and the other dependencies are those of this one, by a path file: they
are gigabytes, and not what is tested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIGS = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").glob("*/*.yaml")}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("cnn_compare", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", output, source], source)
    return output


@pytest.fixture(scope="module")
def python(built, tmp_path_factory) -> Path:
    """The interpreter of an environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    (wheel,) = built.glob("*.whl")
    interpreter = folder / "bin" / "python"
    run(
        [sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "--no-deps", "--no-index", wheel],
        folder,
    )
    (packages,) = folder.glob("lib/*/site-packages")
    # Path files in that folder are not read, so that this clone, which is installed there, stays out.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def run(command: list[str | Path], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_and_sdist_hold_the_clones_recipes_and_comparisons(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        for path in CONFIGS:
            assert archive.read(f"cnn_compare/shipped/{path}") == (ROOT / "configs" / path).read_bytes()
        assert "cnn_compare/py.typed" in archive.namelist()
    with tarfile.open(sdist) as archive:
        assert f"{sdist.name.removesuffix('.tar.gz')}/LICENSE" in archive.getnames()


def test_the_installed_command_compares_by_the_name_of_a_comparison(python, tmp_path):
    shorter = ["--backbones=lenet", "--trainer.max_epochs=1", "--data.train_subset=40", "--data.val_size=20"]
    output = run([python.with_name("cnn-compare"), "compare", "--config=quickstart", *shorter], tmp_path)
    assert "report: lightning_logs/quickstart/report.html" in output
    assert (tmp_path / "lightning_logs/quickstart/lenet/seed_0/result.json").is_file()
    where = run([python, "-c", "import cnn_compare; print(cnn_compare.__file__)"], tmp_path)
    assert Path(where).is_relative_to(python.parents[1])


USERS_FILE = """
from pathlib import Path

import torch
from cnn_compare import CIFAR10DataModule, ClassifierModule, build_backbone, compare, load_results

module = ClassifierModule("resnet18", stem="cifar")
logits: torch.Tensor = module(torch.zeros(1, 3, 32, 32))
data = CIFAR10DataModule(augmentation="crop_flip", batch_size=64)
network: torch.nn.Module = build_backbone("lenet", num_classes=5)
folder: Path = compare("mine", ["lenet"], data=data)
print(load_results(folder).columns)
compare(name=3, backbones=["lenet"])
"""


def test_a_users_code_is_checked_against_the_installed_types(python, tmp_path):
    (tmp_path / "mine.py").write_text(USERS_FILE)
    # Reading the types of others takes most of a minute, and they are not in question.
    others = "torch.*,lightning.*,torchmetrics.*,pandas.*,numpy.*,PIL.*,rich.*,jsonargparse.*,jinja2.*,psutil.*,yaml.*"
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n[mypy-{others}]\nfollow_imports = skip\n")
    options = ["--strict", "--no-error-summary", "--python-executable", str(python), f"--cache-dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    # The one mistake, in the last line, and nothing else.
    (error,) = done.stdout.splitlines()
    assert error.startswith('mine.py:13: error: Argument "name" to "compare" has incompatible type "int"'), done.stderr
