"""One run in this process: what it measures, records and sends."""

from __future__ import annotations

from datetime import datetime, timedelta
from multiprocessing import Pipe

import numpy as np
import pytest
from helpers import DATA
from sklearn.metrics import accuracy_score, hamming_loss
from torchmetrics.classification import MulticlassHammingDistance

from cnn_compare.backbones import code_fingerprint
from cnn_compare.comparison.spec import Progress, RunSpec, WorkerSpec
from cnn_compare.comparison.worker import MeasuredRun, SendProgress, discard_checkpoints_of_other_code
from cnn_compare.experiment import experiment_parser, plain_config, read_classes
from cnn_compare.files import read_json, write_bytes, write_json
from cnn_compare.results import Metric, RunFolder
from cnn_compare.run_key import RunKey


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """A function that makes a run of LeNet on a few digits, two epochs unless the trainer's options say otherwise."""

    def make(callbacks=(), **trainer) -> MeasuredRun:
        parser = experiment_parser()
        settings = {"max_epochs": 2, "accelerator": "cpu", **trainer}
        parsed = parser.parse_object({"trainer": settings, "model": {"backbone": "lenet"}, "data": DATA})
        folder = RunFolder(tmp_path_factory.mktemp("run"))
        config = {"seed_everything": 3, **read_classes(plain_config(parser, parsed))}
        spec = RunSpec(RunKey("lenet", seed=3), config, folder, "modern", declared_changes={"model.stem": "cifar"})
        return MeasuredRun(spec, WorkerSpec(), callbacks)

    return make


@pytest.fixture(scope="module")
def tested(make_run):
    """A run after its test, with one more metric than the module has."""
    run = make_run()
    run.model.test_metrics.add_metrics({"hamming": MulticlassHammingDistance(10, average="micro")})
    run.train_and_test(None)
    return run


def test_a_run_leaves_its_configuration_as_it_was_planned(make_run):
    spec = make_run().spec
    callback = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}
    spec.config["trainer"]["callbacks"] = [dict(callback)]
    MeasuredRun(spec, WorkerSpec())
    assert spec.config["trainer"]["callbacks"] == [callback]


def test_a_run_within_a_slurm_job_is_trained_as_anywhere(make_run, monkeypatch):
    slurm = {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "cnn-compare", "SLURM_JOB_ID": "7", "SLURM_PROCID": "2"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    run = make_run(max_epochs=1)
    run.train_and_test(None)
    assert (run.result().status, run.trainer.world_size) == ("finished", 1)


def test_every_metric_of_the_module_is_recorded_with_its_direction(tested):
    metrics = tested.test_metrics()
    labels, predictions = (tested.model.test_outputs[name].numpy() for name in ("labels", "predictions"))
    assert metrics["test_hamming_pct"] == Metric(
        pytest.approx(100 * hamming_loss(labels, predictions)), "%", larger_is_better=False
    )
    assert metrics["test_acc_pct"] == Metric(
        pytest.approx(100 * accuracy_score(labels, predictions)), "%", larger_is_better=True
    )
    assert metrics["test_loss"].unit == "nats"
    names = {name.removeprefix("test/") for name in tested.model.test_metrics}
    assert metrics.keys() == {"test_loss", *(f"test_{name}_pct" for name in names)}


def test_a_result_says_what_was_planned_and_what_came_of_it(tested):
    result = tested.result()
    assert (result.status, result.backbone, result.seed, result.recipe) == ("finished", "lenet", 3, "modern")
    assert result.declared_changes == {"model.stem": "cifar"}
    assert result.code_fingerprint == code_fingerprint("lenet", 10, "imagenet")
    assert timedelta(0) <= datetime.now().astimezone() - datetime.fromisoformat(result.finished_at) < timedelta(hours=1)
    accuracies = [row["val/acc"] for row in tested.curves.rows]
    assert result.best_epoch == int(np.argmax(accuracies))
    assert result.value("best_val_acc_pct") == 100 * max(accuracies)
    assert result.value("last_val_acc_pct") == 100 * accuracies[-1]
    assert (result.value("train_epoch_s"), result.value("first_epoch_s")) == (
        result.train_epochs_s[1],
        result.train_epochs_s[0],
    )


def test_a_stopped_run_goes_on_from_checkpoints_of_the_same_code_only(make_run):
    spec = make_run().spec
    checkpoint = spec.folder.checkpoints / "last.ckpt"
    for same in (True, False):
        write_bytes(checkpoint, b"")
        code = code_fingerprint("lenet", 10, "imagenet")
        write_json(spec.folder.code, code if same else {**code, "file": "another"})
        discard_checkpoints_of_other_code(spec)
        assert checkpoint.exists() == same
        assert read_json(spec.folder.code) == code


def test_a_target_reached_in_an_epoch_that_a_time_limit_ends_has_its_time(tested, monkeypatch):
    rows = [
        {"epoch": 0, "val/acc": 0.0, "train/acc": 0.1, "time/train_epoch_s": 2.0},
        {"epoch": 1, "val/acc": 0.5, "train/acc": 0.1, "time/train_epoch_s": 1.0},
    ]
    monkeypatch.setitem(tested.spec.config, "target_acc", 0.5)
    monkeypatch.setattr(tested.curves, "rows", rows)
    monkeypatch.setattr(tested.timer, "train_epoch_s", [2.0])  # The timer counts whole epochs.
    assert tested.training_metrics()["seconds_to_target"].value == 3.0


@pytest.mark.parametrize(("monitor", "epoch"), [("val/acc", 1), ("val/loss", 2)])
def test_the_best_epoch_is_the_first_best_of_the_monitored_metric(tested, monkeypatch, monitor, epoch):
    nan = float("nan")
    curves = zip([nan, 0.5, 0.5, 0.4, nan], [nan, 3.0, 2.0, 2.0, nan], strict=True)
    rows = [{"epoch": e, "val/acc": a, "val/loss": loss, "train/acc": 0.1} for e, (a, loss) in enumerate(curves)]
    monkeypatch.setitem(tested.spec.config, "monitor", monitor)
    monkeypatch.setattr(tested.curves, "rows", rows)
    assert tested.result().best_epoch == epoch
    assert tested.result().value("best_val_acc_pct") == 50


def test_progress_is_sent_about_a_hundred_times_an_epoch_and_ends_at_the_whole_training(make_run):
    receiver, sender = Pipe(duplex=False)
    run = make_run([SendProgress(sender)])
    run.trainer.fit(run.model, run.data)
    messages = []
    while receiver.poll():
        messages.append(receiver.recv())
    assert messages == [Progress(epoch, (3 * epoch + step) / 6) for epoch in (0, 1) for step in (1, 2, 3)]
