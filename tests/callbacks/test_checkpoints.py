"""`best.ckpt` and `last.ckpt`: which weights they hold, and how a training goes on from them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch.optim import lr_scheduler as torchs

from cnn_compare import ClassifierModule, DigitsDataModule, EpochTimer, WarmupCosine
from cnn_compare.callbacks import EpochSeed, MetricsCsv
from cnn_compare.errors import ResumeError
from cnn_compare.experiment import checkpoints

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
    # Of torch, where schedules are within schedules.
    pytest.mark.filterwarnings("ignore:The epoch parameter"),
]
STOP = EarlyStopping("val/acc", mode="max", stopping_threshold=0.0, check_on_train_epoch_end=False)


class LearningRates(Callback):
    def __init__(self):
        self.used = []

    def on_train_batch_start(self, trainer, *arguments):
        self.used.append(trainer.optimizers[0].param_groups[0]["lr"])


class Seen(Callback):
    """The different images that training was given."""

    def __init__(self):
        self.images = set()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.images |= {image.numpy().tobytes() for image in batch[0]}


def digits():
    """Three steps an epoch."""
    return DigitsDataModule(train_subset=120, batch_size=40, val_size=50, seed=0)


@pytest.fixture
def fit(make_trainer, tmp_path, monkeypatch):
    """A function that trains in ``tmp_path``; it returns the trainer and the rows of ``metrics.csv``."""
    # Such short epochs would not each be saved.
    monkeypatch.setattr("cnn_compare.callbacks.checkpoints.EPOCH_TIME_PER_SAVE", 0)

    def run(*callbacks, schedule=None, resume=False, **options):
        torch.manual_seed(0)
        module = ClassifierModule("lenet_relu", optimizer=partial(torch.optim.SGD, lr=0.1), lr_scheduler=schedule)
        rows, timer = MetricsCsv(tmp_path / "metrics.csv"), EpochTimer()
        every = [EpochSeed(), timer, rows, *callbacks, *checkpoints(tmp_path, "val/loss")]
        trainer = make_trainer(**{"callbacks": every, "enable_checkpointing": True, "max_epochs": 2, **options})
        last = tmp_path / "last.ckpt" if resume else None
        trainer.fit(module, digits(), ckpt_path=last, weights_only=True)
        return trainer, rows.rows

    return run


@pytest.mark.parametrize(
    ("options", "validated"),
    [
        ({}, [3, 6]),
        ({"val_check_interval": 2}, [2, 5, 6]),
        ({"val_check_interval": 2, "check_val_every_n_epoch": None}, [2, 4, 6]),
        ({"val_check_interval": 4, "check_val_every_n_epoch": None, "max_epochs": 3}, [4, 8, 9]),
        ({"check_val_every_n_epoch": 2, "max_epochs": 3}, [6, 9]),
        ({"max_steps": 2}, [2]),
        ({"max_steps": 4}, [3, 4]),
        ({"max_steps": 4, "check_val_every_n_epoch": 5}, [4]),
        ({"val_check_interval": 1, "accumulate_grad_batches": 2, "max_epochs": 1}, [0, 1, 2]),
        ({"num_sanity_val_steps": 1, "check_val_every_n_epoch": 2}, [6]),
        ({"val_check_interval": 2, "stop": True}, [2]),
    ],
)
def test_the_best_weights_are_those_that_were_validated_and_each_value_stands_at_its_step(
    fit, make_trainer, tmp_path, options, validated
):
    stopping = [STOP] if options.pop("stop", False) else []
    trainer, rows = fit(*stopping, **options)
    assert [row["step"] for row in rows if "val/loss" in row] == validated
    assert trainer.check_val_every_n_epoch == options.get("check_val_every_n_epoch", 1)
    best = min((row for row in rows if "val/loss" in row), key=lambda row: row["val/loss"])
    stored = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert (stored["epoch"], stored["global_step"]) == (best["epoch"], best["step"])
    module = ClassifierModule.load_from_checkpoint(tmp_path / "best.ckpt")
    (again,) = make_trainer().validate(module, digits(), verbose=False)
    assert again["val/loss"] == pytest.approx(best["val/loss"], rel=1e-6)
    losses = [row["train/loss"] for row in rows]
    assert len(set(losses)) == len(rows)
    assert {"train/acc", "lr", "time/train_epoch_s"} <= set.intersection(*map(set, rows))


def test_a_kill_between_best_and_last_weights_leaves_the_best_of_an_undisturbed_training(fit, tmp_path, monkeypatch):
    class Kill(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fit(Kill())
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 1
    assert torch.load(tmp_path / "previous_best.ckpt", weights_only=True)["epoch"] == 0
    # The repetition does not get better: on a GPU it is not the same.
    monkeypatch.setattr(ClassifierModule, "on_validation_epoch_start", explode_weights, raising=False)
    trainer, _ = fit(resume=True)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 0
    assert trainer.checkpoint_callback.best_model_path == str(tmp_path / "best.ckpt")
    assert not (tmp_path / "previous_best.ckpt").exists()


def explode_weights(module):
    for parameter in module.parameters():
        parameter.data.mul_(10)


def test_a_training_whose_best_weights_are_lost_does_not_go_on(fit, tmp_path):
    fit()
    (tmp_path / "best.ckpt").unlink()
    with pytest.raises(ResumeError, match=r"the best weights of its first 6 steps are not in .*best\.ckpt"):
        fit(resume=True, max_epochs=3)


def test_a_training_that_a_limit_ends_within_an_epoch_goes_on_as_if_without_it(fit, tmp_path):
    whole, _ = fit(max_steps=8, max_epochs=-1)
    expected = [parameter.clone() for parameter in whole.lightning_module.parameters()]
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).unlink()
    fit(max_steps=5, max_epochs=-1)
    trainer, rows = fit(max_steps=8, max_epochs=-1, resume=True)
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 3), (1, 6), (2, 8)]
    assert all(map(torch.equal, expected, trainer.lightning_module.parameters()))


def test_a_checkpoint_from_within_an_epoch_is_refused(fit, tmp_path):
    trainer, _ = fit(max_steps=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(ResumeError, match="it was saved within an epoch"):
        fit(resume=True)


@pytest.mark.parametrize("limits", [({"max_epochs": 2}, {"max_epochs": 4}), ({"max_steps": 9}, {"max_steps": 6})])
def test_a_warmup_cosine_spans_the_new_length_of_a_resumed_training(fit, tmp_path, limits):
    first, second = ({"max_epochs": -1, **each} for each in limits)
    new = LearningRates()
    trainer, _ = fit(new, schedule=WarmupCosine, **second)
    steps = trainer.global_step
    if first.get("max_steps") == 9:
        fit(schedule=WarmupCosine, max_steps=9, max_epochs=1)  # Stopped by its epochs, planned for as many.
    else:
        fit(schedule=WarmupCosine, **first)
    done = torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"]
    resumed = LearningRates()
    fit(resumed, schedule=WarmupCosine, resume=True, **second)
    assert resumed.used == pytest.approx(new.used[done:])
    assert len(resumed.used) == steps - done > 0


def sequential(epochs):
    return lambda optimizer: torchs.SequentialLR(
        optimizer,
        [torchs.LinearLR(optimizer, total_iters=1), torchs.CosineAnnealingLR(optimizer, T_max=epochs - 1)],
        milestones=[1],
    )


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (partial(torchs.CosineAnnealingLR, T_max=2), partial(torchs.CosineAnnealingLR, T_max=4), "T_max=2, .* 4"),
        (partial(torchs.CosineAnnealingLR, T_max=2), None, "CosineAnnealingLR, ends after 2 epochs, as the run did"),
        (partial(torchs.PolynomialLR, total_iters=2), None, "PolynomialLR, ends after 2 epochs"),
        (partial(torchs.MultiStepLR, milestones=[1]), partial(torchs.MultiStepLR, milestones=[1, 3]), "milestones="),
        (sequential(2), sequential(4), "T_max=1, and is given 3"),
        (sequential(2), None, "SequentialLR, ends after 2 epochs"),
        (partial(torchs.StepLR, step_size=1), partial(torchs.ExponentialLR, gamma=0.1), "another one than Exponential"),
        (partial(WarmupCosine, warmup=0.1), partial(WarmupCosine, warmup=0.3), "warmup=0.1, and is given 0.3"),
        (None, partial(torchs.StepLR, step_size=1), "with no model.lr_scheduler"),
        # The same as without an interruption.
        (partial(torchs.LinearLR, total_iters=1), None, None),
        (partial(torchs.StepLR, step_size=1), None, None),
        (partial(torchs.CosineAnnealingLR, T_max=4), None, None),
    ],
)
def test_a_schedule_that_would_not_span_a_longer_training_is_refused(fit, first, second, said):
    fit(schedule=first)
    again = second or first
    if said is None:
        assert fit(schedule=again, resume=True, max_epochs=4)[0].current_epoch == 4
        return
    with pytest.raises(ResumeError, match=said):
        fit(schedule=again, resume=True, max_epochs=4)


@pytest.mark.parametrize(
    "options", [{}, {"limit_train_batches": 1}, {"limit_train_batches": 1, "max_epochs": 1}, {"max_steps": 2}]
)
def test_training_images_are_those_that_were_used(fit, options):
    seen = Seen()
    trainer, _ = fit(seen, **options)
    (timer,) = (callback for callback in trainer.callbacks if isinstance(callback, EpochTimer))
    assert trainer.datamodule.images_used(timer.epoch_images) == len(seen.images)
