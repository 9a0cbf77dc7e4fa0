"""What the process that runs are forked from does once for all of them; it alone imports this module.

No thread may be started here, and so nothing computed: a forked process has only the thread that forked it.
"""

import torch.utils.tensorboard  # noqa: F401, TensorBoardLogger imports it when a run logs for the first time

import cnn_compare.comparison.worker  # noqa: F401
from cnn_compare.experiment import resolve_config

# The parser keeps what it has learned of the classes' arguments.
resolve_config({})

# DigitsDataModule imports it when it loads. Last: imported before Lightning, it would make Lightning's `int | float`
# settings `float | int`, by Python's cache of types.
import sklearn.datasets  # noqa: E402, F401
