"""The identity of a run: the only file that knows how runs and their folders are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_LABEL = re.compile(
    r"(?P<backbone>.+?)(\+(?P<variant>[^/]+))?(/train_(?P<train_subset>\d+))?/(?P<seed>\d+)(/(?P<fold>\d+))?"
)


@dataclass(frozen=True)
class RunKey:
    """One run of a comparison.

    Args:
        backbone: Its name in the registry, or ``module:callable``.
        variant: None if the comparison has no variants.
        train_subset: Number of training images, where the comparison varies it; else None.
        seed: The run's ``seed_everything``.
        fold: The fold that is tested; None without cross-validation.
    """

    backbone: str
    variant: str | None = None
    train_subset: int | None = None
    seed: int = 0
    fold: int | None = None

    @property
    def network(self) -> str:
        """Backbone and variant, as reports call them: ``resnet18 (cifar)``."""
        return self.backbone if self.variant is None else f"{self.backbone} ({self.variant})"

    @property
    def label(self) -> str:
        """The run's name in commands and messages: ``lenet/0``, ``lenet+flat/train_500/0``, ``lenet/0/2`` of fold 2."""
        return self._joined(self.backbone, str(self.seed), "" if self.fold is None else str(self.fold))

    @property
    def path(self) -> PurePosixPath:
        """The run's folder within the comparison's: ``lenet+flat/train_500/seed_0/fold_2``."""
        fold = "" if self.fold is None else f"fold_{self.fold}"
        return PurePosixPath(self._joined(path_name(self.backbone), f"seed_{self.seed}", fold))

    @classmethod
    def parse(cls, label: str) -> RunKey:
        """The key whose label this is.

        Raises:
            ValueError: If it is none.
        """
        if (parts := _LABEL.fullmatch(label)) is None:
            raise ValueError(f"{label!r} is not of the form backbone/seed")
        numbers = {name: None if parts[name] is None else int(parts[name]) for name in ("train_subset", "fold")}
        return cls(parts["backbone"], parts["variant"], seed=int(parts["seed"]), **numbers)

    def _joined(self, backbone: str, seed: str, fold: str) -> str:
        network = f"{backbone}+{self.variant}" if self.variant else backbone
        subset = "" if self.train_subset is None else f"train_{self.train_subset}"
        return "/".join(filter(None, (network, subset, seed, fold)))


def path_name(backbone: str) -> str:
    """A backbone's name as the name of one folder: ``timm/resnet26`` becomes ``timm_resnet26``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", backbone).lstrip(".")


def run_paths(comparison: Path, holding: str) -> list[Path]:
    """Folders of a comparison's runs that hold a file of that name, trials of a search left out."""
    patterns = (f"*/seed_*/{holding}", f"*/seed_*/fold_*/{holding}", f"*/train_*/seed_*/{holding}")
    return [path.parent for pattern in patterns for path in sorted(comparison.glob(pattern))]


def network_paths(comparison: Path, backbone: str) -> list[Path]:
    """Folders of a backbone in a comparison, one a variant."""
    name = path_name(backbone)
    return [path for path in comparison.iterdir() if path.is_dir() and path.name.partition("+")[0] == name]


def is_run_path(path: Path) -> bool:
    """Whether a comparison calls the folder of a run so; `fit` does not."""
    return path.name.startswith(("seed_", "fold_"))


def comparison_of(run: Path) -> Path | None:
    """The comparison's folder above a run's folder; None where the folder is not called as a run's."""
    for name in ("fold_", "seed_", "train_"):
        if run.name.startswith(name):
            run = run.parent
        elif name == "seed_":
            return None
    return run.parent
