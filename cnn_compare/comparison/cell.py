"""One run of a comparison, in a process of its own: train, test, store."""

from __future__ import annotations

import io
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
import numpy as np
import torch
from filelock import FileLock
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from cnn_compare.backbones import count_macs, count_parameters, find_backbone
from cnn_compare.callbacks import EpochTimer, MachineLoad, MetricsCsv, TestFigures, TextLog
from cnn_compare.checkpointing import PREVIOUS, resumable
from cnn_compare.comparison.local import Place
from cnn_compare.comparison.plan import Cell
from cnn_compare.errors import DivergedError, own_error
from cnn_compare.experiment import ExperimentCLI, checkpoints
from cnn_compare.machine import describe_device, peak_memory_bytes
from cnn_compare.module import ClassifierModule
from cnn_compare.results import RunResult, Status, write_bytes

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


def run_cell(cell: Cell, place: Place, parent: Connection | None) -> None:
    """Run a cell to its end, from its last checkpoint if there is one.

    Writes ``predictions.npz`` and, last of all, ``result.json``; what it prints goes to ``run.log``. Of a run on
    several devices, the first process does that; it tells its parent what it goes on from, which starts the others.
    """
    _die_with_parent()
    os.environ.update(place.environment())
    torch.set_num_threads(max(1, (place.threads or torch.get_num_threads() // place.jobs) // place.world_size))
    with (cell.folder / "run.log").open("a", buffering=1, encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        if parent is None:
            _train_and_test(cell, place, place.checkpoint, [])
            return
        # A run whose parent was killed an instant ago may still be ending.
        with FileLock(cell.folder / ".lock", timeout=60):
            _lead(cell, place, parent)


def _lead(cell: Cell, place: Place, parent: Connection) -> None:
    for half in cell.folder.rglob(".*.tmp"):
        half.unlink()  # Its writer was killed.
    try:
        checkpoint = resumable(cell.folder / "checkpoints")
        if place.world_size > 1:
            parent.send(checkpoint)
        result = _train_and_test(cell, place, checkpoint, [Progress(parent)])
    except Exception as error:
        logging.getLogger(__name__).exception("the run failed")
        cause = own_error(error) or error
        status: Status = "diverged" if isinstance(cause, DivergedError) else "failed"
        reason = f"{type(cause).__name__}: {cause}"
        result = RunResult(backbone=cell.backbone, seed=cell.seed, status=status, reason=reason)
    result.recipe, result.variant, result.declared = cell.recipe, cell.variant, cell.declared
    result.save(cell.folder / "result.json")


def _train_and_test(cell: Cell, place: Place, checkpoint: Path | None, callbacks: list[Callback]) -> RunResult:
    folder, config = cell.folder, cell.config
    curves = MetricsCsv(folder / "metrics.csv")
    best, last = checkpoints(folder / "checkpoints")
    timer, load = EpochTimer(), MachineLoad()
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
    cli = ExperimentCLI(
        args=config,
        run=False,
        callbacks=[timer, load, curves, TextLog(folder, "train.log"), *callbacks, TestFigures(), best, last],
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

    arrays = {name: tensor.numpy() for name, tensor in model.test_outputs.items()}
    arrays["probabilities"] = arrays["probabilities"].astype(np.float16)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    if trainer.is_global_zero:
        write_bytes(folder / "predictions.npz", buffer.getvalue())

    result = RunResult(
        backbone=cell.backbone,
        seed=cell.seed,
        status="finished",
        test_acc_pct=100 * tested["test/acc"],
        test_top5_pct=100 * tested["test/top5"],
        test_macro_f1_pct=100 * tested["test/f1"],
        test_loss=tested["test/loss"],
        best_val_acc_pct=100 * chosen["val/acc"],
        best_epoch=int(chosen["epoch"]),
        train_acc_pct=100 * curves.rows[-1]["train/acc"],
        train_images=data.train_images,
        test_images=len(model.test_outputs["labels"]),
        train_epoch_s=timer.train_epoch_s,
        first_epoch_s=next(iter(timer.train_epoch_s), None),
        val_epoch_s=timer.val_epoch_s,
        fit_s=fit_s,
        params=count_parameters(model.backbone),
        macs=count_macs(model.hparams["backbone"], data.image_size, model.num_classes, model.hparams["stem"]),
        peak_memory_bytes=peak_memory_bytes(trainer.strategy.root_device),
        energy_j_per_epoch=timer.energy_j[-1] if timer.energy_j else None,
        other_cpu_pct=load.other_cpu_pct,
        contended=load.contended,
        device=("" if trainer.world_size == 1 else f"{trainer.world_size} x ")
        + describe_device(trainer.strategy.root_device),
        precision=str(trainer.precision),
        versions=versions(),
        data_fingerprint=data.fingerprint(),
        class_names=list(data.class_names),
        architecture=find_backbone(model.hparams["backbone"]).card,
    )
    if (target_acc := config.get("target_acc")) is not None:
        accuracies = [row.get("val/acc", 0.0) for row in curves.rows]
        reached = next((index for index, accuracy in enumerate(accuracies) if accuracy >= target_acc), None)
        result.target_acc_pct = 100 * target_acc
        result.seconds_to_target = None if reached is None else sum(timer.train_epoch_s[: reached + 1])
    result.images_per_s = timer.images / result.steady_epoch_s if result.steady_epoch_s else None
    if trainer.is_global_zero:
        _log_hparams(logger, result, cell)
        (folder / "checkpoints" / PREVIOUS).unlink(missing_ok=True)
    return result


def _devices(config: dict[str, Any], place: Place) -> Any:
    """The trainer's ``devices``: as asked for, but of the GPUs those that no run beside this one has."""
    asked = config["trainer"].get("devices", "auto")
    on_gpus = config["trainer"].get("accelerator", "auto") in ("auto", "gpu", "cuda")
    if place.jobs > 1 and on_gpus and (there := torch.cuda.device_count()):
        first = place.slot * place.world_size
        return sorted({gpu % there for gpu in range(first, first + place.world_size)})
    return 1 if asked == "auto" else asked


def _log_hparams(logger: TensorBoardLogger, result: RunResult, cell: Cell) -> None:
    """The run as a row of TensorBoard's HPARAMS tab."""
    final = ("test_acc_pct", "best_val_acc_pct", "steady_epoch_s", "params", "macs")
    logger.log_hyperparams(
        {
            "backbone": cell.backbone,
            "seed": cell.seed,
            "recipe": cell.recipe or "none",
            "variant": cell.variant or "none",
        },
        {f"final/{name}": getattr(result, name) for name in final if getattr(result, name) is not None},
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
