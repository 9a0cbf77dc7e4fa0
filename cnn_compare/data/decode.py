"""Decoding of picture files to square RGB pixels: one function for every format and mode that Pillow reads.

The file is also the program of a decoding process, see `serve`: run by its path, it loads neither torch nor Lightning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import stat
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, features

from cnn_compare.errors import BadPictureError

with suppress(ImportError):  # The extra ``heif``.
    import pillow_heif

    pillow_heif.register_heif_opener()

Fit = Literal["crop", "pad", "squash"]

# Raised whenever the code below gives other pixels than before: what is cached is then decoded again.
RULES = 1

# EXIF orientation -> what turns the stored pixels upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Formats with several pictures in a file of which the first is the whole picture, not one of several: phones store a
# preview or a depth map behind it, and Photoshop its layers.
_WHOLE_IN_FIRST = {"MPO", "PSD"}
# Formats that are programs: Pillow gives EPS to Ghostscript, and WMF to Windows.
_PROGRAMS = {"EPS", "WMF"}
_TIFF_BITS_PER_SAMPLE = 258

# Without a handler, Python prints the warnings of Pillow's loggers; a program that has configured logging gets them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Decoding:
    """Settings by which pictures become arrays of one size.

    Args:
        side: Height and width of the result, in pixels.
        fit: ``crop``: the shorter side is scaled to ``side``, and the middle is kept; ``pad``: the longer side is
            scaled, and ``background`` fills the rest; ``squash``: both are scaled, and the proportions change.
        background: Colour under transparent pixels, and of the borders of ``pad``.
        max_pixels: A file whose header announces more is refused before its pixels are decoded.
    """

    side: int
    fit: Fit = "crop"
    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 100_000_000


@dataclass(frozen=True)
class Facts:
    """Facts of a picture beside its pixels.

    Args:
        size: Width and height in pixels, of the whole picture, upright; zeros if it is bad.
        notes: Decisions about it, such as that only the first of several frames is used.
        plugin: Name and version of the package that has read it, if it is not Pillow.
        bad: Why it cannot be used; empty if it can.
        digest: Digest of its pixels and of ``plugin``, hexadecimal; where it was decoded into an array.
    """

    size: tuple[int, int] = (0, 0)
    notes: str = ""
    plugin: str = ""
    bad: str = ""
    digest: str = ""


def decoder() -> str:
    """Name and versions of all that decides pixels."""
    name = "libjpeg_turbo" if features.check("libjpeg_turbo") else "jpg"
    return f"rules {RULES}, Pillow {PIL.__version__}, {name} {features.version(name)}"


def plugins() -> list[list[str]] | None:
    """The formats that other packages, or the user's script, have registered with Pillow in this process.

    Returns:
        Of each: its name, the package with its version, and the two functions that `Image.register_open` takes, pickled
        by their names; so another process can register it. None if one is where no other can import it.
    """
    found = []
    for name, functions in Image.OPEN.items():
        if not _is_own(functions[0]):
            try:
                pickled = pickle.dumps(functions)
            except (pickle.PicklingError, AttributeError):
                return None
            if b"__main__" in pickled:
                return None
            found.append([name, _package(functions[0]), pickled.hex()])
    return found


def _is_own(function: Any) -> bool:
    return str(function.__module__).startswith("PIL.")


def _package(function: Any) -> str:
    package = str(function.__module__).partition(".")[0]
    return f"{package} {getattr(sys.modules.get(package), '__version__', '')}".strip()


def decode(path: Path, decoding: Decoding) -> tuple[NDArray[np.uint8], Facts]:
    """The pixels of a picture file.

    A picture is complete or bad: no missing part is filled in. Flipped bits in the middle of a JPEG, which libjpeg
    conceals, are not noticed. Colour profiles are not applied.

    Args:
        path: The file; its name does not matter, its content decides on the format.
        decoding: Size, fit, background, limit.

    Returns:
        ``(side, side, 3)`` RGB, and facts of the picture.

    Raises:
        BadPictureError: If the file is no picture, cut off, too large, unreadable, or no file at all.
    """
    try:
        # Asked first: opening a FIFO would wait for a writer, and opening a device may do anything.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a FIFO, socket or device"
            raise BadPictureError(path, f"it is {kind}, not a file")
        if status.st_size == 0:
            raise BadPictureError(path, "the file is empty")
        with _strict(decoding.max_pixels), Image.open(path) as image:
            # Pillow itself raises this error at twice the limit.
            if image.width * image.height > decoding.max_pixels:
                raise Image.DecompressionBombError
            if image.format in _PROGRAMS:
                raise BadPictureError(path, f"{image.format} is a program that draws; pictures are not executed")
            several = image.format not in _WHOLE_IN_FIRST and getattr(image, "is_animated", False)
            pixels, facts = _prepare(image, decoding)
            if not _is_own(type(image)):
                facts = replace(facts, plugin=_package(type(image)))
            if several:
                notes = filter(None, ("only the first of several frames is used", facts.notes))
                facts = replace(facts, notes="; ".join(notes))
            return pixels, facts
    except BadPictureError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise BadPictureError(path, "its content is no picture in a format that Pillow reads") from error
    except Image.DecompressionBombError as error:
        raise BadPictureError(path, f"it has more pixels than data.max_pixels={decoding.max_pixels}") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to.
        raise BadPictureError(path, reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """The reason why a picture cannot be decoded, from an error of Pillow or the system."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()).rstrip(".") or type(error).__name__


def prepare(image: Image.Image, decoding: Decoding) -> NDArray[np.uint8]:
    """Do as `decode` with a picture that is open already.

    Args:
        image: The picture, in any mode; it is not changed.
        decoding: Size, fit, background.

    Returns:
        ``(side, side, 3)`` RGB.

    Raises:
        ValueError: If a value of the picture is NaN or infinite.
    """
    with _strict(decoding.max_pixels):
        return _prepare(image, decoding)[0]


def _prepare(image: Image.Image, decoding: Decoding) -> tuple[NDArray[np.uint8], Facts]:
    image.load()  # Before the orientation: some formats store EXIF behind the pixels.
    notes = []
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # As in `decode`. The pixels are complete, and viewers show them as they are stored.
        orientation = 1
        notes.append("its EXIF data are damaged, so that an orientation is not known")
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if image.mode.startswith("I") or image.mode == "F":
        image, note = _to_8_bits(image)
        notes += [note] if note else []
    pixels = np.asarray(_fit(_to_rgb(image, decoding.background), decoding))
    return pixels, Facts(image.size, "; ".join(notes))


@contextmanager
def _strict(max_pixels: int) -> Iterator[None]:
    """Pillow's settings while a file is decoded: another library may have changed them for the whole process."""
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings():
        # They are of metadata, which do not matter here, and of large pictures, which max_pixels decides on.
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = max_pixels, False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _to_8_bits(image: Image.Image) -> tuple[Image.Image, str]:
    """A grey picture of more than 8 bits, scaled by its depth.

    16 bits become their upper byte, as Pillow makes of 16-bit colour. 32-bit integers and floats declare no range.
    Theirs is taken to be the first of 0 to 1 (floats only), 0 to 255 and 0 to 65,535 that holds all values of the
    picture, else from its lowest to its highest value; a note says which.

    Returns:
        The picture in mode L, or LA where one value means transparency; and the note, which may be empty.
    """
    values, note = np.asarray(image), ""
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
    bits = _declared_bits(image)
    if bits is not None:
        grey = values >> (bits - 8)
    else:
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are NaN or infinite")
        low, high = 0.0, 65535.0
        if values.min() < low or values.max() > high:
            low, high = float(values.min()), float(values.max())
        elif values.max() <= 1 and image.mode == "F":
            high = 1.0
        elif values.max() <= 255:
            high = 255.0
        # Both in one step, and in double precision, so that 0 to 255 stays what it is.
        grey = np.rint((values.astype(np.float64) - low) * (255 / max(high - low, 1e-300)))
        note = f"its values are taken to range from {low:g} to {high:g}, because the file does not say"
    result = Image.fromarray(grey.astype(np.uint8))
    if alpha is not None:
        result = Image.merge("LA", (result, alpha))
    return result, note


def _declared_bits(image: Image.Image) -> int | None:
    """Bits of each value as the file declares them; None where the values may mean anything."""
    if image.mode.startswith("I;16"):
        # TIFF also has pictures of 12 bits.
        return int(getattr(image, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, (16,))[0])
    # Pillow has scaled these to 16 bits, and gives them as 32-bit integers.
    return 16 if image.mode == "I" and getattr(image, "format", None) in ("PPM", "PNG") else None


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")  # Pillow knows no direct way.
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*background, 255))
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _fit(image: Image.Image, decoding: Decoding) -> Image.Image:
    """The picture in the requested size, bilinear with antialiasing.

    ``crop`` gives the pixels of torchvision's ``Resize(side)`` and ``CenterCrop(side)``, but computes only those that
    stay: of a picture a hundred times as wide as high, the others would not fit into memory.
    """
    side, (width, height) = decoding.side, image.size
    if decoding.fit == "squash":
        return image.resize((side, side), Image.Resampling.BILINEAR)
    if decoding.fit == "pad":
        scale = side / max(width, height)
        inside = max(1, round(width * scale)), max(1, round(height * scale))
        padded = Image.new("RGB", (side, side), decoding.background)
        corner = round((side - inside[0]) / 2), round((side - inside[1]) / 2)
        padded.paste(image.resize(inside, Image.Resampling.BILINEAR), corner)
        return padded
    (left, right), (top, bottom) = (_middle(length, min(width, height), side) for length in (width, height))
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def _middle(length: int, shorter: int, side: int) -> tuple[float, float]:
    """Begin and end of the crop along one axis, in pixels of the picture; whole pixels after scaling."""
    scaled = side * length // shorter
    start = round((scaled - side) / 2)
    return start * length / scaled, (start + side) * length / scaled


@dataclass(frozen=True)
class Job:
    """Pictures that are decoded into an array in a file.

    Args:
        root: The folder of the pictures.
        decoding: How they are decoded.
        file: The array's file.
        offset: Place of the array's first byte in the file.
    """

    root: str
    decoding: Decoding
    file: str
    offset: int

    def decode(self, first: int, paths: Sequence[str]) -> list[Facts]:
        """Decode pictures into rows ``first``, ``first + 1``, … of the array: zeros for a bad one.

        Raises:
            OSError: If the array cannot be written.
        """
        side = self.decoding.side
        images = np.zeros((len(paths), side, side, 3), np.uint8)
        found = []
        for pixels, path in zip(images, paths, strict=True):
            try:
                pixels[:], facts = decode(Path(self.root, path), self.decoding)
            except BadPictureError as error:
                facts = Facts(bad=error.reason)
            digest = hashlib.blake2b(pixels.data, digest_size=16)
            digest.update(facts.plugin.encode())
            found.append(replace(facts, digest=digest.hexdigest()))
        # Not assigned to a memory map: on a full disk that kills the process, and this raises an error.
        with Path(self.file).open("r+b") as file:
            file.seek(self.offset + first * images[:1].nbytes)
            file.write(images.data)
        return found


def serve() -> None:
    """The program of a decoding process: standard input brings work, standard output takes answers, in lines of JSON.

    The first line holds the fields of a `Job` and `plugins`, each further one the arguments of `Job.decode`. An answer
    holds ``found``, or ``errno`` and ``strerror`` where the array could not be written.
    """
    fields = json.loads(sys.stdin.readline())
    decoding = fields.pop("decoding")
    if registered := fields.pop("plugins"):
        Image.init()  # Else Pillow's own formats would take the place of a plugin of the same name later.
        for name, _, functions in registered:
            Image.register_open(name, *pickle.loads(bytes.fromhex(functions)))  # noqa: S301, of the process that began it
    job = Job(decoding=Decoding(**{**decoding, "background": tuple(decoding["background"])}), **fields)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"found": [asdict(facts) for facts in job.decode(*json.loads(line))]}
        except OSError as error:
            answer = {"errno": error.errno, "strerror": error.strerror}
        try:
            print(json.dumps(answer), flush=True)
        except BrokenPipeError:  # Whoever asked is gone, and nobody wants to read about it.
            os._exit(1)


if __name__ == "__main__":
    serve()
