"""Which epoch's weights are kept, and when training ends: `BestCheckpoint`, `FitSummary`, `StopWithoutProgress`."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from cnn_compare import ClassifierModule, DigitsDataModule
from cnn_compare.callbacks import BestCheckpoint, EpochTimer, FitSummary, StopWithoutProgress
from cnn_compare.errors import InvalidValueError

NAN = math.nan
CURVES = [
    ("val/acc", [0.1, 0.4, 0.4, 0.3], 1),
    ("val/acc", [NAN, 0.4, NAN, 0.5], 3),
    ("val/acc", [0.1, NAN, 0.05, NAN], 0),
    ("val/loss", [3.0, 2.0, 2.5, 1.5], 3),
    ("val/loss", [NAN, NAN, 2.5, 2.5], 2),
    ("val/loss", [1.0, NAN, 2.0, -math.inf], 3),
    ("val/balanced_acc", [0.2, 0.3, 0.1, NAN], 1),
]


@pytest.mark.parametrize(("monitor", "values", "best"), CURVES)
def test_the_first_epoch_with_the_best_value_is_kept_and_nan_is_never_it(
    train, script, tmp_path, capsys, monitor, values, best
):
    script(monitor, values)
    callbacks = [EpochTimer(), FitSummary(monitor), BestCheckpoint(tmp_path, monitor)]
    train(*callbacks, epochs=4, enable_checkpointing=True, seconds={"step": 1})
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == best
    assert f"best epoch: {best + 1} of 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("monitor", "values", "epochs"),
    [
        ("val/acc", [0.2, 0.3, 0.3, 0.1], 4),
        ("val/acc", [0.2, 0.1, 0.2, 0.3], 3),
        ("val/loss", [2.0, 2.1, 2.2, 0.0], 3),
        ("val/loss", [2.0, NAN, NAN, 1.0], 3),
        ("val/loss", [2.0, NAN, 1.0, 2.0], 4),
    ],
)
def test_training_ends_after_two_epochs_without_a_better_value(train, script, monitor, values, epochs):
    script(monitor, values)
    assert train(StopWithoutProgress(monitor, patience=2), epochs=4).current_epoch == epochs


def test_a_patience_of_no_epoch_is_refused():
    with pytest.raises(InvalidValueError, match="patience must be at least 1, or null for no early stopping, and is 0"):
        StopWithoutProgress("val/acc", 0)


@pytest.mark.parametrize("weights_only", [True, False])
def test_the_averaged_weights_that_were_validated_are_the_ones_kept(make_trainer, tmp_path, weights_only):
    module = ClassifierModule("lenet", optimizer=partial(torch.optim.SGD, lr=0.5))
    data = DigitsDataModule(train_subset=120, batch_size=40, val_size=50)
    kept = ModelCheckpoint(tmp_path, "kept", save_weights_only=weights_only)
    trainer = make_trainer(callbacks=[EMAWeightAveraging(decay=0.9), kept], enable_checkpointing=True)
    trainer.fit(module, data)
    logged = trainer.callback_metrics["val/loss"].item()
    loaded = ClassifierModule.load_from_checkpoint(tmp_path / "kept.ckpt")
    (validated,) = make_trainer().validate(loaded, data, verbose=False)
    assert validated["val/loss"] == pytest.approx(logged, rel=1e-6)


def test_a_checkpoint_of_the_users_own_may_watch_the_same_metric(train, script, tmp_path, make_trainer):
    """Lightning refuses callbacks whose states have one name, and each must find its own again."""
    script("val/acc", [0.1, 0.4, 0.3])
    callbacks = [BestCheckpoint(tmp_path), ModelCheckpoint(tmp_path / "own", "own", "val/acc", mode="max")]
    train(*callbacks, ModelCheckpoint(tmp_path, "all"), epochs=2, enable_checkpointing=True)
    content = torch.load(tmp_path / "all.ckpt", weights_only=True)
    for callback in callbacks:
        assert content["callbacks"][callback.state_key]["best_model_path"] == callback.best_model_path
