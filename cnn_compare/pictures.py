"""What a report shows of the pictures themselves: the record, and small pictures as text."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cnn_compare.errors import ResultError
from cnn_compare.files import read_json, write_json

SCHEMA = 1
MOST_NETWORKS = 12
"""Of so many networks, the most accurate ones, a report shows the answers to single images."""
# Of all pictures in one report together; larger ones are refused when they are read.
MOST_BYTES = 400 * 1024
# Up to so many pixels a picture is stored as it is; larger ones are compressed with losses.
_LOSSLESS = 48


@dataclass(frozen=True)
class HeatMap:
    """Where one trained network found what speaks for its answer to an image.

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
        exact: Those with one that is equal in every pixel.
        near: Those with copies that only look the same when small.
        complete: Whether all pairs were compared.
    """

    exact: list[int]
    near: list[int]
    complete: bool


@dataclass(frozen=True)
class Pictures:
    """What was read from the data of a comparison, `pictures.json` in its folder; so a report needs no data.

    Args:
        test_labels: As `labels_digest` of the test images gives it.
        names: Place in the test set -> name of the user's file; empty for published data.
        pictures: Place in the test set -> small picture, as a ``data:`` URL.
        leaked: Test images that training has seen.
        asked: Places in the test set that the user named.
        heat_maps: Network -> place in the test set -> its heat map.
        notes: What the reader should know of them, in sentences.
    """

    test_labels: str
    names: dict[int, str]
    pictures: dict[int, str]
    leaked: Leaked
    asked: list[int] = field(default_factory=list)
    heat_maps: dict[str, dict[int, HeatMap]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def path(folder: Path) -> Path:
        """The file in a comparison's folder."""
        return folder / "pictures.json"

    @property
    def bytes(self) -> int:
        """Of all pictures."""
        urls = [*self.pictures.values(), *(each.picture for maps in self.heat_maps.values() for each in maps.values())]
        return sum(map(len, urls))

    def save(self, folder: Path) -> None:
        """Write the file, all of it or nothing."""
        write_json(self.path(folder), {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the file; None if there is none.

        Raises:
            ResultError: If it is damaged, or of another version.
        """
        path = cls.path(folder)
        try:
            stored = read_json(path)
            if stored.pop("schema") != SCHEMA:
                raise ValueError("it is of another schema")
            heat_maps = {
                str(network): {
                    int(image): HeatMap(_url(each["picture"]), int(each["answer"])) for image, each in maps.items()
                }
                for network, maps in stored["heat_maps"].items()
            }
            leaked = stored["leaked"]
            pictures = cls(
                test_labels=str(stored["test_labels"]),
                names={int(image): str(name) for image, name in stored["names"].items()},
                pictures={int(image): _url(url) for image, url in stored["pictures"].items()},
                leaked=Leaked(_places(leaked["exact"]), _places(leaked["near"]), bool(leaked["complete"])),
                asked=_places(stored["asked"]),
                heat_maps=heat_maps,
                notes=[str(note) for note in stored["notes"]],
            )
            if pictures.bytes > 2 * MOST_BYTES:
                raise ValueError("its pictures are larger than this program makes them")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ResultError(path, f"it holds no pictures ({error})") from error
        return pictures


def _url(value: Any) -> str:
    # Else the page would ask another machine for it.
    if not isinstance(value, str) or not value.startswith("data:image/"):
        raise ValueError("a picture is none")
    return value


def _places(values: Any) -> list[int]:
    places = [int(value) for value in values]
    if min(places, default=0) < 0:
        raise ValueError("a place in the test set is negative")
    return places


def labels_digest(labels: NDArray[Any]) -> str:
    """What tells test sets apart: a digest of the labels ``(N,)``, whatever integers they are."""
    return hashlib.blake2b(labels.astype("<i8").tobytes(), digest_size=8).hexdigest()


def small_picture(pixels: NDArray[np.uint8], side: int) -> str:
    """A picture of at most ``side`` pixels as a ``data:`` URL; ``pixels`` is ``(H, W, 3)``."""
    from PIL import Image

    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((side, side))
    picture.save(buffer, "WEBP", quality=80, method=6, lossless=max(picture.size) <= _LOSSLESS)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
