"""The common part of all image data: splits, loaders, and the preparation of pixels for a network."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import os
import sys
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from cnn_compare.data import augment
from cnn_compare.data.augment import Augmentation, Step
from cnn_compare.data.loaded import as_tensors
from cnn_compare.data.order import Batch, EpochSampler, FetchingAhead, ResidentDataset, shard_size
from cnn_compare.data.splits import Indices, count_of, cut, fold_of, require_room, require_size, take
from cnn_compare.errors import InvalidValueError

Normalization = Literal["half", "cifar10", "imagenet", "own"] | list[list[float]]
LoadedSplit = Literal["train", "test"]

SPLIT_SEED = 42

MeanStd = tuple[tuple[float, ...], tuple[float, ...]]
MEAN_STD: dict[str, MeanStd] = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

# Lightning advises workers for data that is read from files; these images are in memory, and workers would copy them.
warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
# Lightning warns of torch's sampler, which repeats images to make shards equal; `EpochSampler` marks repeated images.
warnings.filterwarnings("ignore", "Using `DistributedSampler` with the dataloaders")


def require(option: str, value: object, holds: bool, expected: str, *mentioned: str) -> None:
    """Check an option of a data module; ``mentioned`` are others that the message names.

    Raises:
        InvalidValueError: If it does not hold.
    """
    if not holds:
        raise InvalidValueError(f"data.{option}", value, expected, [f"data.{name}" for name in mentioned])


def global_seed() -> int:
    """The seed of Lightning's ``seed_everything``, which leaves it in the environment; 0 where it was not called."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def _keeping_arguments(init: Any) -> Any:
    """Wrap a constructor so that the object keeps what it was made with; the most derived one is called first."""

    @functools.wraps(init)
    def keeping(self: ImageDataModule, *arguments: Any, **options: Any) -> None:
        if "_arguments" not in vars(self):
            self._arguments = arguments, options
        init(self, *arguments, **options)

    return keeping


class ImageDataModule(L.LightningDataModule):
    """Images in memory, split, then augmented and normalised a batch at a time on the training device.

    A subclass provides the images: `load` and `class_names`. The network gets batches
    ``(images (B, 3, S, S) float32 channels-last, labels (B,) int64)``.

    Args:
        batch_size: Images a step, of all devices together: two devices get half of each batch. A single image that
            would be left over joins the last batch.
        val_size: Validation images, cut from the training set with the same share of every class, and at least one:
            their number, or as a float below 1 their share; None: the class's ``usual_val_size``.
        split_seed: Decides which images are for validation, in a ``fold``, and in a ``train_subset``; nothing else.
        seed: Seed of batch order and augmentation; None: that of ``seed_everything``, else 0.
        normalization: ``half``: mean and std 0.5; ``cifar10``, ``imagenet``: those of the data set of that name;
            ``own``: those of these training images in the size that the network gets; or ``[mean, std]``, three numbers
            each, for pixels from 0 to 1.
        augmentation: For training images, a list of steps in their order: ``flip``: mirror an image with probability
            0.5; ``crop``: shift by up to 4 pixels; ``resized_crop``: take a random part of 8 to 100 % of the image, as
            torchvision's ``RandomResizedCrop``; ``color_jitter``: change brightness, contrast and saturation by up to
            40 %, rounding once, where torchvision cuts off fractions thrice; ``cutout``: zero a square of 16 pixels. Or
            a word: ``none``, ``flip``, ``crop_flip``, ``crop_flip_cutout``.
        image_size: Height and width of the network's input, in pixels.
        train_subset: Number of training images to use, with the same share of every class; None: all.
        on_device: Keep the images in the accelerator's memory; None: if they fit into a tenth of it.
        fold: ``[k, n]``, for cross-validation: all images there are, also those of a test set that the data has, are
            cut into n folds by ``split_seed``; those of fold k, from 0, are tested, and the others are for training and
            validation. Folds have the same share of every class, and no two have a group in common. None: no folds.

    Raises:
        InvalidValueError: If a number is not positive, or the splits are larger than the data.
        DataError: If a class has too few images to be in training and validation, or in every fold.
        DataError: If what ``load`` returns cannot be used.
    """

    class_names: tuple[str, ...]
    usual_val_size: int | float = 0.1
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    @_keeping_arguments
    def __init__(
        self,
        batch_size: int = 128,
        val_size: int | float | None = None,
        split_seed: int = SPLIT_SEED,
        seed: int | None = None,
        normalization: Normalization = "half",
        augmentation: Augmentation = "none",
        image_size: int = 32,
        train_subset: int | None = None,
        on_device: bool | None = None,
        fold: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        # Not the signature's default: the command line would carry one data set's default over to another's.
        val_size = self.usual_val_size if val_size is None else val_size
        require_size("data.val_size", val_size)
        require("batch_size", batch_size, batch_size >= 1, "at least 1")
        require("image_size", image_size, image_size >= 1, "at least 1")
        some = train_subset is None or train_subset >= 1
        require("train_subset", train_subset, some, "at least 1, or null for all images")
        for option, value in {"split_seed": split_seed, "seed": seed or 0}.items():
            # NumPy's generators take larger ones apart, into the numbers of others.
            require(option, value, 0 <= value < 2**32, f"from 0 to {2**32 - 1}")
        number = fold is None or (len(fold) == 2 and 0 <= fold[0] < fold[1] and fold[1] > 1)
        expected = "[k, n]: the number of the fold, from 0, and how many folds there are, at least 2"
        require("fold", fold and [*fold], number, expected)
        self._steps = augment.steps_of(augmentation)
        self._mean_std = known_mean_std(normalization)
        self.batch_size, self.val_size, self.split_seed = batch_size, val_size, split_seed
        self.normalization, self.augmentation, self.image_size = normalization, augmentation, image_size
        self.train_subset, self.on_device, self.fold = train_subset, on_device, fold
        self.seed = global_seed() if seed is None else seed
        self._splits: dict[str, ResidentDataset] = {}
        self._sampler: EpochSampler | None = None
        self._draws: tuple[int, dict[Step, Tensor]] | None = None
        self._fingerprints: dict[str, str] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep the arguments of the most derived constructor, for `config`."""
        super().__init_subclass__(**options)
        # A ``__new__`` would hide the constructor's arguments from the command line.
        if "__init__" in vars(cls):
            cls.__init__ = _keeping_arguments(cls.__init__)  # type: ignore[method-assign]

    def config(self) -> dict[str, Any]:
        """``class_path`` and ``init_args``, from which other processes make this data module again.

        Raises:
            InvalidValueError: If other processes cannot import the class, an argument is no plain value, or an
                attribute was changed later.
        """
        cls = type(self)
        arguments, given = self._arguments
        module = _importable_from(cls)
        if module is None:
            expected = "of a class at the top of a file that can be imported, because each run imports it anew"
            raise InvalidValueError("data", f"{cls.__module__}.{cls.__qualname__}", expected)
        bound = inspect.signature(cls.__init__).bind(self, *arguments, **given)
        init_args: dict[str, Any] = {}
        for parameter, value in list(bound.arguments.items())[1:]:
            kind = bound.signature.parameters[parameter].kind
            init_args |= value if kind is inspect.Parameter.VAR_KEYWORD else {parameter: value}
        for option, value in init_args.items():
            try:
                init_args[option] = json.loads(json.dumps(value, default=os.fspath))
            except TypeError:
                expected = "a plain value, as in a YAML file"
                raise InvalidValueError(f"data.{option}", type(value).__name__, expected) from None
        again = vars(cls(*arguments, **given))
        for option in list(inspect.signature(ImageDataModule.__init__).parameters)[1:]:
            if (value := getattr(self, option)) != again[option] and (option, init_args.get(option)) != ("seed", None):
                raise InvalidValueError(f"data.{option}", value, f"{again[option]!r}, as it was made with")
        return {"class_path": f"{module}.{cls.__name__}", "init_args": init_args}

    @property
    def num_classes(self) -> int:
        """Number of classes, the length of ``class_names``."""
        return len(self.class_names)

    @property
    def preparation(self) -> dict[str, Any]:
        """The record for checkpoints, whose networks are to get the same split, prepared in the same way; plain values.

        Once they are known: ``mean_std``, and ``stored_size``, the side of the images in memory, or height and width.
        """
        known: dict[str, Any] = {}
        if self._mean_std is not None:
            known["mean_std"] = [list(part) for part in self._mean_std]
        if self._splits:
            height, width = next(iter(self._splits.values())).images.shape[1:3]
            known["stored_size"] = height if height == width else [height, width]
        return {
            "class_path": f"{type(self).__module__}.{type(self).__qualname__}",
            "image_size": self.image_size,
            # The numbers behind ``own``, so that nobody needs the training images to prepare others.
            "normalization": [list(part) for part in self._mean_std]
            if self.normalization == "own" and self._mean_std
            else self.normalization,
            "val_size": self.val_size,
            "split_seed": self.split_seed,
            "fold": self.fold and list(self.fold),
            "class_names": list(self.class_names),
            **known,
        }

    @property
    def mean_std(self) -> MeanStd:
        """Mean and standard deviation of each channel for pixels from 0 to 1, with which images are normalised.

        With ``normalization="own"`` and no checkpoint that holds them, the training images are loaded for it.
        """
        if self._mean_std is None:
            self.setup("fit")
        assert self._mean_std is not None, 'setup("fit") computes them'
        return self._mean_std

    @property
    def train_class_images(self) -> list[int]:
        """Number of training images of each class; known after ``setup("fit")``."""
        train = self._splits["train"]
        return torch.bincount(train.labels[train.subset], minlength=self.num_classes).tolist()

    def images_used(self, counts: Sequence[int]) -> int:
        """Number of different training images in epochs that each used the first ``counts`` of its order."""
        images = len(self._splits["train"])
        sampler, used = EpochSampler(images, self.seed), np.zeros(images, bool)
        for epoch, count in enumerate(counts):
            sampler.set_epoch(epoch)
            used[sampler.order()[:count]] = True
            if used.all():
                break
        return int(used.sum())

    @property
    def splits(self) -> Mapping[str, ResidentDataset]:
        """The images for ``train``, ``val`` and ``test``; what is not loaded yet is loaded."""
        self.setup("fit")
        self.setup("test")
        return self._splits

    def image_name(self, split: str, row: int) -> str:
        """The name of an image; ``row`` is its place in what `load` returns, with a fold among all images."""
        if self.fold is not None:
            return f"image {row}"
        return f"{'test' if split == 'test' else 'training'} image {row}"

    @abstractmethod
    def load(self, split: LoadedSplit) -> tuple[Tensor, Tensor]:
        """All images ``(N, H, W, 3)`` uint8 and labels ``(N,)`` int64 of a split.

        Grey images, channels first, floats and NumPy arrays are converted where their meaning is clear; see
        `as_tensors`.
        """

    def setup(self, stage: str) -> None:
        """Load the training set for ``fit`` and ``validate``, else the test set."""
        loaded: LoadedSplit = "train" if stage in ("fit", "validate") else "test"
        if loaded not in self._splits:
            self._splits |= self._make_splits(loaded)
        if "train" in self._splits and self._mean_std is None:
            images = self._splits["train"]
            self._mean_std = augment.mean_and_std(images.images, images.subset, self.image_size)

    def _make_splits(self, loaded: LoadedSplit) -> dict[str, ResidentDataset]:
        """The splits that are cut from what `load` returns, by name; with a fold, all three of them at once."""
        if self.fold is None:
            images, labels = self._load(loaded)
            if loaded == "test":
                return {"test": ResidentDataset(images, labels)}
            tested = np.zeros(len(labels), bool)
        else:
            parts = [self._load("train"), self._load("test")]
            if len({images.shape[1:] for images, _ in parts}) > 1:
                expected = "left out: training and test images differ in size"
                raise InvalidValueError("data.fold", list(self.fold), expected)
            images, labels = (torch.cat(part) for part in zip(*parts, strict=True))
            number, folds = self.fold
            tested = fold_of(labels.numpy(), self.class_names, folds, self.split_seed) == number
        numbers, pool = labels.numpy(), np.flatnonzero(~tested)
        require_room(numbers[pool], self.class_names, ("train", "val"))
        rows = cut(pool, numbers, self.num_classes, {"val": self.val_size}, self.split_seed)
        rows["train"] = self.train_part(rows["train"], numbers)
        if self.fold is not None:
            rows["test"] = np.flatnonzero(tested)
        return {name: ResidentDataset(images, labels, torch.from_numpy(np.sort(rows[name]))) for name in rows}

    def test_arrays(self) -> dict[str, NDArray[np.integer]]:
        """Facts of each test image, for the file of answers.

        Returns:
            Each ``(N,)``: with a fold ``rows``, the image's place among all there are, which is the same in every fold;
            where there are groups, ``groups``, their numbers.
        """
        return {} if self.fold is None else {"rows": self.splits["test"].subset.cpu().numpy()}

    def _load(self, split: LoadedSplit) -> tuple[Tensor, Tensor]:
        if not hasattr(self, "class_names"):
            raise InvalidValueError("data", type(self).__name__, "a data module with class_names")
        return as_tensors(self.load(split), self.num_classes, f'{type(self).__name__}.load("{split}")')

    def train_part(self, order: Indices, labels: NDArray[np.integer]) -> Indices:
        """The images to train with, of a stratified order of those that may be: all, or a ``train_subset``.

        Raises:
            InvalidValueError: If there are not so many.
        """
        if self.train_subset is None:
            return order
        return take(order, labels, count_of(self.train_subset, len(order), self.num_classes, "data.train_subset"))[0]

    def _loader(self, split: str) -> DataLoader[Batch]:
        dataset = self._splits[split]
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        training = split == "train"
        sampler = EpochSampler(len(dataset), self.seed, self.batch_size, rank, world_size, shuffle=training)
        if training:
            self._sampler = sampler
            if world_size > 1:
                size = shard_size(self.batch_size, world_size)
                rank_zero_info(f"data.batch_size={self.batch_size}: {size} images on each of {world_size} devices")
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type != "cpu" and self._fits(dataset, device):
            self._move(dataset, device)
        on_host = device.type != "cpu" and dataset.images.device.type == "cpu"
        return (FetchingAhead if on_host else DataLoader)(
            dataset,
            batch_size=shard_size(self.batch_size, world_size),
            sampler=sampler if training or world_size > 1 else None,
            collate_fn=_as_fetched,
            pin_memory=on_host and device.type == "cuda",
        )

    def _move(self, dataset: ResidentDataset, device: torch.device) -> None:
        """Move a split's images to a device, once for all splits that share them."""
        sharing = [split for split in self._splits.values() if split.images is dataset.images]
        images, labels = dataset.images.to(device), dataset.labels.to(device)
        for split in sharing:
            split.images, split.labels, split.subset = images, labels, split.subset.to(device)

    def share_images(self, other: ImageDataModule) -> None:
        """Keep the images that another data module holds as well, in the same place, in memory once."""
        if self.on_device != other.on_device:
            return
        for theirs in other._splits.values():
            for split in self._splits.values():
                if split.images.shape == theirs.images.shape and torch.equal(split.images.cpu(), theirs.images.cpu()):
                    split.images = theirs.images

    def _fits(self, dataset: ResidentDataset, device: torch.device) -> bool:
        if self.on_device is not None or device.type != "cuda":
            return bool(self.on_device)
        return dataset.images.nbytes <= torch.cuda.get_device_properties(device).total_memory / 10

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches, in a new order each epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation batches, in the order of the data."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test batches, in the order of the data."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test batches again."""
        return self._loader("test")

    def on_after_batch_transfer(self, batch: Batch | Tensor, dataloader_idx: int) -> tuple[Tensor, Tensor] | Tensor:
        """Prepare a batch with `to_input`, augmented while training. Images without labels pass unchanged."""
        if isinstance(batch, Tensor):
            return batch
        images, labels, index = batch
        if not (self.trainer and self.trainer.training):
            return self.to_input(images), labels
        draws = self._epoch_draws(images)
        return self.to_input(images, {step: draws[step][index] for step in self._steps}), labels

    def _epoch_draws(self, images: Tensor) -> dict[Step, Tensor]:
        assert self._sampler is not None, "train_dataloader() makes the sampler"
        epoch, draws = self._draws or (-1, {})
        if epoch != self._sampler.epoch:
            epoch, draws = self._sampler.epoch, self._draws_of(self._sampler, images.shape[2:])
        # A second trainer may have its images on another device.
        draws = {step: part.to(images.device, non_blocking=True) for step, part in draws.items()}
        self._draws = epoch, draws
        return draws

    def _draws_of(self, sampler: EpochSampler, stored: Sequence[int]) -> dict[Step, Tensor]:
        return sampler.draws(self._steps, (stored[0], stored[1]), self.image_size)

    def to_input(self, images: Tensor, drawn: Mapping[Step, Tensor] | None = None) -> Tensor:
        """Augment, normalise and resize.

        Args:
            images: ``(B, 3, H, W)`` uint8.
            drawn: The numbers of each augmentation step for these images; None: no augmentation.

        Returns:
            ``(B, 3, image_size, image_size)`` float32, channels-last.
        """
        return augment.to_input(images, self.mean_std, self.image_size, drawn)

    def fingerprint(self) -> str:
        """A digest of images, splits, order, augmentation draws and preparation.

        Equal fingerprints mean equal training batches in the same order with the same augmentation, and equal
        validation and test images. The fingerprint does not depend on the network.
        """
        prepared = {option: getattr(self, option) for option in ("batch_size", "augmentation", "image_size")}
        train = self.splits["train"]
        prepared["normalization"] = self.preparation["normalization"]
        settings = json.dumps(prepared, sort_keys=True)
        # Every checkpoint stores it, and the images are read once for it.
        key = f"{settings} {self.seed}"
        if key not in self._fingerprints:
            digest, first_epoch = self._images_digest(), EpochSampler(len(train), self.seed)
            digest.update(first_epoch.order().tobytes())
            draws = self._draws_of(first_epoch, train.images.shape[1:3]).values()
            digest.update(torch.cat([part.reshape(len(train), -1) for part in draws], dim=1).numpy().data)
            digest.update(settings.encode())
            self._fingerprints[key] = digest.hexdigest()
        return self._fingerprints[key]

    def images_fingerprint(self) -> str:
        """A digest of images, labels and splits alone."""
        return self._images_digest().hexdigest()

    def pictures_fingerprint(self) -> str:
        """A digest of all images and labels there are, used or not: the same in every fold and subset."""
        digest = hashlib.blake2b(digest_size=8)
        train, test = self.splits["train"], self.splits["test"]
        loaded = [train] if train.images is test.images else [train, test]
        for split in loaded:
            for part in torch.split(split.images, 1000):
                digest.update(part.cpu().numpy().data)
        for split in loaded:
            digest.update(split.labels.cpu().numpy().data)
        return digest.hexdigest()

    def _images_digest(self) -> hashlib.blake2b:
        digest = hashlib.blake2b(digest_size=8)
        for split in (self.splits[name] for name in ("train", "val", "test")):
            for part in self._content(split):
                digest.update(part)
            digest.update(split.labels[split.subset].cpu().numpy().data)
        return digest

    def _content(self, split: ResidentDataset) -> Iterator[bytes | memoryview]:
        """Bytes that stand for a split's images in the fingerprint: their pixels."""
        for part in torch.split(split.subset, 1000):
            yield split.images[part].cpu().numpy().data

    def describe(self) -> dict[str, Any]:
        """A summary of the user's files, as plain values; empty for a published data set."""
        return {}

    def splits_csv(self) -> str | None:
        """The split of each of the user's files, as CSV; None for a published data set."""
        return None


def known_mean_std(normalization: Normalization, field: str = "data.normalization") -> MeanStd | None:
    """Mean and standard deviation that an option names; None for ``own``, which takes the images to know.

    Args:
        normalization: The option's value.
        field: Its name, for messages.

    Raises:
        InvalidValueError: If it is neither a known word nor a pair of three usable numbers each.
    """
    if normalization == "own":
        return None
    if isinstance(normalization, str):
        known = MEAN_STD.get(normalization)
    else:
        mean, std = (tuple(part) for part in normalization) if len(normalization) == 2 else ((), ())
        usable = len(mean) == len(std) == 3 and all(map(math.isfinite, mean)) and all(0 < s < math.inf for s in std)
        known = (mean, std) if usable else None
    if known is None:
        expected = f"one of {', '.join(MEAN_STD)}, own, or [mean, std], three numbers each and deviations above 0"
        raise InvalidValueError(field, normalization, expected)
    return known


def _importable_from(cls: type) -> str | None:
    """The first of a class's module and the packages around it that has the class, as jsonargparse finds it."""
    parts = cls.__module__.split(".")
    modules = [".".join(parts[: end + 1]) for end in range(len(parts)) if parts != ["__main__"]]
    return next((name for name in modules if getattr(sys.modules[name], cls.__name__, None) is cls), None)


def _as_fetched(batch: Any) -> Any:
    """The collate function: `__getitems__` returns whole batches."""
    return batch
