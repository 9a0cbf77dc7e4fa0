from .backbones import build_backbone as build_backbone
from .backbones import list_backbones as list_backbones
from .backbones import register_backbone as register_backbone
from .callbacks import EpochTimer as EpochTimer
from .callbacks import PreciseBatchNorm as PreciseBatchNorm
from .callbacks import TextLog as TextLog
from .comparison.compare import compare as compare
from .data import CIFAR10DataModule as CIFAR10DataModule
from .data import DigitsDataModule as DigitsDataModule
from .data import FolderDataModule as FolderDataModule
from .data import ImageDataModule as ImageDataModule
from .data import TorchvisionDataModule as TorchvisionDataModule
from .inference.classifier import Classifier as Classifier
from .inference.export import export as export
from .module import ClassifierModule as ClassifierModule
from .report import load_results as load_results
from .report import write_report as write_report
from .schedules import WarmupCosine as WarmupCosine

__version__: str
