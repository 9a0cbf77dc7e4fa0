from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cnn_compare.callbacks import EpochTimer

# A training epoch: ten images fetched, three steps (longer from epoch to epoch) and three optimiser steps.
SECONDS = {"fetch": 0.0625, "step": 1.0, "optimizer": 0.5, "validation": 100.0, "checkpoint": 4000.0}
TRAIN_EPOCHS = [10 * 0.0625 + 3 * steps * 1.0 + 3 * 0.5 for steps in (1, 2, 3)]
VAL_EPOCH = 10 * 0.0625 + 3 * 100.0


def test_epoch_time_holds_fetching_and_training_and_neither_validation_nor_checkpoints(train):
    timer = EpochTimer()
    train(timer, seconds=SECONDS)
    assert timer.train_epoch_s == TRAIN_EPOCHS
    assert timer.val_epoch_s == [VAL_EPOCH] * 3


@pytest.mark.parametrize(("option", "validations"), [("num_sanity_val_steps", 3), ("val_check_interval", 9)])
def test_validations_before_and_amid_the_epochs_are_not_training_time(train, option, validations):
    timer = EpochTimer()
    train(timer, seconds=SECONDS, **{option: 1})
    assert timer.train_epoch_s == TRAIN_EPOCHS
    assert timer.val_epoch_s == [VAL_EPOCH] * validations


def test_times_and_throughput_are_logged_beside_the_metrics_of_their_epoch(train):
    trainer = train(EpochTimer(), seconds=SECONDS, epochs=2)
    logged = trainer.callback_metrics
    assert float(logged["time/train_epoch_s"]) == TRAIN_EPOCHS[1]
    assert float(logged["time/val_epoch_s"]) == VAL_EPOCH
    assert float(logged["throughput/images_per_s"]) == pytest.approx(10 / TRAIN_EPOCHS[1])


@pytest.mark.parametrize(("limit", "images"), [(1.0, 10), (2, 8), (1, 4)])
def test_images_are_counted_one_by_one_for_the_last_epoch(train, limit, images):
    timer = EpochTimer()
    train(timer, seconds=SECONDS, epochs=2, limit_train_batches=limit)
    assert timer.images_per_epoch == images
    assert len(timer.train_epoch_s) == 2


def test_fit_time_is_all_of_the_fit_and_nothing_after_it(train, clock):
    timer = EpochTimer()
    train(timer, seconds=SECONDS)
    expected = sum(TRAIN_EPOCHS) + 3 * VAL_EPOCH + 3 * 4000.0
    assert timer.fit_s == expected
    clock.now += 12345
    assert timer.fit_s == expected


def test_a_timer_that_never_ran_has_spent_no_time():
    assert EpochTimer().fit_s == 0.0


def test_a_resumed_training_has_the_times_of_an_uninterrupted_one(train, clock):
    seconds = {**SECONDS, "checkpoint": 0.0}
    whole, rest = EpochTimer(), EpochTimer()
    train(whole, seconds=seconds)
    train(EpochTimer(), seconds=seconds, epochs=2)
    clock.now += 86400
    train(rest, seconds=seconds, resume=True)
    assert rest.train_epoch_s == whole.train_epoch_s == TRAIN_EPOCHS
    assert rest.val_epoch_s == whole.val_epoch_s
    assert rest.fit_s == whole.fit_s


def test_an_epoch_that_a_kill_cut_off_is_timed_anew(train):
    timer = EpochTimer()
    train(EpochTimer(), seconds=SECONDS, killed_in=1)
    train(timer, seconds=SECONDS, resume=True)
    assert timer.train_epoch_s == TRAIN_EPOCHS


def test_the_clock_is_read_when_the_device_is_done_and_only_at_both_ends_of_an_epoch(monkeypatch):
    events = []
    fake = SimpleNamespace(perf_counter=lambda: events.append("clock") or float(len(events)))
    monkeypatch.setattr("cnn_compare.machine.time", fake)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: events.append("device done"))
    module = SimpleNamespace(device=torch.device("cuda"), log_dict=lambda *args, **kwargs: None)
    timer, batch = EpochTimer(), (None, torch.zeros(4))
    timer.on_train_epoch_start(None, module)
    assert events == ["device done", "clock"]
    timer.on_train_batch_end(SimpleNamespace(is_last_batch=False, world_size=1), module, None, batch, 0)
    assert events == ["device done", "clock"]
    timer.on_train_batch_end(SimpleNamespace(is_last_batch=True, world_size=1), module, None, batch, 1)
    assert events == ["device done", "clock"] * 2
