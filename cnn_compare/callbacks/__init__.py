"""Callbacks: what measures, stores and ends a training."""

from cnn_compare.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from cnn_compare.callbacks.epoch_seed import EpochSeed
from cnn_compare.callbacks.epoch_timer import EpochTimer
from cnn_compare.callbacks.fit_progress import FitProgress
from cnn_compare.callbacks.fit_summary import FitSummary, not_validated
from cnn_compare.callbacks.machine_load import MachineLoad
from cnn_compare.callbacks.metrics_csv import MetricsCsv
from cnn_compare.callbacks.precise_batch_norm import PreciseBatchNorm, precise_bn_s
from cnn_compare.callbacks.stopping import StopWhenDiverged, StopWithoutProgress
from cnn_compare.callbacks.text_log import TextLog

__all__ = [
    "BestCheckpoint",
    "EpochSeed",
    "EpochTimer",
    "FitProgress",
    "FitSummary",
    "LastCheckpoint",
    "MachineLoad",
    "MetricsCsv",
    "PreciseBatchNorm",
    "StopWhenDiverged",
    "StopWithoutProgress",
    "TextLog",
    "not_validated",
    "precise_bn_s",
]
