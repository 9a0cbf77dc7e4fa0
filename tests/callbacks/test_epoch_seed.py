from __future__ import annotations

import pytest
import torch
from lightning import seed_everything

from cnn_compare.callbacks import EpochSeed


@pytest.fixture
def dropped(train):
    """A function that trains and gives what each epoch's dropout left, ``(3 steps, 50)``."""

    def run(*callbacks, seed=0, generator_at=0, **options):
        seed_everything(seed, verbose=False)
        torch.manual_seed(generator_at)
        module = train(*callbacks, **options).lightning_module
        return {epoch: torch.stack(steps) for epoch, steps in module.dropped.items()}

    return run


@pytest.mark.parametrize("callbacks", [[EpochSeed()], []], ids=["with EpochSeed", "without"])
def test_a_resumed_training_drops_the_units_that_an_uninterrupted_one_drops(dropped, callbacks):
    whole = dropped(*callbacks)
    dropped(*callbacks, killed_in=2)
    rest = dropped(*callbacks, generator_at=99, resume=True)
    assert list(rest) == [2]
    # Without the callback it does not: the comparison can tell.
    assert torch.equal(rest[2], whole[2]) is bool(callbacks)


def test_every_step_every_epoch_and_every_seed_drops_others(dropped):
    first, second = dropped(EpochSeed(), seed=0), dropped(EpochSeed(), seed=1)
    steps = [tuple(step.tolist()) for run in (first, second) for epoch in run.values() for step in epoch]
    assert len(set(steps)) == len(steps) == 2 * 3 * 3
