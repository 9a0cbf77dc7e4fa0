"""One run of a comparison, in a process of its own: train, test, store."""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
from importlib import metadata
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from cnn_compare.backbones import count_macs, count_parameters, find_backbone
from cnn_compare.callbacks import ConfusionFigures, EpochTimer, MachineLoad, MetricsCsv, TextLog
from cnn_compare.checkpointing import resumable
from cnn_compare.comparison.spec import RunSpec, WorkerSpec
from cnn_compare.errors import DivergedError, own_error
from cnn_compare.experiment import ExperimentCLI, checkpoints
from cnn_compare.machine import describe_device, peak_memory_bytes
from cnn_compare.module import ClassifierModule
from cnn_compare.results import RunResult, Status, first_reached, measured, usual_epoch_s

PACKAGES = ("cnn-compare", "torch", "torchvision", "lightning", "torchmetrics", "numpy", "jsonargparse")


class Progress(Callback):
    """Tell the parent how far the run is: the epoch, counted from 0, and the share of the training that is done."""

    def __init__(self, parent: Connection) -> None:
        self.parent = parent

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """About a hundred messages an epoch."""
        batches = int(trainer.num_training_batches)
        if batch_idx % max(1, batches // 100) == 0:
            assert isinstance(pl_module, ClassifierModule)
            self.parent.send((trainer.current_epoch, trainer.global_step / pl_module.total_steps()))


def run_worker(spec: RunSpec, place: WorkerSpec, parent: Connection | None) -> None:
    """Run a spec to its end, from its last checkpoint if there is one.

    Writes ``predictions.npz`` and, last of all, ``result.json``; what it prints goes to ``run.log``. Of a run on
    several devices, the first process does that; it tells its parent what it goes on from, which starts the others.
    """
    _die_with_parent()
    os.environ.update(place.environment())
    torch.set_num_threads(max(1, (place.threads or torch.get_num_threads() // place.jobs) // place.world_size))
    with spec.folder.log.open("a", buffering=1, encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        if parent is None:
            _train_and_test(spec, place, place.checkpoint, [])
            return
        # A run whose parent was killed an instant ago may still be ending.
        with FileLock(spec.folder.lock, timeout=60):
            _lead(spec, place, parent)


def _lead(spec: RunSpec, place: WorkerSpec, parent: Connection) -> None:
    for half in spec.folder.path.rglob(".*.tmp"):
        half.unlink()  # Its writer was killed.
    try:
        checkpoint = resumable(spec.folder.checkpoints)
        if place.world_size > 1:
            parent.send(checkpoint)
        result = _train_and_test(spec, place, checkpoint, [Progress(parent)])
    except Exception as error:
        logging.getLogger(__name__).exception("the run failed")
        cause = own_error(error) or error
        status: Status = "diverged" if isinstance(cause, DivergedError) else "failed"
        reason = f"{type(cause).__name__}: {cause}"
        result = RunResult(backbone=spec.backbone, seed=spec.seed, status=status, reason=reason)
    result.recipe, result.variant, result.declared_changes = spec.recipe, spec.variant, spec.declared_changes
    spec.folder.save_result(result)


def _train_and_test(spec: RunSpec, place: WorkerSpec, checkpoint: Path | None, callbacks: list[Callback]) -> RunResult:
    folder, config = spec.folder.path, spec.config
    curves = MetricsCsv(folder / "metrics.csv")
    best, last = checkpoints(folder / "checkpoints")
    timer, load = EpochTimer(), MachineLoad()
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
    cli = ExperimentCLI(
        args=config,
        run=False,
        callbacks=[timer, load, curves, TextLog(folder, "train.log"), *callbacks, ConfusionFigures(), best, last],
        logger=logger,
        devices=_devices(config, place),
        # Also within a job of SLURM's, whose processes are not those of this run.
        plugins=config["trainer"].get("plugins") or [LightningEnvironment()],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    fit_s = timer.fit_s
    chosen = max((row for row in curves.rows if "val/acc" in row), key=lambda row: row["val/acc"])
    trainer.test(model, data, ckpt_path=best.best_model_path, weights_only=True, verbose=False)
    tested = {name: float(value) for name, value in trainer.callback_metrics.items()}

    if trainer.is_global_zero:
        spec.folder.save_predictions(**{name: tensor.numpy() for name, tensor in model.test_outputs.items()})
    usual = usual_epoch_s(timer.train_epoch_s)
    values = {
        "test_acc_pct": 100 * tested["test/acc"],
        "test_top5_pct": 100 * tested["test/top5"],
        "test_macro_f1_pct": 100 * tested["test/f1"],
        "test_loss": tested["test/loss"],
        "best_val_acc_pct": 100 * chosen["val/acc"],
        "train_acc_pct": 100 * curves.rows[-1]["train/acc"],
        "train_epoch_s": usual,
        "first_epoch_s": next(iter(timer.train_epoch_s), None),
        "fit_s": fit_s,
        "images_per_s": timer.images / usual if usual else None,
        "params": count_parameters(model.backbone),
        "macs": count_macs(model.hparams["backbone"], data.image_size, model.num_classes, model.hparams["stem"]),
        "peak_memory_bytes": peak_memory_bytes(trainer.strategy.root_device),
        "energy_j_per_epoch": timer.energy_j[-1] if timer.energy_j else None,
        "other_cpu_pct": load.other_cpu_pct,
    }
    target_acc = config.get("target_acc")
    if target_acc is not None:
        accuracies = [row.get("val/acc", 0.0) for row in curves.rows]
        values["seconds_to_target"] = first_reached(accuracies, timer.train_epoch_s, target_acc)
    result = RunResult(
        backbone=spec.backbone,
        seed=spec.seed,
        status="finished",
        metrics=measured(values),
        best_epoch=int(chosen["epoch"]),
        train_images=data.train_images,
        test_images=len(model.test_outputs["labels"]),
        train_epochs_s=timer.train_epoch_s,
        val_epochs_s=timer.val_epoch_s,
        target_acc_pct=None if target_acc is None else 100 * target_acc,
        contended=load.contended,
        device=("" if trainer.world_size == 1 else f"{trainer.world_size} x ")
        + describe_device(trainer.strategy.root_device),
        precision=str(trainer.precision),
        versions=versions(),
        data_fingerprint=data.fingerprint(),
        class_names=list(data.class_names),
        architecture=find_backbone(model.hparams["backbone"]).architecture,
    )
    if trainer.is_global_zero:
        _log_hparams(logger, result, spec)
        (spec.folder.checkpoints / spec.folder.PREVIOUS).unlink(missing_ok=True)
    return result


def _devices(config: dict[str, Any], place: WorkerSpec) -> Any:
    """The trainer's ``devices``: as asked for, but of the GPUs those that no run beside this one has."""
    asked = config["trainer"].get("devices", "auto")
    on_gpus = config["trainer"].get("accelerator", "auto") in ("auto", "gpu", "cuda")
    if place.jobs > 1 and on_gpus and (there := torch.cuda.device_count()):
        first = place.slot * place.world_size
        return sorted({gpu % there for gpu in range(first, first + place.world_size)})
    return 1 if asked == "auto" else asked


def _log_hparams(logger: TensorBoardLogger, result: RunResult, spec: RunSpec) -> None:
    """The run as a row of TensorBoard's HPARAMS tab."""
    final = ("test_acc_pct", "best_val_acc_pct", "train_epoch_s", "params", "macs")
    logger.log_hyperparams(
        {
            "backbone": spec.backbone,
            "seed": spec.seed,
            "recipe": spec.recipe or "none",
            "variant": spec.variant or "none",
        },
        {f"final/{name}": result.value(name) for name in final if name in result.metrics},
    )
    logger.save()
    logger.experiment.close()


def _die_with_parent() -> None:
    """End this process when the one that asked for it is gone: nobody goes on training in a killed comparison."""
    parent = parent_process()
    if parent is not None:

        def wait() -> None:
            connection.wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def versions() -> dict[str, str]:
    """Of Python and of every package that can change a result."""
    return {"python": platform.python_version(), **{package: metadata.version(package) for package in PACKAGES}}
