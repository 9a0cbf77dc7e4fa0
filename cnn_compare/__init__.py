"""Compare CNN backbones under controlled conditions.

The public names are imported when first used: ``import cnn_compare`` alone loads neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnn_compare.backbones import build_backbone, list_backbones, register_backbone
    from cnn_compare.callbacks import EpochTimer, TextLog
    from cnn_compare.comparison.compare import compare
    from cnn_compare.data import CIFAR10DataModule, DigitsDataModule, ImageDataModule
    from cnn_compare.module import ClassifierModule, WarmupCosine
    from cnn_compare.report import load_results, write_report

__version__ = "0.1.0"

_HOMES = {
    "CIFAR10DataModule": "data",
    "ClassifierModule": "module",
    "DigitsDataModule": "data",
    "EpochTimer": "callbacks",
    "ImageDataModule": "data",
    "TextLog": "callbacks",
    "WarmupCosine": "module",
    "build_backbone": "backbones",
    "compare": "comparison.compare",
    "list_backbones": "backbones",
    "load_results": "report",
    "register_backbone": "backbones",
    "write_report": "report",
}
__all__ = [
    "CIFAR10DataModule",
    "ClassifierModule",
    "DigitsDataModule",
    "EpochTimer",
    "ImageDataModule",
    "TextLog",
    "WarmupCosine",
    "build_backbone",
    "compare",
    "list_backbones",
    "load_results",
    "register_backbone",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
