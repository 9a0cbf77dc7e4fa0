"""One process of a run: trains and tests, and, if it is the run's first, stores what came of it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from cnn_compare.backbones import code_fingerprint, count_macs, count_parameters, find_backbone
from cnn_compare.callbacks import EpochTimer, MachineLoad, MetricsCsv, TextLog, not_validated, precise_bn_s
from cnn_compare.checkpointing import resumable
from cnn_compare.comparison.spec import Config, Progress, RunSpec, Started, WorkerSpec
from cnn_compare.errors import DivergedError, own_error
from cnn_compare.experiment import checkpoints, run_cli
from cnn_compare.files import read_json, write_json
from cnn_compare.machine import PeakMemory, describe_device, versions
from cnn_compare.results import (
    Metric,
    RunResult,
    Status,
    metrics_of,
    usual_epoch_s,
)
from cnn_compare.schedules import total_steps


def run_worker(spec: RunSpec, worker: WorkerSpec, parent: Connection | None) -> None:
    """Carry out one process's part of a run, from the run's last checkpoint if there is one.

    Args:
        spec: The run. What the process prints goes to the log in its folder.
        worker: The process's part of the machine and of the run.
        parent: Gets `Started` and `Progress`; None for all processes but the run's first.
    """
    exit_with_parent()
    os.environ.update(worker.environment())
    with spec.folder.log.open("a", buffering=1, encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        if parent is None:
            MeasuredRun(spec, worker).train_and_test(worker.checkpoint)
            return
        # A process of the same run whose parent has just been killed may still be ending.
        with FileLock(spec.folder.lock, timeout=60):
            spec.folder.save_result(_run_first_process(spec, worker, parent))


def _run_first_process(spec: RunSpec, worker: WorkerSpec, parent: Connection) -> RunResult:
    """Train, test and store everything but the result, which says what went wrong if anything did."""
    for unfinished in spec.folder.path.rglob(".*.tmp"):
        unfinished.unlink()  # The process that wrote it was killed.
    try:
        discard_checkpoints_of_other_code(spec)
        checkpoint = resumable(spec.folder.checkpoints)
        parent.send(Started(checkpoint))
        run = MeasuredRun(spec, worker, [SendProgress(parent)])
        run.train_and_test(checkpoint)
        if spec.tested:
            spec.folder.save_predictions(**run.answers())
        result = run.result()
        run.log_hparams(result)
        (spec.folder.checkpoints / spec.folder.PREVIOUS).unlink(missing_ok=True)
        return result
    except Exception as error:
        logging.getLogger(__name__).exception("the run failed")
        cause = own_error(error) or error
        sys.stdout.flush()  # The result holds the end of the log.
        status: Status = "diverged" if isinstance(cause, DivergedError) else "failed"
        return spec.result(status, reason=f"{type(cause).__name__}: {cause}")


def discard_checkpoints_of_other_code(spec: RunSpec) -> None:
    """Delete a stopped run's checkpoints if the network's code has changed since: no run mixes two versions of it."""
    code, path = _code(spec), spec.folder.code
    if path.exists() and read_json(path) != code and spec.folder.checkpoints.exists():
        logging.getLogger(__name__).warning("the network's code has changed: training begins anew")
        shutil.rmtree(spec.folder.checkpoints)
    write_json(path, code)


def _code(spec: RunSpec) -> dict[str, str]:
    model = spec.config["model"]
    return code_fingerprint(spec.key.backbone, model["num_classes"], model["stem"])


class SendProgress(Callback):
    """Send `Progress` to the parent about a hundred times an epoch."""

    def __init__(self, parent: Connection) -> None:
        self.parent = parent

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Send after every hundredth of the batches."""
        batches = int(trainer.num_training_batches)
        if batch_idx % max(1, batches // 100) == 0:
            self.parent.send(Progress(trainer.current_epoch, trainer.global_step / total_steps(trainer)))


class MeasuredRun:
    """The trainer, model and data of a run, and the callbacks that measure it.

    Args:
        spec: The run.
        worker: The process's part of the machine and of the run.
        callbacks: Further callbacks of the trainer.
    """

    def __init__(self, spec: RunSpec, worker: WorkerSpec, callbacks: Sequence[Callback] = ()) -> None:
        self.spec, folder = spec, spec.folder
        self.memory = PeakMemory()  # Before data and network exist.
        self.timer, self.load, self.curves = EpochTimer(), MachineLoad(), MetricsCsv(folder.curves)
        self.best, last = checkpoints(folder.checkpoints, spec.config["monitor"])
        self.logger = TensorBoardLogger(folder.path, name="", version="", default_hp_metric=False)
        measuring: list[Callback] = [self.timer, self.load, self.curves, TextLog(folder.path, "train.log")]
        every = [*measuring, *callbacks, self.best, last]
        cli = run_cli(spec.config, every, logger=self.logger, devices=_devices(spec.config, worker))
        self.trainer, self.model, self.data = cli.trainer, cli.model, cli.datamodule
        # Now, because the file may be edited while the network trains.
        self.code = _code(spec)

    def train_and_test(self, checkpoint: Path | None) -> None:
        """Train, from a checkpoint if there is one, and test the weights of the best epoch, unless it is a trial.

        Raises:
            RunError: If no weights were validated.
        """
        self.trainer.fit(self.model, self.data, ckpt_path=checkpoint, weights_only=True)
        if not self.curves.validated:
            raise not_validated(self.trainer.global_step)
        if not self.spec.tested:
            return
        best = self.best.best_model_path
        self.trainer.test(self.model, self.data, ckpt_path=best, weights_only=True, verbose=False)

    def answers(self) -> dict[str, Any]:
        """Arrays of one value or row a test image, after the test."""
        outputs = {name: tensor.numpy() for name, tensor in self.model.test_outputs.items()}
        images = len(outputs["labels"])  # A trainer's limit_test_batches leaves out the last ones.
        return outputs | {name: array[:images] for name, array in self.data.test_arrays().items()}

    def result(self) -> RunResult:
        """The run's record, after its test."""
        device = describe_device(self.trainer.strategy.root_device)
        devices, target_acc = self.trainer.world_size, self.spec.config.get("target_acc")
        return self.spec.result(
            "finished",
            metrics={**(self.test_metrics() if self.spec.tested else {}), **self.training_metrics()},
            best_epoch=int(self.curves.best(self.spec.config["monitor"])["epoch"]),
            train_images=self.data.images_used(self.timer.epoch_images),
            val_images=len(self.data.splits["val"]),
            test_images=len(self.model.test_outputs["labels"]) if self.spec.tested else None,
            train_epochs_s=self.timer.train_epoch_s,
            val_epochs_s=self.timer.val_epoch_s,
            target_acc_pct=None if target_acc is None else 100 * target_acc,
            contended=self.load.contended,
            device=device if devices == 1 else f"{devices} x {device}",
            precision=str(self.trainer.precision),
            versions=versions(),
            data_fingerprint=self.data.fingerprint(),
            pictures=self.data.pictures_fingerprint(),
            class_names=list(self.data.class_names),
            data=self.data.describe(),
            architecture=find_backbone(self.spec.key.backbone).architecture,
            code_fingerprint=self.code,
        )

    def test_metrics(self) -> dict[str, Metric]:
        """The loss and every metric that the model evaluated in its test: shares, as percents."""
        logged = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        shares = {
            f"{name.replace('/', '_')}_pct": Metric(100 * logged[name], "%", metric.higher_is_better)
            for name, metric in self.model.test_metrics.items()
        }
        return {**shares, **metrics_of({"test_loss": logged["test/loss"]})}

    def training_metrics(self) -> dict[str, Metric]:
        """Accuracies and times of the training, and the network's costs."""
        epochs_s, target_acc = self.timer.train_epoch_s, self.spec.config.get("target_acc")
        usual_s = usual_epoch_s(epochs_s)
        return metrics_of(
            {
                "best_val_acc_pct": 100 * self.curves.best(self.spec.config["monitor"])["val/acc"],
                "last_val_acc_pct": 100 * self.curves.validated[-1]["val/acc"],
                "train_acc_pct": 100 * next(row["train/acc"] for row in self.curves.rows[::-1] if "train/acc" in row),
                "train_epoch_s": usual_s,
                "first_epoch_s": next(iter(epochs_s), None),
                "fit_s": self.timer.fit_s,
                "precise_bn_s": precise_bn_s(self.trainer) or None,
                # From the curves: the timer does not keep a last epoch that a time limit ends early.
                "seconds_to_target": self.curves.seconds_to(target_acc) if target_acc else None,
                "images_per_s": self.timer.images_per_epoch / usual_s if usual_s else None,
                "params": count_parameters(self.model.backbone),
                "macs": count_macs(self.model.backbone, self.data.image_size),
                "training_memory_bytes": self.memory.bytes(self.trainer.strategy.root_device),
                "energy_j_per_epoch": self.timer.energy_j[-1] if self.timer.energy_j else None,
                "other_cpu_pct": self.load.other_cpu_pct,
            }
        )

    def log_hparams(self, result: RunResult) -> None:
        """Log the run as a row of TensorBoard's HPARAMS tab."""
        key, names = self.spec.key, {"recipe": self.spec.recipe or "none", "variant": self.spec.key.variant or "none"}
        names |= {} if key.fold is None else {"fold": str(key.fold)}
        names |= {} if key.train_subset is None else {"train_subset": str(key.train_subset)}
        shown = ("test_acc_pct", "best_val_acc_pct", "train_epoch_s", "params", "macs")
        self.logger.log_hyperparams(
            {"backbone": key.backbone, "seed": key.seed, **names},
            {f"final/{name}": result.value(name) for name in shown if name in result.metrics},
        )
        self.logger.save()
        self.logger.experiment.close()


def _devices(config: Config, worker: WorkerSpec) -> Any:
    """The trainer's ``devices``; if several runs share the GPUs, those of this run's slot."""
    devices = config["trainer"].get("devices", "auto")
    on_gpus = config["trainer"].get("accelerator", "auto") in ("auto", "gpu", "cuda")
    if worker.jobs > 1 and on_gpus and (gpus := torch.cuda.device_count()):
        first = worker.slot * worker.world_size
        return sorted({gpu % gpus for gpu in range(first, first + worker.world_size)})
    return 1 if devices == "auto" else devices


def exit_with_parent() -> None:
    """End this process when its parent ends: a comparison that was killed must not go on training."""
    parent = parent_process()
    if parent is not None:

        def wait_and_exit() -> None:
            connection.wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=wait_and_exit, daemon=True).start()
