"""Callbacks, one a file."""

from cnn_compare.callbacks.best_checkpoint import BestCheckpoint
from cnn_compare.callbacks.epoch_seed import EpochSeed
from cnn_compare.callbacks.epoch_timer import EpochTimer
from cnn_compare.callbacks.fit_summary import FitSummary, not_validated
from cnn_compare.callbacks.last_checkpoint import LastCheckpoint
from cnn_compare.callbacks.machine_load import MachineLoad
from cnn_compare.callbacks.metrics_csv import MetricsCsv
from cnn_compare.callbacks.precise_batch_norm import PreciseBatchNorm, precise_bn_s
from cnn_compare.callbacks.stop_when_diverged import StopWhenDiverged
from cnn_compare.callbacks.stop_without_progress import StopWithoutProgress
from cnn_compare.callbacks.text_log import TextLog
from cnn_compare.callbacks.throttled_progress_bar import ProgressLines, ThrottledProgressBar, progress

__all__ = [
    "BestCheckpoint",
    "EpochSeed",
    "EpochTimer",
    "FitSummary",
    "LastCheckpoint",
    "MachineLoad",
    "MetricsCsv",
    "PreciseBatchNorm",
    "ProgressLines",
    "StopWhenDiverged",
    "StopWithoutProgress",
    "TextLog",
    "ThrottledProgressBar",
    "not_validated",
    "precise_bn_s",
    "progress",
]
