"""Imports of the process that runs are forked from, made once for all of them; it alone imports this module.

No thread may be started here, and so nothing computed: a forked process has only the thread that forked it.
"""

import torch.utils.tensorboard  # noqa: F401, TensorBoardLogger imports it when a run logs for the first time
from PIL import Image
from tensorboard.plugins.hparams import api_pb2  # type: ignore[import-untyped]  # noqa: F401, TensorBoardLogger imports it for the HPARAMS row

import cnn_compare.comparison.worker  # noqa: F401
from cnn_compare.experiment import run_parser

# Learns the formats, of which TensorBoard's images take one.
Image.preinit()
# Learns the arguments of the classes.
run_parser()

# DigitsDataModule imports it when it loads. Last: imported before Lightning, it would make Lightning's `int | float`
# settings `float | int`, by Python's cache of types.
import sklearn.datasets  # noqa: E402, F401
