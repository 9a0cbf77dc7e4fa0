"""`Classifier`: a trained network with all it takes to classify pictures, read from its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cnn_compare.checkpointing import require_checkpoint
from cnn_compare.data.augment import to_input
from cnn_compare.data.decode import Decoding, Fit, decode, prepare, reason_of
from cnn_compare.data.layouts import printable
from cnn_compare.data.module import MeanStd, Normalization, known_mean_std
from cnn_compare.errors import (
    BadPictureError,
    CheckpointFileError,
    InvalidValueError,
    NoTrainedNetworkError,
    UsageError,
    own_error,
)
from cnn_compare.files import ADDRESS, is_address
from cnn_compare.inference.best import find_checkpoints
from cnn_compare.module import ClassifierModule

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Probabilities ``(N, classes)`` of decoded pictures ``(N, side, side, 3)``."""
PictureLike = str | Path | Image.Image | NDArray[np.uint8]

# Of a network's input; a hostile checkpoint must not fill the memory.
LARGEST = 4096


class Classifier:
    """A trained network, and how pictures are prepared for it: exactly as they were in its training and its test.

    It needs no trainer and no data module. It computes on the processor unless `to` names another device.

    Args:
        module: The network with its weights; it is put into evaluation mode.
        class_names: Names in the order of the labels.
        decoding: How pictures become pixels.
        image_size: Height and width of the network's input, in pixels.
        mean_std: Mean and standard deviation of each channel, for pixels from 0 to 1.
        checkpoint: Where the weights come from; None: not from a file.
        fingerprint: Fingerprint of the data that it was trained on; None: not known.
        versions: Versions of the packages that it was trained with; empty: not known.
        description: Which network this is, in words.
        others: Further classifiers with the same classes and decoding: all probabilities are means with theirs.

    Attributes:
        class_names: A list; all other arguments are attributes of the same names, too.
    """

    def __init__(
        self,
        module: ClassifierModule,
        class_names: Sequence[str],
        decoding: Decoding,
        image_size: int,
        mean_std: MeanStd,
        *,
        checkpoint: Path | None = None,
        fingerprint: str | None = None,
        versions: Mapping[str, str] | None = None,
        description: str = "",
        others: Sequence[Classifier] = (),
    ) -> None:
        if len(class_names) != module.num_classes:
            raise InvalidValueError("class_names", list(class_names), f"a list of {module.num_classes} names")
        self.module = module.eval()
        self.class_names, self.decoding, self.image_size, self.mean_std = [*class_names], decoding, image_size, mean_std
        self.checkpoint, self.fingerprint, self.versions = checkpoint, fingerprint, dict(versions or {})
        self.description, self.others = description, list(others)

    @classmethod
    def load(
        cls,
        path: str | Path,
        ensemble: bool = False,
        *,
        class_names: Sequence[str] | None = None,
        image_size: int | None = None,
        normalization: Normalization | None = None,
        stored_size: int | None = None,
        fit: Fit | None = None,
        backbone: nn.Module | None = None,
    ) -> Self:
        """Read a trained network; no code in its file is run.

        The keywords are only for what a checkpoint lacks, as earlier versions of this package, or a training without an
        `ImageDataModule`, left them; an error names what is missing.

        Args:
            path: A checkpoint, the folder of a run, or that of a comparison, which stands for its best network by mean
                test accuracy, and of that for the seed with the best validation accuracy. ``description`` says which.
            ensemble: Of a comparison's best network, average the probabilities of all seeds.
            class_names: In the order of the labels.
            image_size: Height and width of the network's input, in pixels.
            normalization: As for `ImageDataModule`.
            stored_size: Height and width of the images in memory, before they were resized to ``image_size``.
            fit: How a picture that is not square becomes so; ``crop`` where the training data were square.
            backbone: The network, where it was given to `ClassifierModule` as an object.

        Raises:
            NoTrainedNetworkError: If there is no checkpoint, or it is damaged or holds something else.
            UsageError: If the checkpoint lacks what is needed.
            InvalidValueError: If a keyword contradicts the checkpoint.
        """
        given = {
            "class_names": None if class_names is None else list(class_names),
            "image_size": image_size,
            "normalization": normalization,
            "stored_size": stored_size,
            "fit": fit,
        }
        found = find_checkpoints(Path(path).expanduser(), ensemble)
        first, *others = (cls._read(checkpoint, given, backbone) for checkpoint in found.checkpoints)
        for other in others:
            if (other.class_names, other.decoding) != (first.class_names, first.decoding):
                raise InvalidValueError("ensemble", ensemble, f"left out: the seeds in {path} differ in their data")
        first.others = [*others]
        first.description = found.description or f"{first.module.hparams['backbone']}, {path}"
        return first

    @classmethod
    def _read(cls, path: Path, given: Mapping[str, Any], backbone: nn.Module | None) -> Self:
        """The classifier of one checkpoint."""
        try:
            content = require_checkpoint(path)
        except CheckpointFileError as error:
            raise NoTrainedNetworkError(path, error.reason) from error
        facts = _preparation(path, content.get("data"), given)
        # Compiling takes minutes, for some pictures.
        options: dict[str, Any] = {"compile": False} | ({} if backbone is None else {"backbone": backbone})
        try:
            module = ClassifierModule.load_from_checkpoint(path, map_location="cpu", **options)
        # The file, or the user's code that it names, can raise anything.
        except Exception as error:
            if (known := own_error(error)) is not None:
                raise known from error
            reason = " ".join(str(error).split())[:200]
            raise NoTrainedNetworkError(path, f"its network cannot be rebuilt ({reason})") from error
        versions, fingerprint = content.get("versions"), content.get("data_fingerprint")
        return cls(
            module,
            **facts,
            checkpoint=path,
            fingerprint=fingerprint if isinstance(fingerprint, str) else None,
            versions=versions if isinstance(versions, dict) else None,
        )

    def to(self, device: str | torch.device) -> Self:
        """Move the network to a device, on which it then computes."""
        self.module.to(device)
        for other in self.others:
            other.to(device)
        return self

    def pixels(self, pictures: PictureLike | Iterable[PictureLike]) -> NDArray[np.uint8]:
        """Decode and fit pictures, as the training images were.

        Args:
            pictures: Paths, PIL images, or uint8 arrays ``(H, W, 3)``, RGB, or ``(H, W)``, grey; or one of them.

        Returns:
            ``(N, side, side, 3)`` RGB.

        Raises:
            BadPictureError: If one of them cannot be decoded.
        """
        side = self.decoding.side
        decoded = [self._pixels(picture, number) for number, picture in enumerate(_as_list(pictures))]
        return np.stack(decoded) if decoded else np.empty((0, side, side, 3), np.uint8)

    def _pixels(self, picture: PictureLike, number: int) -> NDArray[np.uint8]:
        if isinstance(picture, (str, Path)):
            if is_address(picture):
                raise BadPictureError(picture, ADDRESS)
            return decode(Path(picture).expanduser(), self.decoding)[0]
        try:
            return prepare(picture if isinstance(picture, Image.Image) else _image(picture), self.decoding)
        except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to.
            raise BadPictureError(f"picture {number}", reason_of(error)) from error

    @torch.inference_mode()
    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probability of each class.

        Args:
            pixels: ``(N, side, side, 3)``, as `pixels` returns them.

        Returns:
            ``(N, classes)``, in the order of ``class_names``.
        """
        images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).to(self.module.device)
        own = self.module.probabilities(to_input(images, self.mean_std, self.image_size)).cpu().numpy()
        every = np.stack([own, *(other.probabilities(pixels) for other in self.others)])
        return np.asarray(every.mean(0, dtype=np.float64), np.float32)

    def __call__(
        self, pictures: PictureLike | Iterable[PictureLike], top_k: int = 3, batch_size: int = 64
    ) -> pd.DataFrame:
        """Classify pictures.

        Args:
            pictures: See `pixels`.
            top_k: How many of the most probable classes the table has.
            batch_size: Pictures that are decoded and computed at a time.

        Returns:
            A row a picture: ``path``, which is None for a picture that is no file; ``label``, ``probability``, and the
            runners-up ``label_2``, ``probability_2``, ….

        Raises:
            BadPictureError: If one of them cannot be decoded.
        """
        listed = _as_list(pictures)
        batches = [listed[start : start + batch_size] for start in range(0, len(listed), batch_size)]
        probabilities = [self.probabilities(self.pixels(batch)) for batch in batches]
        paths = [printable(str(picture)) if isinstance(picture, (str, Path)) else None for picture in listed]
        return self.table(paths, np.concatenate(probabilities) if probabilities else None, top_k)

    def table(
        self, paths: Sequence[str | None], probabilities: NDArray[np.float32] | None, top_k: int = 3
    ) -> pd.DataFrame:
        """The most probable classes, as `__call__` returns them.

        Args:
            paths: Paths of the pictures.
            probabilities: ``(N, classes)``; None: there are no pictures.
            top_k: How many classes; those that there are at most.
        """
        if top_k < 1:
            raise InvalidValueError("top_k", top_k, "at least 1")
        if probabilities is None:
            probabilities = np.empty((0, len(self.class_names)), np.float32)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        names = np.array(self.class_names, dtype=object)
        columns: dict[str, Any] = {"path": list(paths)}
        for rank in range(order.shape[1]):
            suffix = f"_{rank + 1}" if rank else ""
            columns[f"label{suffix}"] = names[order[:, rank]]
            columns[f"probability{suffix}"] = np.take_along_axis(probabilities, order[:, rank, None], axis=1)[:, 0]
        return pd.DataFrame(columns)


def _preparation(path: Path, stored: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """``class_names``, ``decoding``, ``image_size`` and ``mean_std`` of a checkpoint.

    Args:
        path: The checkpoint.
        stored: Its record of its data.
        given: The keywords of `Classifier.load`; None: not given.
    """
    known: dict[str, Any] = dict(stored) if isinstance(stored, dict) else {}
    if isinstance(known.get("stored_size"), list):
        # Images that are not square were resized to the network's square input, proportions and all.
        known |= {"stored_size": known.get("image_size"), "fit": "squash"}
    for name, value in given.items():
        if value is not None and known.setdefault(name, value) != value:
            raise InvalidValueError(name, value, f"left out, or {known[name]!r} as {path} holds")
    needed = ["class_names", "image_size", "normalization", "stored_size"]
    if not isinstance(stored, dict):
        known.setdefault(needed.pop(), known.get("image_size"))
    if missing := [name for name in needed if known.get(name) is None]:
        way_out = f"Give {', '.join(missing)} as well."
        raise UsageError(f"{path} does not say all that it takes to use its network. {way_out}", missing)
    try:
        return _checked(known)
    except InvalidValueError:
        raise
    except (TypeError, ValueError) as error:
        raise NoTrainedNetworkError(path, f"what it says of its data is damaged ({error})") from error


def _checked(known: Mapping[str, Any]) -> dict[str, Any]:
    fit = known.get("fit", "crop")
    if fit not in get_args(Fit):
        raise InvalidValueError("fit", fit, f"one of {', '.join(get_args(Fit))}")
    for name in ("image_size", "stored_size"):
        if not isinstance(known[name], int) or not 1 <= known[name] <= LARGEST:
            raise InvalidValueError(name, known[name], f"from 1 to {LARGEST} pixels")
    mean_std = known_mean_std(known.get("mean_std") or known["normalization"], "normalization")
    if mean_std is None:
        expected = (
            "one of half, cifar10 and imagenet, or [mean, std] as numbers, because no training images are at hand"
        )
        raise InvalidValueError("normalization", known["normalization"], expected)
    red, green, blue = known.get("background") or Decoding.background
    return {
        "class_names": [str(name) for name in known["class_names"]],
        "decoding": Decoding(
            known["stored_size"], fit, (red, green, blue), known.get("max_pixels") or Decoding.max_pixels
        ),
        "image_size": known["image_size"],
        "mean_std": mean_std,
    }


def _as_list(pictures: PictureLike | Iterable[PictureLike]) -> list[PictureLike]:
    """The pictures of a list, an array or any other iterable; a list of one for a single picture."""
    if isinstance(pictures, (str, Path, Image.Image)):
        return [pictures]
    if not hasattr(pictures, "__array__"):
        return [*pictures]
    array = np.asarray(pictures)
    single = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    return [array] if single else [*array]


def _image(picture: Any) -> Image.Image:
    array = np.asarray(picture)
    array = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        found = f"it is an array of shape {array.shape} and type {array.dtype}"
        raise ValueError(f"{found}, and pictures are uint8 (height, width, 3), RGB, or (height, width), grey")
    return Image.fromarray(array)
