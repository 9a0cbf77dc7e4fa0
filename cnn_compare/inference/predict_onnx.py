"""Predict with an exported network: ``python predict_onnx.py MODEL.onnx PICTURE...`` prints a table as CSV.

Needs numpy, Pillow and onnxruntime. Pictures are decoded as in training; what that takes is in the file's metadata.
"""

import csv
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

BILINEAR = Image.Resampling.BILINEAR


def pixels(path, side, fit, background):
    """A picture as ``(side, side, 3)`` RGB uint8: upright, transparency over the background, then fitted."""
    with Image.open(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32-bit grey values have no known range: convert the picture to 8 bits")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image.convert("RGBA"))
    image, shorter, scale = image.convert("RGB"), min(image.size), side / max(image.size)
    if fit == "squash":
        return np.asarray(image.resize((side, side), BILINEAR))
    if fit == "pad":
        inner = image.resize([max(1, round(length * scale)) for length in image.size], BILINEAR)
        image = Image.new("RGB", (side, side), background)
        image.paste(inner, [round((side - length) / 2) for length in inner.size])
        return np.asarray(image)
    scaled = [side * length // shorter for length in image.size]
    starts = [round((length - side) / 2) for length in scaled]
    left, top = (start * whole / new for start, whole, new in zip(starts, image.size, scaled))
    right, bottom = ((start + side) * whole / new for start, whole, new in zip(starts, image.size, scaled))
    return np.asarray(image.resize((side, side), BILINEAR, box=(left, top, right, bottom)))


def main(model, *paths):
    """Print ``path,label,probability`` of each picture; return the exit status."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    stored = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    table, status = csv.writer(sys.stdout, lineterminator="\n"), 0
    table.writerow(["path", "label", "probability"])
    for path in paths:
        try:
            picture = pixels(path, stored["size"], stored["fit"], tuple(stored["background"]))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises any of these for damaged files.
            print(f"{path}: {error}", file=sys.stderr)
            status = 1
            continue
        probabilities = session.run(None, {"pixels": picture[None]})[0][0]
        table.writerow([path, stored["class_names"][probabilities.argmax()], f"{probabilities.max():.6f}"])
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
