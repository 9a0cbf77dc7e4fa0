from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from cnn_compare import build_backbone, machine, profiling
from cnn_compare.cli import main
from cnn_compare.errors import InvalidValueError, UnknownBackboneError, UsageError
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
    assert first["predict_ms"] > 0
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
        (["alexnet"], 32, UsageError, "Use image_size=64 or stem=cifar"),
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


@pytest.mark.parametrize("bf16", [False, True])
def test_every_training_step_that_is_timed_uses_the_weights_of_the_step_before(monkeypatch, bf16):
    steps = []

    def three_times(step, device):
        steps.append([step() for _ in range(3)])
        return [1.0]

    monkeypatch.setattr(profiling, "seconds_of", three_times)
    torch.manual_seed(0)
    profiling.profile_one("lenet_relu", 32, "imagenet")
    torch.manual_seed(0)
    network = build_backbone("lenet_relu", 10).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))
    losses = []
    for number in range(6):
        # The figures of bf16 come after those of float32, and go on from their weights.
        with torch.autocast("cpu", torch.bfloat16, enabled=number >= 3):
            loss = torch.nn.functional.cross_entropy(network(images.to(memory_format=torch.channels_last)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    # Of training, a prediction, many, training and predictions in bf16.
    assert len(steps) == 5
    torch.testing.assert_close(steps[3 if bf16 else 0], losses[3:] if bf16 else losses[:3])
    assert len(set(map(float, steps[3]))) == 3
    assert {each.dtype for each in steps[4]} == {torch.bfloat16}


def test_a_function_in_bf16_converts_the_weights_each_time():
    layer, images = torch.nn.Linear(3, 1, bias=False), torch.ones(1, 3)
    predict = profiling.in_bf16(lambda: layer(images), torch.device("cpu"))
    before = predict()
    with torch.no_grad():
        layer.weight += 1
    torch.testing.assert_close(predict().float(), before.float() + 3, rtol=0.02, atol=0.02)


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


@pytest.mark.parametrize(("pids", "others"), [([4711], 0), ([4711, 4712], 1), ([], 0)])
def test_in_a_container_where_nvml_knows_other_process_ids_a_run_is_no_contention_to_itself(gpu, pids, others):
    running = [SimpleNamespace(pid=pid) for pid in pids]
    sys.modules["pynvml"].nvmlDeviceGetComputeRunningProcesses = lambda handle: running
    assert machine.other_gpu_processes(gpu) == others


def test_without_nvml_energy_is_unknown_and_nobody_else_is_seen(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert machine.energy_j(gpu) is None
    assert machine.other_gpu_processes(gpu) == 0
    assert machine.energy_j(torch.device("cpu")) is None
