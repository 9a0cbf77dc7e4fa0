from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from lightning import seed_everything
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils.data import DataLoader, TensorDataset

from cnn_compare import ClassifierModule, DigitsDataModule, EpochTimer, PreciseBatchNorm
from cnn_compare.callbacks import BestCheckpoint, EpochSeed, FitSummary
from cnn_compare.errors import InvalidValueError


def small():
    """Batch norm after batch norm, in four and in two dimensions, and dropout between them."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8)),
        *(nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, 10)),
    )


class Watch(Callback):
    """Keeps each step's batch, and the network's state where a validation ends."""

    def __init__(self):
        self.batches, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append(batch[0].clone())

    def on_validation_epoch_end(self, trainer, pl_module):
        self.validated.append(copy.deepcopy(pl_module.backbone.state_dict()))


@pytest.fixture
def fit(make_trainer, tmp_path):
    """A function that trains on 100 digits in batches of 40, 40 and 20; gives the module and what `Watch` has kept."""

    def run(*callbacks, network=None, data=None, resume=None, compile=False, **options):
        seed_everything(3, verbose=False)
        module = ClassifierModule(
            network or small(), optimizer=partial(torch.optim.SGD, lr=0.3, momentum=0.9), compile=compile
        )
        watch = Watch()
        trainer = make_trainer(max_epochs=2, callbacks=[watch, *callbacks], **options)
        digits = DigitsDataModule(train_subset=100, batch_size=40, val_size=50, augmentation="crop_flip")
        trainer.fit(module, **(data or {"datamodule": digits}), ckpt_path=resume, weights_only=True)
        watch.trainer, watch.data = trainer, digits
        return module, watch

    return run


def norms(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def counted(network, batches):
    """Mean and variance of all that reaches each batch norm, where the batches pass through a network in training."""
    network = copy.deepcopy(network).train()
    network.get_submodule("6").p = 0.0
    reached = {layer: [] for layer in norms(network)}
    for layer, values in reached.items():
        layer.register_forward_hook(lambda layer, inputs, output, values=values: values.append(inputs[0].detach()))
    for batch in batches:
        network(batch)
    values = [torch.cat(parts).double().transpose(0, 1).flatten(1) for parts in reached.values()]
    return [(each.mean(1), each.var(1, correction=0)) for each in values]


@pytest.mark.parametrize(("images", "batches"), [(1, 1), (80, 2), (1000, 3)])
def test_statistics_are_those_of_the_epochs_first_training_batches_under_the_weights_that_are_validated(
    fit, images, batches
):
    network = small()
    network.get_submodule("6").p = 0.0
    _, watch = fit(PreciseBatchNorm(images), network=network)
    for epoch, state in enumerate(watch.validated):
        network.load_state_dict(state)
        expected = counted(network, watch.batches[3 * epoch :][:batches])
        for layer, (mean, var) in zip(norms(network), expected, strict=True):
            torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(layer.running_var.double(), var, rtol=1e-4, atol=1e-6)
            assert layer.momentum == 0.1
            assert layer.num_batches_tracked == 3 * (epoch + 1)
    assert not torch.equal(watch.batches[0], watch.batches[3]), "augmented, in another order"


def own_loaders():
    """A user's own, with a generator that a second pass over them must not draw from."""
    images, labels = torch.rand(100, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.arange(100) % 10
    order = torch.Generator().manual_seed(5)
    train = DataLoader(TensorDataset(images, labels), batch_size=40, shuffle=True, generator=order)
    return {"train_dataloaders": train, "val_dataloaders": DataLoader(TensorDataset(images, labels), batch_size=50)}


@pytest.mark.parametrize("loaders", [lambda: None, own_loaders], ids=["data module", "own loaders"])
@pytest.mark.parametrize("validations", [1, 3], ids=["after epochs", "amid epochs"])
def test_training_takes_the_same_steps_as_without_it(fit, loaders, validations):
    steps = {"val_check_interval": 1} if validations == 3 else {}
    (plain, _), (precise, watch) = (fit(*each, data=loaders(), **steps) for each in ([], [PreciseBatchNorm(80)]))
    for name, value in plain.named_parameters():
        assert torch.equal(value, precise.get_parameter(name)), name
    assert len(watch.validated) == 2 * validations
    assert len({state["1.running_mean"].sum().item() for state in watch.validated}) == 2 * validations


def test_a_resumed_training_ends_in_the_bits_of_an_uninterrupted_one(fit, tmp_path):
    whole, watched = fit(EpochSeed(), PreciseBatchNorm(80))
    fit(EpochSeed(), half := PreciseBatchNorm(80), SaveAfterFirst(tmp_path / "first.ckpt"))
    resumed, watch = fit(EpochSeed(), callback := PreciseBatchNorm(80), resume=tmp_path / "first.ckpt")
    assert len(watch.validated) == 1
    for name, value in watch.validated[0].items():
        assert torch.equal(value, watched.validated[1][name]), name
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert callback.seconds[0] == half.seconds[0]
    assert len(callback.seconds) == 2


class SaveAfterFirst(Callback):
    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_averaged_weights_get_statistics_of_their_own_and_are_kept_with_them(fit, make_trainer, tmp_path, first):
    network = small()
    network.get_submodule("6").p = 0.0
    averages, precise = EMAWeightAveraging(decay=0.6), PreciseBatchNorm(80)
    callbacks = [precise, averages] if first else [averages, precise]
    module, watch = fit(*callbacks, BestCheckpoint(tmp_path), network=network, enable_checkpointing=True)
    expected = counted(loaded(watch.validated[1]), watch.batches[3:5])
    for layer, (mean, var) in zip(norms(module), expected, strict=True):
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var.double(), var, rtol=1e-4, atol=1e-6)
    best = ClassifierModule.load_from_checkpoint(tmp_path / "best.ckpt", backbone=small())
    assert any(
        all(torch.equal(best.backbone.state_dict()[name], value) for name, value in state.items())
        for state in watch.validated
    )
    # A test gives the figures of the checkpoint, which `Classifier` and exported files have too.
    seconds = len(precise.seconds)
    watch.trainer.validate(module, watch.data, ckpt_path=tmp_path / "best.ckpt", verbose=False)
    assert len(precise.seconds) == seconds


def loaded(state):
    network = small()
    network.load_state_dict(state)
    return network


def test_weights_that_no_validation_has_seen_are_tested_with_their_own_statistics(fit):
    module, watch = fit(precise := PreciseBatchNorm(80), limit_val_batches=0)
    assert not precise.seconds
    watch.trainer.test(module, watch.data, verbose=False)
    watch.trainer.test(module, watch.data, verbose=False)
    assert len(precise.seconds) == 1
    module.backbone.get_submodule("6").p = 0.0
    first_mean = counted(module.backbone, watch.batches[3:5])[0][0]
    torch.testing.assert_close(norms(module)[0].running_mean.double(), first_mean, rtol=1e-4, atol=1e-5)


class Freeze(Callback):
    """Keeps the first batch norm in evaluation mode."""

    def on_train_epoch_start(self, trainer, pl_module):
        pl_module.backbone[1].eval()


def test_a_frozen_batch_norm_keeps_its_statistics_and_works_with_them(fit):
    _, watch = fit(PreciseBatchNorm(80), Freeze())
    (first, second), fresh = watch.validated, small().state_dict()
    assert torch.equal(first["1.running_mean"], fresh["1.running_mean"])
    assert torch.equal(first["1.running_var"], fresh["1.running_var"])
    network = loaded(second).train()
    network[1].eval()
    values = [network[:4](batch) for batch in watch.batches[3:5]]
    mean = torch.cat(values).mean((0, 2, 3))
    torch.testing.assert_close(network[4].running_mean, mean, rtol=1e-4, atol=1e-5)


def test_a_compiled_network_passes_them_uncompiled_and_is_not_compiled_anew(fit, monkeypatch):
    counter, compile_module = CompileCounter(), nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **kw: compile_module(self, backend=counter, **kw))
    compiled, _ = fit(PreciseBatchNorm(80), compile=True)
    assert counter.frame_count == 2, "for training and for validation"
    plain, _ = fit(PreciseBatchNorm(80))
    for name, value in plain.backbone.state_dict().items():
        torch.testing.assert_close(value, compiled.backbone.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_a_network_without_batch_norm_passes_no_image(fit):
    passed = []
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    network.register_forward_hook(lambda layer, inputs, output: passed.append(layer.training))
    fit(precise := PreciseBatchNorm(), network=network)
    assert precise.seconds == []
    assert passed.count(True) == 2 * 3


def test_its_seconds_are_in_no_epochs_time_and_said_apart(fit, clock, capsys):
    network = small()
    # A batch takes a minute in training mode, for a step or for the statistics, and seven seconds in validation.
    network.register_forward_hook(lambda *_: setattr(clock, "now", clock.now + (60 if network.training else 7)))
    callbacks = timer, precise, _ = EpochTimer(), PreciseBatchNorm(80), FitSummary()
    fit(*callbacks, network=network, val_check_interval=1)
    assert precise.seconds == [120.0] * 6
    assert timer.train_epoch_s == [180.0] * 2
    assert timer.val_epoch_s == [14.0] * 6
    assert timer.fit_s == 6 * 120 + 2 * 180 + 6 * 14
    assert "recomputed before each validation: 720.0 s more\n" in capsys.readouterr().out


def test_a_number_of_images_below_one_is_refused():
    with pytest.raises(InvalidValueError, match="images must be at least 1, a number of training images, and is 0"):
        PreciseBatchNorm(0)
