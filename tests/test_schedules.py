"""Schedules that count steps go on with each step, those that count epochs with each epoch."""

from __future__ import annotations

import pytest
import torch
from helpers import DATA
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import nn
from torch.optim import lr_scheduler

from cnn_compare import ClassifierModule, DigitsDataModule, WarmupCosine
from cnn_compare.checks import check_settings
from cnn_compare.errors import ConfigurationError, InvalidValueError
from cnn_compare.experiment import resolve_config
from cnn_compare.schedules import schedule_interval


def sgd(parameters=None, lr=0.1):
    return torch.optim.SGD(parameters or [nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


class Ramp(lr_scheduler.LambdaLR):
    """A schedule of the user's own that is given its number of steps."""

    def __init__(self, optimizer, steps_per_epoch, epochs):
        super().__init__(optimizer, lambda step: step / (steps_per_epoch * epochs))


MADE = {
    "OneCycleLR": (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=6), "step"),
    "OneCycleLR by epochs": (lambda o: lr_scheduler.OneCycleLR(o, 0.1, epochs=2, steps_per_epoch=3), "step"),
    "CyclicLR": (lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=2), "step"),
    "WarmupCosine": (WarmupCosine, "step"),
    "own": (lambda o: Ramp(o, 3, 2), "step"),
    "OneCycleLR in a chain": (
        lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.OneCycleLR(o, 0.1, total_steps=6)], o),
        "step",
    ),
    "StepLR": (lambda o: lr_scheduler.StepLR(o, 1), "epoch"),
    "CosineAnnealingLR": (lambda o: lr_scheduler.CosineAnnealingLR(o, 2), "epoch"),
    "LambdaLR": (lambda o: lr_scheduler.LambdaLR(o, lambda n: 0.5**n), "epoch"),
    "ReduceLROnPlateau": (lr_scheduler.ReduceLROnPlateau, "epoch"),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_given_a_number_of_steps_counts_steps(name):
    make, expected = MADE[name]
    assert schedule_interval(make(sgd())) == expected


class Rates(Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def rates(make_trainer, schedule, epochs=2, lr_interval=None):
    """The learning rate of each of three steps an epoch."""
    watch = Rates()
    module = ClassifierModule("lenet", optimizer=sgd, lr_scheduler=schedule, lr_interval=lr_interval)
    make_trainer(max_epochs=epochs, callbacks=[watch]).fit(module, DigitsDataModule(train_subset=120, batch_size=40))
    return watch.rates


def alone(schedule, steps=6):
    """The rates of torch's own loop that steps the schedule after each step of the optimiser."""
    optimizer = sgd()
    schedule, found = schedule(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_one_cycle_has_the_rates_of_torchs_own_loop(make_trainer):
    schedule = MADE["OneCycleLR by epochs"][0]
    assert rates(make_trainer, schedule) == pytest.approx(alone(schedule))


@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler")
def test_the_user_decides_where_a_schedule_does_not_say(make_trainer):
    schedule = MADE["LambdaLR"][0]
    assert rates(make_trainer, schedule) == pytest.approx([0.1] * 3 + [0.05] * 3)
    assert rates(make_trainer, schedule, lr_interval="step") == pytest.approx(alone(schedule))
    cycle = MADE["OneCycleLR"][0]
    assert rates(make_trainer, cycle, lr_interval="epoch") == pytest.approx(
        [rate for rate in alone(cycle, 2) for _ in range(3)]
    )


@pytest.mark.parametrize(("lr_interval", "needed"), [(None, "9, the steps"), ("epoch", "3, the epochs")])
def test_a_cycle_that_ends_before_the_run_is_refused_before_training(make_trainer, lr_interval, needed):
    def short(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2)

    with pytest.raises(
        InvalidValueError, match=f"lr_scheduler.total_steps must be at least {needed} of the run, and is 2"
    ):
        rates(make_trainer, short, epochs=3, lr_interval=lr_interval)


@pytest.mark.parametrize(("mode", "monitor"), [("min", "val/loss"), ("max", "val/acc")])
def test_torchs_plateau_schedule_watches_what_its_mode_says(make_trainer, mode, monitor):
    module = ClassifierModule("lenet", lr_scheduler=lambda o: lr_scheduler.ReduceLROnPlateau(o, mode, patience=0))
    trainer = make_trainer(limit_train_batches=1)
    trainer.fit(module, DigitsDataModule(train_subset=120, batch_size=40))
    assert trainer.lr_scheduler_configs[0].monitor == monitor


def settings(callbacks=None, **model):
    config = {
        "model": {"backbone": "lenet", "num_classes": 10, **model},
        "data": DATA,
        "trainer": {"callbacks": callbacks},
    }
    return {**resolve_config(config), "seed_everything": 0}


def plateau(**options):
    return {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": options}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"lr_scheduler": "WarmupCosine", "lr_interval": "epoch"},
            "lr_interval must be step or left out with WarmupCosine",
        ),
        (
            {"lr_scheduler": plateau(monitor="val/loss"), "lr_interval": "step"},
            "lr_interval must be epoch or left out with ReduceLROnPlateau",
        ),
        (
            {"lr_scheduler": plateau(monitor="val_loss")},
            "lr_scheduler.monitor must be one of val/acc, .*val/loss.*, and is 'val_loss'",
        ),
        (
            {"lr_scheduler": plateau(monitor="val/acc")},
            "lr_scheduler.mode must be max with model.lr_scheduler.monitor=val/acc, and is 'min'",
        ),
        (
            {"callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "val/acc"}}]},
            "trainer.callbacks.mode must be max with trainer.callbacks.monitor=val/acc, and is 'min'",
        ),
        (
            {"callbacks": {"class_path": "ModelCheckpoint", "init_args": {"monitor": "accuracy"}}},
            "trainer.callbacks.monitor must be one of val/acc, .*, and is 'accuracy'",
        ),
    ],
)
def test_what_would_watch_nothing_or_the_wrong_direction_is_refused(given, message):
    if "lr_scheduler" in given and isinstance(given["lr_scheduler"], str):
        given["lr_scheduler"] = {"class_path": f"cnn_compare.{given['lr_scheduler']}"}
    with pytest.raises(InvalidValueError, match=message):
        check_settings(settings(**given))


@pytest.mark.parametrize(("callback", "left_out"), [("Timer", "interval"), ("StochasticWeightAveraging", "device")])
def test_defaults_that_yaml_cannot_hold_are_left_out_and_filled_in_again(callback, left_out):
    """An enumeration, and a device."""
    needed = {"swa_lrs": 0.1} if callback == "StochasticWeightAveraging" else {"duration": {"hours": 1}}
    config = resolve_config(
        {
            "model": {"backbone": "lenet"},
            "data": DATA,
            "trainer": {"callbacks": [{"class_path": callback, "init_args": needed}]},
        }
    )
    (stored,) = config["trainer"]["callbacks"]
    assert left_out not in stored["init_args"]
    assert resolve_config(config) == config


@pytest.mark.filterwarnings("ignore:\\s*Unable to serialize instance")
def test_an_object_in_a_configuration_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"cannot hold <.*EarlyStopping.*>: give a plain value, an import path"
    ):
        settings([EarlyStopping("val/acc", mode="max")])


def test_lightnings_plateau_schedule_of_the_wrong_direction_is_refused_in_python(make_trainer):
    with pytest.raises(InvalidValueError, match=r"lr_scheduler\.mode must be max"):
        rates(make_trainer, lambda o: ReduceLROnPlateau(o, "val/acc"))
