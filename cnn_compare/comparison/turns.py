"""Times measured apart: the networks of a stored comparison take turns alone on this machine.

Source:
    Kalibera and Jones 2013, doi:10.1145/2491894.2464160: repetitions in random order, and intervals of ratios.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping

from cnn_compare.callbacks import MachineLoad, StopWhenDiverged, StopWithoutProgress
from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.local import LocalExecutor, start_server, world_size
from cnn_compare.comparison.lock import comparison_lock
from cnn_compare.comparison.plan import When
from cnn_compare.comparison.spec import Config, WorkerSpec
from cnn_compare.comparison.worker import exit_with_parent
from cnn_compare.data import ImageDataModule
from cnn_compare.data.once import reading_once
from cnn_compare.errors import CnnCompareError, ResultError, RunError, own_error
from cnn_compare.experiment import run_cli
from cnn_compare.machine import describe_device, now
from cnn_compare.profiling import burst, take_turns
from cnn_compare.results import MANIFEST, RunResult, tested_runs
from cnn_compare.schedules import WarmupCosine
from cnn_compare.times import Times, ratio_uncertainty
from cnn_compare.trusted import require_trusted

SECONDS_A_NETWORK = 30.0
# Turns that nobody asked for take this share of the trainings' seconds, where it suffices for five of each.
SHARE_OF_TRAINING = 0.1
# Turns of predictions, which are short, take this share of the seconds of the training's turns.
SHARE_OF_PREDICTIONS = 0.1
# Training goes on until it has been measured, whatever its recipe says; `WarmupCosine` spans these epochs.
ENDLESS: dict[str, Any] = {
    "max_epochs": 10**6,
    "max_steps": -1,
    "max_time": None,
    "min_epochs": None,
    "min_steps": None,
}
STOPPING = (Checkpoint, EarlyStopping, StopWithoutProgress, StopWhenDiverged)


def measure_times(folder: str | Path) -> None:
    """Measure how long an epoch of each network of a comparison takes on this machine, and store it for the report.

    Args:
        folder: The comparison's folder. Each network with a finished run takes turns, in the settings of that run.

    Raises:
        UsageError: If another process works on the comparison.
        RunError: If there is nothing to measure, or it fails.
        UntrustedCodeError: If a configuration names code of another package that was not given to `trust`.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        raise _not_timed(folder, f"it is no comparison's folder, which holds a {MANIFEST}")
    with comparison_lock(folder):
        _measure_and_save(folder)


def measure_times_if_needed(folder: Path, when: When, results: Sequence[RunResult], executor: Executor) -> None:
    """Measure after a comparison's runs, where that is asked for or needed and has not been done.

    Args:
        folder: The comparison's folder, whose lock is held.
        when: ``auto``: if they ran on this machine, and their own clocks cannot be compared, because they were
            disturbed or had other devices or numbers of threads; then for a tenth of the training's time, but at least
            five turns each.
        results: The results of all its runs.
        executor: The one that has carried them out.
    """
    finished = [result for result in results if result.status == "finished"]
    networks = {result.network for result in finished}
    try:
        times = Times.load(folder)
    except ResultError:
        times = None
    if when == "never" or not networks or (times and networks <= times.epoch_s.keys()):
        return
    limit_s = None
    if when == "auto":
        disturbed = any(result.contended for result in finished) or len({result.device for result in finished}) > 1
        if len(networks) < 2 or not disturbed or not isinstance(executor, LocalExecutor):
            return
        limit_s = SHARE_OF_TRAINING * sum(result.value("fit_s") or 0.0 for result in finished) / executor.jobs
    try:
        _measure_and_save(folder, limit_s)
    except CnnCompareError as error:
        print(error, file=sys.stderr)


def _measure_and_save(folder: Path, limit_s: float | None = None) -> None:
    """`measure_times` of a comparison whose lock is held, in so many seconds, and at most 30 a network."""
    configs = _configs(folder)
    most_s = SECONDS_A_NETWORK * len(configs)
    limit_s = most_s if limit_s is None else min(limit_s, most_s)
    print(f"{len(configs)} networks take turns, to measure their times: up to {limit_s:.0f} s", file=sys.stderr)
    context = start_server()
    receiver, sender = context.Pipe(duplex=False)
    worker = WorkerSpec(visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"))
    process = context.Process(target=_run_turns, args=(configs, limit_s, worker, sender), daemon=True)
    process.start()
    sender.close()
    try:
        outcome: Times | str = receiver.recv()
    except EOFError:
        process.join()
        outcome = f"the process that measures ended with exit status {process.exitcode}"
    finally:
        process.kill()
        process.join()
    if isinstance(outcome, str):
        raise _not_timed(folder, outcome)
    outcome.save(folder)
    known = (
        f"{outcome.rounds} turns each; ratios are known to {100 * ratio_uncertainty(outcome.epoch_s.values()):.1f} %"
    )
    print(f"{known} (95 %)", file=sys.stderr)


def _not_timed(folder: Path, reason: str) -> RunError:
    return RunError(f"times are not measured for {folder}: {reason}.")


def _configs(folder: Path) -> dict[str, Config]:
    """Network -> the configuration of a finished run, with the most training images where their number varies."""
    configs: dict[str, Config] = {}
    for name, ((run, _), *_) in tested_runs(folder).items():
        try:
            configs[name] = run.load_config()
        except ResultError as error:
            raise _not_timed(folder, f"{run.config}: {error.reason}") from error
    if not configs:
        raise _not_timed(folder, "no run has finished")
    for name, config in configs.items():
        require_trusted(f"the configuration of {name} in {folder}", config)
        if (devices := world_size(config)) > 1:
            raise _not_timed(folder, f"{name} trained on {devices} devices at once, and turns are taken on one")
    return configs


def _run_turns(configs: Mapping[str, Config], limit_s: float, worker: WorkerSpec, parent: Connection) -> None:
    """Measure, in a process of its own, and send `Times`, or why there are none."""
    exit_with_parent()
    os.environ.update(worker.environment())
    with Path(os.devnull).open("w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())
    try:
        with reading_once():
            parent.send(_take_turns(configs, limit_s))
    except Exception as error:  # It runs the user's code, which can raise anything.
        cause = own_error(error) or error
        parent.send(f"{type(cause).__name__}: {cause}")


def _take_turns(configs: Mapping[str, Config], limit_s: float) -> Times:
    cpu = torch.device("cpu")
    started = now(cpu)
    trainings: dict[str, TimedTraining] = {}
    for name, config in configs.items():
        trainings[name] = TimedTraining(config, [training.data for training in trainings.values()])
    device = next(iter(trainings.values())).device
    load = MachineLoad()
    load.start(device)
    bursts = {name: training.burst for name, training in trainings.items()}
    step_s = take_turns(bursts, max(0.0, limit_s - (now(cpu) - started)))
    predicting = {name: training.predict for name, training in trainings.items()}
    prediction_s = take_turns(predicting, SHARE_OF_PREDICTIONS * limit_s)
    load.update(device)
    return Times(
        epoch_s={name: [trainings[name].epoch_steps * one for one in rounds] for name, rounds in step_s.items()},
        device=describe_device(device),
        contended=load.contended,
        measured_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        predict_ms={name: [1000 * one for one in rounds] for name, rounds in prediction_s.items()},
    )


class TimedTraining(Callback):
    """A run's training of which a few steps at a time are made and timed.

    Each burst is the beginning of an epoch of Lightning's own loop, so that a step is what it is in a run: the batch is
    fetched, augmented and moved, and Lightning and all callbacks that the configuration names do their work. What
    begins and ends an epoch belongs to no step. There is no validation.

    Args:
        config: The run's configuration.
        loaded: Data of other trainings in this process; the same images are kept in memory once.

    Attributes:
        model: The module that is trained.
        device: Its device.
        epoch_steps: Optimiser steps of an epoch; known after the first burst.
    """

    def __init__(self, config: Config, loaded: Sequence[ImageDataModule] = ()) -> None:
        config = config | {"target_acc": None, "patience": None}
        if not str(config["model"].get("lr_scheduler")).count(WarmupCosine.__name__):
            config["model"] = config["model"] | {"lr_scheduler": None}  # Some end, and some wait for a validation.
        # Settings of the whole process, which another training's trainer may have changed.
        torch.backends.cudnn.benchmark = False
        devices = config["trainer"].get("devices", "auto")
        devices = 1 if devices == "auto" else devices
        cli = run_cli(config, [self], logger=False, devices=devices, limit_val_batches=0, **ENDLESS)
        self.trainer = cli.trainer
        self._settings = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [callback for callback in callbacks if not isinstance(callback, STOPPING)]
        self.model, self.data, self.device = cli.model, cli.datamodule, self.trainer.strategy.root_device
        self._loaded = loaded
        self.epoch_steps = self._wanted = self._taken = 0
        self._started = self._step_s = 0.0

    def burst(self, steps: int) -> float:
        """Seconds a step takes, over so many of one epoch, after one that warms the caches."""
        deterministic, torch.backends.cudnn.benchmark = self._settings
        torch.use_deterministic_algorithms(deterministic)
        self._wanted = steps
        self.trainer.fit(self.model, self.data)
        # The next burst makes its optimiser anew; those of all networks together would fill the memory meanwhile.
        self.trainer.strategy.optimizers, self.trainer.strategy.lr_scheduler_configs = [], []
        self.model.zero_grad()
        gc.collect()  # Trainer and optimiser refer to each other.
        return self._step_s

    def predict(self, steps: int) -> float:
        """Seconds that `Classifier` takes for a decoded picture, on this device; there is no training after it."""
        # Whatever the training's precision is: a classifier computes in float32.
        self.model.to(self.device).eval().float()
        side = self.data.preparation["stored_size"]
        height, width = (side, side) if isinstance(side, int) else side
        picture = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=self.device)
        with torch.inference_mode():
            return burst(lambda: self.model.probabilities(self.data.to_input(picture)), self.device, steps)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Share what is loaded, before it is moved to the device: the data of ten networks would fill it."""
        for other in self._loaded:
            self.data.share_images(other)
        self._loaded = ()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from here; an epoch of one step has none to warm up with."""
        batches = int(trainer.num_training_batches)
        self.epoch_steps = -(-batches // trainer.accumulate_grad_batches)
        self._taken, self._started = 0, now(self.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock after the first step, and stop clock and epoch after the last."""
        if not trainer.is_last_batch and (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._taken += 1
        if trainer.is_last_batch or self._taken == self._wanted + 1:
            self._step_s = (now(self.device) - self._started) / max(1, self._taken - 1)
            trainer.should_stop = True
        elif self._taken == 1:
            self._started = now(self.device)
