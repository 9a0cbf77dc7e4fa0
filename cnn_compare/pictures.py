"""Pictures in a report: their record, and small pictures as text."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_compare.records import FolderRecord

MOST_NETWORKS = 12
"""The number of networks, the most accurate ones, whose answers to single images a report shows."""
# Of all pictures in one report together; larger ones are refused when they are read.
MOST_BYTES = 400 * 1024
# Up to so many pixels a picture is stored as it is; larger ones are compressed with losses.
_LOSSLESS = 48


@dataclass(frozen=True)
class HeatMap:
    """A map of where one trained network found what speaks for its answer to an image.

    Args:
        picture: The image under its heat map, as a ``data:`` URL.
        answer: Number of the class that was answered.
    """

    picture: str
    answer: int


@dataclass(frozen=True)
class Leaked:
    """Test images with a copy among the training images, by their places in the test set.

    Args:
        exact: Images with a copy that is equal in every pixel.
        near: Images with copies that only look the same when small.
        complete: Whether all pairs were compared.
    """

    exact: list[int]
    near: list[int]
    complete: bool


@dataclass(frozen=True)
class ReportPictures(FolderRecord):
    """Pictures from a comparison's data, `pictures.json` in its folder; so a report needs no data.

    Args:
        test_labels: The `labels_digest` of the test images.
        names: Place in the test set -> name of the user's file; empty for published data.
        pictures: Place in the test set -> small picture, as a ``data:`` URL.
        leaked: Test images that training has seen.
        asked: Places in the test set that the user named.
        heat_maps: Network -> place in the test set -> its heat map.
        notes: Sentences for the reader.
    """

    FILE = "pictures.json"

    test_labels: str
    names: dict[int, str]
    pictures: dict[int, str]
    leaked: Leaked
    asked: list[int] = field(default_factory=list)
    heat_maps: dict[str, dict[int, HeatMap]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """The size of all pictures together."""
        return sum(map(len, self._urls))

    @property
    def _urls(self) -> list[str]:
        maps = [each.picture for maps in self.heat_maps.values() for each in maps.values()]
        return [*self.pictures.values(), *maps]

    def __post_init__(self) -> None:
        if not all(url.startswith("data:image/") for url in self._urls):
            raise ValueError("a picture is none")  # Else the page would ask another machine for it.
        if self.bytes > 2 * MOST_BYTES:
            raise ValueError("its pictures are larger than this program makes them")
        if min([*self.leaked.exact, *self.leaked.near, *self.asked], default=0) < 0:
            raise ValueError("a place in the test set is negative")


def labels_digest(labels: NDArray[Any]) -> str:
    """A digest of the labels ``(N,)``, whatever integers they are, which tells test sets apart."""
    return hashlib.blake2b(labels.astype("<i8").tobytes(), digest_size=8).hexdigest()


def small_picture(pixels: NDArray[np.uint8], side: int) -> str:
    """A picture of at most ``side`` pixels as a ``data:`` URL; ``pixels`` is ``(H, W, 3)``."""
    from PIL import Image

    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((side, side))
    picture.save(buffer, "WEBP", quality=80, method=6, lossless=max(picture.size) <= _LOSSLESS)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
