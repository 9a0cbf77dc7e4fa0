"""The state of a network, which trying the network out must not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unchanged(network: nn.Module, buffers: bool = True) -> Iterator[None]:
    """Restore a network at the end of the block, and torch's random numbers on the processor.

    Training modes, which parameters get gradients, and the values of buffers are again what they were.

    Args:
        network: May be on any device.
        buffers: False: buffers keep what the block has computed, such as batch norm's statistics.
    """
    modes = [(module, module.training) for module in network.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    values = [(buffer, buffer.clone()) for buffer in network.buffers()] if buffers else []
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, learns in learning:
            parameter.requires_grad_(learns)
        with torch.no_grad():
            for buffer, before in values:
                buffer.copy_(before)
