"""Training the head alone, or the layers before it more slowly."""

from __future__ import annotations

import pytest
import torch
from helpers import DATA, run_command
from torch import nn

from cnn_compare import ClassifierModule, DigitsDataModule
from cnn_compare.backbones import build_backbone, find_backbone, find_head, list_backbones
from cnn_compare.checks import check_settings, make_optimizer
from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import resolve_config


def head_names(network, image_size, num_classes):
    head = find_head(network, "it", image_size, num_classes)
    return {name for name, module in network.named_modules() if module in head}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        *((entry.name, "imagenet") for entry in list_backbones()),
        *((name, "cifar") for name in ("alexnet", "vgg11", "inception_v3")),
    ],
)
def test_the_head_of_every_backbone_is_what_another_number_of_classes_changes(name, stem):
    entry = find_backbone(name)
    size = max(32, entry.min_size(stem))
    with torch.device("meta"):
        ten, seven = (build_backbone(name, num_classes, stem).state_dict() for num_classes in (10, 7))
        changed = {key.rpartition(".")[0] for key in ten if ten[key].shape != seven[key].shape}
        auxiliary = {key for key in changed if key.lower().startswith("aux")}
        assert head_names(build_backbone(name, 10, stem), size, 10) == changed - auxiliary


class CalledBackwards(nn.Module):
    """The head is defined first, and a layer with a norm follows it."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 10)
        self.scale = nn.BatchNorm1d(10)
        self.body = nn.Linear(3 * 32 * 32, 8)

    def forward(self, images):
        return self.scale(self.out(self.body(images.flatten(1)).relu()))


def test_the_order_of_calls_decides_where_the_head_is():
    assert head_names(CalledBackwards(), 32, 10) == {"out", "scale"}


def test_a_network_without_a_row_a_class_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 20), nn.Unflatten(1, (10, 2)), nn.AdaptiveAvgPool1d(1))
    with pytest.raises(InvalidValueError, match="last layer with weights has a row for each of the 10 classes"):
        find_head(network, "mine", 32, 10)


def data():
    return DigitsDataModule(train_subset=80, val_size=50, batch_size=40)


def fit(make_trainer, module, **options):
    make_trainer(**options).fit(module, data())
    return module


def normed():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(512, 10)
    )


def test_frozen_layers_keep_weights_and_statistics_and_only_the_head_learns(make_trainer):
    network = normed()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tracked = []
    network[4].register_forward_hook(lambda layer, inputs, output: tracked.append(output.requires_grad))
    module = fit(make_trainer, ClassifierModule(network, freeze="backbone"), max_epochs=2)
    changed = {name for name, value in module.backbone.state_dict().items() if not value.equal(before[name])}
    assert changed == {"5.weight", "5.bias"}
    assert not any(tracked)
    optimizer = module.configure_optimizers()
    assert sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"]) == 512 * 10 + 10


def test_without_freezing_everything_learns(make_trainer):
    network = normed()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    module = fit(make_trainer, ClassifierModule(network))
    assert not [name for name, value in module.backbone.state_dict().items() if value.equal(before[name])]


@pytest.mark.parametrize("decay_norm_and_bias", [True, False])
def test_the_layers_before_the_head_step_by_a_factor(make_trainer, decay_norm_and_bias):
    """One step of SGD moves each parameter by the learning rate times its gradient."""
    moves = []
    for factor in (1.0, 0.1):
        network = normed()
        network[3].p = 0.0
        before = {name: value.clone() for name, value in network.named_parameters()}
        options = {"backbone_lr_factor": factor, "decay_norm_and_bias": decay_norm_and_bias}
        module = ClassifierModule(network, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1), **options)
        fit(make_trainer, module, max_steps=1)
        moves.append({name: value.detach() - before[name] for name, value in network.named_parameters()})
    for name in moves[0]:
        factor = 1.0 if name.startswith("5.") else 0.1
        torch.testing.assert_close(moves[1][name], factor * moves[0][name], rtol=1e-4, atol=1e-7)


def test_the_logged_learning_rate_is_that_of_the_head(make_trainer):
    module = ClassifierModule(normed(), backbone_lr_factor=0.1)
    trainer = make_trainer()
    trainer.fit(module, data())
    assert trainer.callback_metrics["lr"] == pytest.approx(1e-3)  # Adam's default.


def settings(**model):
    config = resolve_config({"model": {"backbone": "resnet20", "num_classes": 10, **model}, "data": DATA})
    return {**config, "seed_everything": 0}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"backbone_lr_factor": 0.0}, r"model\.backbone_lr_factor must be a number above 0, or model\.freeze=backbone"),
        ({"backbone_lr_factor": float("inf")}, r"model\.backbone_lr_factor must be a number above 0"),
        ({"freeze": "backbone"}, r"model\.freeze must be none without model\.weights or model\.pretrained"),
        (
            {"freeze": "backbone", "weights": "x.pth", "backbone_lr_factor": 0.1},
            r"model\.backbone_lr_factor must be left out with model\.freeze=backbone",
        ),
        (
            {
                "backbone_lr_factor": 0.1,
                "lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.OneCycleLR",
                    "init_args": {"max_lr": 0.1, "total_steps": 10},
                },
            },
            r"model\.backbone_lr_factor must be 1 with this model\.lr_scheduler, which gives all layers the same",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(model, message):
    with pytest.raises(InvalidValueError, match=message):
        check_settings(settings(**model))


def test_a_schedule_keeps_the_factor():
    model = settings(backbone_lr_factor=0.1, lr_scheduler={"class_path": "cnn_compare.WarmupCosine"})["model"]
    head, body = make_optimizer(model).param_groups
    assert body["lr"] == pytest.approx(0.1 * head["lr"])


def test_a_comparison_declares_what_it_freezes(tmp_path):
    variants = {"frozen": {"model": {"freeze": "backbone"}}, "slower": {"model": {"backbone_lr_factor": 0.1}}}
    config = settings(weights="start.pth")
    del config["seed_everything"]
    comparison = Comparison("x", ["resnet20"], [0], config=config, variants=variants, log_dir=str(tmp_path))
    assert {spec.key.variant: spec.declared_changes for spec in plan_runs(comparison)} == {
        "frozen": {"model.freeze": "backbone"},
        "slower": {"model.backbone_lr_factor": 0.1},
    }


def test_the_command_freezes_and_resumes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cnn-compare"])  # Lightning warns of pytest's arguments.
    start = tmp_path / "start.pth"
    torch.save(build_backbone("resnet20", 10).state_dict(), start)
    before = torch.load(start, weights_only=True)
    options = [f"--data.{name}={value}" for name, value in DATA["init_args"].items()]
    options += ["--model.backbone=resnet20", "--data=DigitsDataModule", f"--trainer.default_root_dir={tmp_path}"]
    first = ["--model.freeze=backbone", f"--model.weights={start}", "--trainer.max_epochs=1"]
    # The checkpoint knows that its layers are frozen.
    for further in (first, ["--ckpt_path=last", "--trainer.max_epochs=2"]):
        status, _, message = run_command(["fit", *options, *further], capsys)
        assert status == 0, message
        newest = max(tmp_path.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
        content = torch.load(newest, weights_only=True)
        weights = {key.removeprefix("backbone."): value for key, value in content["state_dict"].items()}
        assert {key for key in before if not before[key].equal(weights[key])} == {"linear.weight", "linear.bias"}
    assert content["epoch"] == 1
