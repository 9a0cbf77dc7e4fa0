"""Compare CNN backbones under controlled conditions.

The public names stand in ``__init__.pyi`` and are imported at first use: ``import cnn_compare`` loads no torch.
"""

from lazy_loader import attach_stub

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
