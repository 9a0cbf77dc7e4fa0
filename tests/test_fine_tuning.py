"""Training the head alone, or the layers before it more slowly."""

from __future__ import annotations

import pytest
import torch
from helpers import A_NETWORK_OF_EACH_KIND, DATA, run_command
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torchvision.models import vit_b_16

from cnn_compare import ClassifierModule, DigitsDataModule
from cnn_compare.backbones import build_backbone, find_backbone, find_head, train_head_alone
from cnn_compare.checks import check_settings, make_optimizer
from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import resolve_config


def head_names(network, image_size, num_classes):
    head = {id(parameter) for parameter in find_head(network, "it", image_size, num_classes)}
    return {name for name, parameter in network.named_parameters() if id(parameter) in head}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        *((name, "imagenet") for name in A_NETWORK_OF_EACH_KIND),
        *((name, "cifar") for name in ("alexnet", "vgg11", "inception_v3")),
    ],
)
def test_the_head_of_a_network_of_each_kind_is_what_another_number_of_classes_changes(name, stem):
    entry = find_backbone(name)
    size = max(32, entry.min_size(stem))
    with torch.device("meta"):
        ten, seven = (build_backbone(name, num_classes, stem).state_dict() for num_classes in (10, 7))
        changed = {key for key in ten if ten[key].shape != seven[key].shape}
        auxiliary = {key for key in changed if key.lower().startswith("aux")}
        assert head_names(build_backbone(name, 10, stem), size, 10) == changed - auxiliary


class Body(nn.Module):
    """Features of images; the layers that follow, which a subclass has, are defined before it."""

    def __init__(self, **layers):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 1))
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.BatchNorm1d(8), nn.ReLU())

    def forward(self, images):
        return self.scale * self.out(self.body(images))


class Wrapped(nn.Module):
    """What scales images before a network is none of its head."""

    def __init__(self, net):
        super().__init__()
        self.net, self.gain = net, nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images):
        return self.net(images.mul_(self.gain))


class Twice(Body):
    """The head sees the features and their negative."""

    def forward(self, images):
        features = self.body(images)
        return self.out(features) + self.out(-features)


class Two(Body):
    """Two heads whose logits are averaged, as distilled transformers have them."""

    def forward(self, images):
        features = self.body(images)
        return (self.out(features) + self.other(features.exp())) / 2


class Cosine(nn.Module):
    """Similarity to a vector a class, with a temperature, and a learned bias of two dimensions."""

    def __init__(self):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(1, 10, 8))
        self.temperature, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(1, 10))

    def forward(self, features):
        cosine = F.normalize(features, dim=1)[:, None] * F.normalize(self.prototypes, dim=2)
        return self.temperature.exp() * cosine.sum(2) + self.bias


def seen_once():
    """A head of several layers, whose dropout comes before the last of them."""
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 10), nn.BatchNorm1d(10))


@pytest.mark.parametrize(
    ("network", "head"),
    [
        (lambda: Body(out=nn.Linear(8, 10)), {"scale", "out.weight", "out.bias"}),
        (lambda: Wrapped(Body(out=nn.Linear(8, 10))), {"net.scale", "net.out.weight", "net.out.bias"}),
        (
            lambda: Body(out=seen_once()),
            {"scale", "out.3.weight", "out.3.bias", "out.4.weight", "out.4.bias"},
        ),
        (
            lambda: Body(out=parametrizations.weight_norm(nn.Linear(8, 10))),
            {"scale", "out.bias", *(f"out.parametrizations.weight.original{n}" for n in (0, 1))},
        ),
        (
            lambda: Body(out=parametrizations.spectral_norm(nn.Linear(8, 10, bias=False))),
            {"scale", "out.parametrizations.weight.original"},
        ),
        (lambda: Twice(out=nn.Linear(8, 10)), {"out.weight", "out.bias"}),
        (
            lambda: Two(out=nn.Linear(8, 10), other=nn.Linear(8, 10)),
            {"out.weight", "out.bias", "other.weight", "other.bias"},
        ),
        (lambda: Body(out=Cosine()), {"scale", "out.prototypes", "out.temperature", "out.bias"}),
        (
            lambda: Wrapped(vit_b_16(image_size=32, num_classes=10)),
            {"net.heads.head.weight", "net.heads.head.bias"},
        ),
    ],
    ids=["scaled", "wrapped", "layers", "weight norm", "spectral norm", "twice", "two", "cosine", "transformer"],
)
def test_the_head_is_what_turns_features_into_logits_wherever_it_lies(network, head):
    network = network().requires_grad_(False)
    assert head_names(network, 32, 10) == head
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_only_modules_of_the_head_alone_are_in_training_mode():
    network = Wrapped(Body(out=seen_once()))
    train_head_alone(network, find_head(network, "it", 32, 10))
    assert {name for name, module in network.named_modules() if module.training} == {"net.out.3", "net.out.4"}
    torch.manual_seed(0)  # With some weights the vector has converged already.
    normed = parametrizations.spectral_norm(nn.Linear(3, 10, bias=False))
    train_head_alone(normed, [*normed.parameters()])
    before = normed.parametrizations.weight[0]._u.clone()
    normed(torch.ones(1, 3))
    assert not normed.parametrizations.weight[0]._u.equal(before)


def test_a_head_behind_features_without_a_gradient_is_refused():
    class Probe(Body):
        def forward(self, images):
            with torch.no_grad():
                features = self.body(images)
            return self.out(features)

    with pytest.raises(InvalidValueError, match="whose logits have a gradient for its image"):
        find_head(Probe(out=nn.Linear(8, 10)), "mine", 32, 10)


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
    network[4].register_forward_hook(lambda layer, inputs, output: tracked.append((len(output), output.requires_grad)))
    module = fit(make_trainer, ClassifierModule(network, freeze="backbone"), max_epochs=2)
    changed = {name for name, value in module.backbone.state_dict().items() if not value.equal(before[name])}
    assert changed == {"5.weight", "5.bias"}
    assert (40, False) in tracked
    assert (40, True) not in tracked
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
