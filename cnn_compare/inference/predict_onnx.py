"""Predict with an exported network: ``python predict_onnx.py MODEL.onnx PICTURE...`` prints a table as CSV.

Needs numpy, Pillow and onnxruntime. Pictures are decoded as in training; what that takes is in the file's metadata.
"""

import csv
import json
import re
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

BILINEAR = Image.Resampling.BILINEAR


def pixels(path: str, side: int, fit: str, background: tuple[int, int, int]) -> np.ndarray:
    """A picture as ``(side, side, 3)`` RGB uint8: upright, transparent parts over the background, then fitted."""
    with Image.open(path) as file:
        file.load()
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("the range of its 32-bit values is not known: convert it to 8 bits")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image.convert("RGBA"))
    image, (width, height) = image.convert("RGB"), image.size
    if fit == "squash":
        return np.asarray(image.resize((side, side), BILINEAR))
    if fit == "pad":
        scale = side / max(width, height)
        inside = max(1, round(width * scale)), max(1, round(height * scale))
        padded = Image.new("RGB", (side, side), background)
        padded.paste(image.resize(inside, BILINEAR), (round((side - inside[0]) / 2), round((side - inside[1]) / 2)))
        return np.asarray(padded)
    (left, right), (top, bottom) = (middle(length, min(width, height), side) for length in (width, height))
    return np.asarray(image.resize((side, side), BILINEAR, box=(left, top, right, bottom)))


def middle(length: int, shorter: int, side: int) -> tuple[float, float]:
    """Begin and end of the middle along one axis."""
    scaled = side * length // shorter
    start = round((scaled - side) / 2)
    return start * length / scaled, (start + side) * length / scaled


def cell(text: str) -> str:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{text}" if re.match(r"'*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])", text) else text


def main(model: str, *paths: str) -> int:
    """Print class and probability of each picture; return 1 if one of them cannot be decoded, else 0."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    known = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    table, status = csv.writer(sys.stdout, lineterminator="\n"), 0
    table.writerow(["path", "label", "probability"])
    for path in paths:
        try:
            picture = pixels(path, known["size"], known["fit"], tuple(known["background"]))
        except Exception as error:  # Pillow raises many kinds for damaged files.
            print(f"{path}: {error}", file=sys.stderr)
            status = 1
            continue
        probabilities = session.run(None, {"pixels": picture[None]})[0][0]
        label = known["class_names"][probabilities.argmax()]
        table.writerow([cell(path), cell(label), f"{probabilities.max():.6g}"])
    return status


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python predict_onnx.py MODEL.onnx PICTURE...")
    sys.exit(main(*sys.argv[1:]))
