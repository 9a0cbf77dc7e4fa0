"""Callbacks: one idea a file."""

from cnn_compare.callbacks.calm_progress_bar import CalmProgressBar
from cnn_compare.callbacks.epoch_seed import EpochSeed
from cnn_compare.callbacks.epoch_timer import EpochTimer
from cnn_compare.callbacks.last_checkpoint import LastCheckpoint
from cnn_compare.callbacks.machine_load import MachineLoad
from cnn_compare.callbacks.metrics_csv import MetricsCsv
from cnn_compare.callbacks.stop_when_diverged import StopWhenDiverged
from cnn_compare.callbacks.test_figures import TestFigures
from cnn_compare.callbacks.text_log import TextLog

__all__ = [
    "CalmProgressBar",
    "EpochSeed",
    "EpochTimer",
    "LastCheckpoint",
    "MachineLoad",
    "MetricsCsv",
    "StopWhenDiverged",
    "TestFigures",
    "TextLog",
]
