from __future__ import annotations

import copy
import gc
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import DATA, run_command, run_result, small_comparison
from scipy import stats

from cnn_compare import profiling, times
from cnn_compare.comparison import turns
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.comparison.turns import TimedTraining, measure_times_if_needed
from cnn_compare.errors import RunError
from cnn_compare.experiment import ExperimentCLI, resolve_config
from cnn_compare.profiling import take_turns
from cnn_compare.times import Times


@pytest.fixture
def machine(monkeypatch):
    """A function: makes the bursts of trainings on a machine whose speed wanders, by their seconds a step."""
    clock = SimpleNamespace(now=0.0, turns=[])
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: clock.now)
    noise = random.Random(0)

    def make(noise_share: float, **step_s: float):
        def burst_of(name):
            def make_steps(steps):
                slow = 1.5 + 0.5 * math.sin(clock.now / 60)
                seconds = step_s[name] * slow * math.exp(noise.gauss(0, noise_share))
                clock.now += steps * seconds
                clock.turns.append(name)
                return seconds

            return make_steps

        return {name: burst_of(name) for name in step_s}

    make.clock = clock
    return make


def test_turns_end_as_soon_as_the_ratio_is_known_to_5_percent(machine):
    rounds = take_turns(machine(0.02, once=0.01, twice=0.02), limit_s=60)
    value, low, high = times.ratio(rounds["twice"], rounds["once"])
    assert low < 2.0 < high
    assert high / value <= 1.05
    assert machine.clock.now < 30
    seconds = np.array(rounds["once"])
    assert seconds.max() / seconds.min() > 1.05, "the machine's wandering is in the seconds, and not in the ratio"


def test_turns_end_when_the_time_is_over_and_not_before_the_fifth_round(machine):
    noisy = machine(0.5, once=0.01, twice=0.02)
    assert len(take_turns(noisy, limit_s=0)["once"]) == 5
    before = machine.clock.now
    assert len(take_turns(noisy, limit_s=20)["once"]) > 5
    assert 20 < machine.clock.now - before < 30


def test_in_every_round_each_network_has_one_turn_and_the_order_changes(machine):
    take_turns(machine(0.3, a=0.01, b=0.01, c=0.01), limit_s=10)
    after_warm_up = machine.clock.turns[6:]
    orders = [tuple(after_warm_up[start : start + 3]) for start in range(0, len(after_warm_up), 3)]
    assert {tuple(sorted(order)) for order in orders} == {("a", "b", "c")}
    assert len(set(orders)) > 1


def test_an_interval_is_that_of_a_paired_t_test_of_logarithms():
    slower, faster = [2.1, 2.3, 1.9, 2.0], [1.0, 1.1, 1.0, 0.9]
    expected = stats.ttest_rel(np.log(slower), np.log(faster)).confidence_interval(0.95)
    assert times.ratio(slower, faster)[1:] == pytest.approx((math.exp(expected.low), math.exp(expected.high)))


@pytest.fixture
def config():
    return resolve_config(
        {"model": {"backbone": "lenet", "num_classes": 10}, "data": DATA, "trainer": {"accelerator": "cpu"}}
    ) | {"seed_everything": 0}


def test_a_burst_of_a_whole_epoch_ends_in_the_weights_of_the_same_training(config):
    timed = TimedTraining(config)
    assert timed.burst(99) > 0
    assert timed.epoch_steps == 3
    weights = {name: tensor.clone() for name, tensor in timed.model.backbone.state_dict().items()}
    args = {**config, "trainer": {**config["trainer"], "max_epochs": 1, "limit_val_batches": 0}}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    cli = ExperimentCLI(args=args, run=False, callbacks=[], **quiet)
    cli.trainer.fit(cli.model, cli.datamodule)
    for name, expected in cli.model.backbone.state_dict().items():
        torch.testing.assert_close(weights[name], expected, rtol=0, atol=0)


@pytest.mark.parametrize(("wanted", "accumulate", "batches"), [(1, 1, 2), (2, 1, 3), (1, 2, 3)])
def test_a_burst_makes_the_steps_that_are_asked_for_and_one_before_them(config, wanted, accumulate, batches):
    config["trainer"]["accumulate_grad_batches"] = accumulate
    timed = TimedTraining(config)
    passed = []
    timed.model.backbone.register_forward_hook(lambda network, inputs, output: passed.append(len(inputs[0])))
    for _ in range(2):
        timed.burst(wanted)
        assert [images for images in passed if images > 2] == [40] * batches, "those of two images are a check"
        passed.clear()


def test_between_its_turns_a_network_keeps_nothing_but_its_weights_in_memory(config):
    timed = TimedTraining(config)
    timed.burst(1)
    own = {id(parameter) for parameter in timed.model.parameters()}
    assert all(parameter.grad is None for parameter in timed.model.parameters())
    optimizers = [each for each in gc.get_objects() if issubclass(type(each), torch.optim.Optimizer)]
    assert not any(id(parameter) in own for each in optimizers for parameter in each.param_groups[0]["params"])


def test_an_error_of_a_network_reaches_who_waits_for_its_step(config):
    config["data"] = {"class_path": "DigitsDataModule", "init_args": {**DATA["init_args"], "train_subset": 10_000}}
    with pytest.raises(Exception, match="train_subset"):
        TimedTraining(config).burst(1)


@pytest.mark.parametrize(
    ("when", "contended", "stored", "expected"),
    [
        ("auto", True, [], [2.0]),
        ("auto", False, [], []),
        ("auto", True, ["lenet", "resnet18"], []),
        ("auto", True, ["lenet"], [2.0]),
        ("always", False, [], [None]),
        ("never", True, [], []),
    ],
)
def test_turns_are_taken_by_themselves_where_clocks_were_disturbed_for_a_tenth_of_the_training(
    tmp_path, monkeypatch, when, contended, stored, expected
):
    limits = []
    monkeypatch.setattr(turns, "_measure_and_save", lambda folder, limit_s: limits.append(limit_s))
    if stored:
        Times({name: [1.0, 1.1] for name in stored}, "cpu", False, "").save(tmp_path)
    results = [
        run_result(backbone=name, contended=contended, device="cpu", fit_s=20.0) for name in ("lenet", "resnet18")
    ]
    measure_times_if_needed(tmp_path, when, results, LocalExecutor(jobs=2))
    assert limits == expected


def test_networks_take_turns_after_their_runs_and_a_run_begun_anew_forgets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "SECONDS_A_NETWORK", 0.0)
    folder = small_comparison(tmp_path, trainer={"max_epochs": 1}, times="always")
    measured = Times.load(folder)
    for by_network in (measured.epoch_s, measured.predict_ms):
        assert [(name, len(rounds)) for name, rounds in by_network.items()] == [("lenet", 5)]
    small_comparison(tmp_path, trainer={"max_epochs": 1}, rerun=["lenet/0"])
    assert Times.load(folder) is None


def test_a_prediction_that_is_timed_is_that_of_a_test_on_one_picture(config):
    config["data"]["init_args"]["image_size"] = 24
    config["model"] |= {"backbone": "lenet_relu", "flip_tta": True}
    timed = TimedTraining(config)
    seen = []
    timed.model.backbone.register_forward_pre_hook(lambda network, inputs: seen.append((network.training, inputs[0])))
    timed.burst(1)
    seen.clear()
    assert timed.predict(3) > 0
    # Each with its mirror image, in evaluation mode, without a gradient.
    assert [(training, images.shape, images.requires_grad) for training, images in seen] == [
        (False, (1, 3, 24, 24), False)
    ] * 6


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_a_prediction_is_timed_in_float32_as_the_classifier_computes_whatever_the_training_had(config, precision):
    config["trainer"]["precision"] = precision
    timed = TimedTraining(config)
    seen = []
    timed.model.backbone.register_forward_hook(lambda network, inputs, output: seen.append(output.dtype))
    timed.burst(1)
    assert seen[-1] == (torch.bfloat16 if precision == "bf16-mixed" else torch.float32)
    seen.clear()
    timed.predict(2)
    assert seen == [torch.float32] * 2


def test_networks_that_take_turns_keep_equal_images_once_and_others_apart(config):
    other = copy.deepcopy(config)
    other["data"]["init_args"] |= {"augmentation": "none", "batch_size": 60, "train_subset": 60}
    cropped = copy.deepcopy(config)
    cropped["data"] = {"class_path": "helpers.BrightDigits", "init_args": {}}
    first = TimedTraining(config)
    second = TimedTraining(other, [first.data])
    third = TimedTraining(cropped, [first.data, second.data])
    for training in (first, second, third):
        training.burst(1)
    places = [training.data.splits["train"].images.data_ptr() for training in (first, second, third)]
    assert places[0] == places[1] != places[2]
    assert [len(training.data.splits["train"]) for training in (first, second)] == [120, 60]


def test_what_has_no_finished_run_is_not_measured(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="no run has finished"):
        turns.measure_times(tmp_path)
    with pytest.raises(RunError, match="no comparison's folder"):
        turns.measure_times(tmp_path / "none")
    status, _, errors = run_command(["report", str(tmp_path / "none"), "--measure_times"], capsys)
    assert status == 2
    assert "there is no such folder" in errors
