from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from cnn_compare import machine, profiling
from cnn_compare.cli import main
from cnn_compare.errors import ImageTooSmallError, InvalidValueError, UnknownBackboneError
from cnn_compare.profiling import profile


def test_profile_writes_every_figure_of_every_backbone(tmp_path, capsys):
    output = tmp_path / "costs.json"
    main(["profile", "--backbones=[lenet, lenet_relu]", f"--output={output}"])
    stored = json.loads(output.read_text())
    assert [each["backbone"] for each in stored] == ["lenet", "lenet_relu"]
    first = stored[0]
    # By hand, for 3 input channels: 456 + 2,416 in the convolutions, 48,120 + 10,164 + 850 behind them.
    assert first["params"] == 456 + 2_416 + 48_120 + 10_164 + 850
    assert first["weight_bytes"] == 4 * first["params"]
    assert first["macs"] == 28 * 28 * 6 * 75 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    assert 0 < first["latency_p50_ms"] <= first["latency_p90_ms"]
    assert first["train_images_per_s"] > 0
    assert first["inference_images_per_s"] > first["train_images_per_s"]
    assert first["peak_memory_bytes"] > first["weight_bytes"]
    assert first["train_bf16_images_per_s"] > 0
    assert first["inference_bf16_images_per_s"] > 0
    shown = capsys.readouterr().out
    assert "lenet_relu" in shown
    assert "bf16 pays here in training for" in " ".join(shown.split())
    assert str(output) in shown


@pytest.mark.parametrize(
    ("backbones", "image_size", "error", "message"),
    [
        (["resnet-18"], 32, UnknownBackboneError, "Did you mean 'resnet18'"),
        (["alexnet"], 32, ImageTooSmallError, "Use image_size=64 or stem=cifar"),
        (["lenet"], -1, InvalidValueError, "image_size"),
        ([], 32, InvalidValueError, "backbones"),
    ],
)
def test_profiles_that_cannot_be_made_are_refused_before_any_is(tmp_path, backbones, image_size, error, message):
    with pytest.raises(error, match=message):
        profile(backbones, image_size, output=str(tmp_path / "costs.json"))
    assert not list(tmp_path.iterdir())


def test_bf16_pays_where_it_is_faster():
    ratios = {"training": {"lenet": 0.8, "resnet20": 1.62}, "inference": {"lenet": 0.5, "resnet20": 0.9}}
    assert profiling.bf16_in_words(ratios) == (
        "bf16 pays here in training for resnet20 (1.6 times as fast as float32) and in inference for none."
    )
    assert profiling.bf16_in_words({"inference": {"a": 1.5, "b": 2.0}}) == (
        "bf16 pays here in inference for all (1.5 to 2 times as fast as float32)."
    )


class FakeNvml(SimpleNamespace):
    """A GPU whose counter stands at 1,500 J, with this process and another one on it."""

    NVMLError = RuntimeError

    def __init__(self):
        super().__init__(
            nvmlInit=lambda: None,
            nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
            nvmlDeviceGetTotalEnergyConsumption=lambda handle: 1_500_000,
            nvmlDeviceGetComputeRunningProcesses=lambda handle: (
                [SimpleNamespace(pid=machine.os.getpid())] * 1 + [SimpleNamespace(pid=1)]
            ),
        )


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    return torch.device("cuda")


def test_a_gpus_energy_is_told_in_joules(gpu):
    assert machine.energy_j(gpu) == 1500.0


def test_other_processes_on_the_gpu_are_counted_without_this_one(gpu):
    assert machine.other_gpu_processes(gpu) == 1


def test_without_nvml_energy_is_unknown_and_nobody_else_is_seen(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert machine.energy_j(gpu) is None
    assert machine.other_gpu_processes(gpu) == 0
    assert machine.energy_j(torch.device("cpu")) is None
