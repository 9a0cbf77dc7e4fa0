"""What a prediction costs on this machine: of checkpoints with torch, of ONNX files with onnxruntime, side by side."""

from __future__ import annotations

import importlib
import importlib.util
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cnn_compare.data.decode import Decoding, decode
from cnn_compare.errors import MissingExtraError, NoTrainedNetworkError
from cnn_compare.inference.best import find_checkpoints
from cnn_compare.inference.classifier import Classifier
from cnn_compare.machine import PeakMemory, describe_device, tune_process
from cnn_compare.profiling import in_bf16, measured_alone, seconds_of
from cnn_compare.trusted import trust, trusted

BATCHES = (1, 8, 64)
LATENCIES = 200
CPU = torch.device("cpu")
# Of the picture that stands for the user's: a telephone's, made smaller.
WIDTH, HEIGHT = 1024, 768

Probabilities = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class PredictionCost:
    """What one file's predictions cost; names end in units.

    Args:
        file: As given.
        runtime: What computes, with its version.
        side: Height and width of the decoded pictures, in pixels.
        p50_ms: Of one picture, from its file to its probabilities.
        p95_ms: Likewise.
        decode_p50_ms: The part of it that decoding takes.
        images_per_s: Of decoded pictures, by batch size.
        bf16_images_per_s: At the largest batch size, with torch's autocast; None for other runtimes.
        file_bytes: Of the file; a checkpoint that training goes on from holds more than the weights.
        peak_memory_bytes: What network and predictions took.
        threads: That compute.
        device: Its name.
    """

    file: str
    runtime: str
    side: int
    p50_ms: float
    p95_ms: float
    decode_p50_ms: float
    images_per_s: dict[str, float]
    bf16_images_per_s: float | None
    file_bytes: int
    peak_memory_bytes: int
    threads: int
    device: str


def profile_predictions(
    files: Sequence[str], picture: str | None = None, output: str = "profile.json"
) -> list[PredictionCost]:
    """Measure each file's predictions on the processor, in its own process.

    Args:
        files: Checkpoints or folders, as for `Classifier.load`, and ONNX files.
        picture: Decoded for each prediction; None: one of 1024 x 768 pixels that is made up.
        output: JSON file for the results.

    Raises:
        NoTrainedNetworkError: If a file is neither a checkpoint nor an ONNX file.
        MissingExtraError: If onnxruntime is needed and not installed.
        BadPictureError: If the picture cannot be decoded.
    """
    for file in files:
        if not _is_onnx(file):
            find_checkpoints(Path(file).expanduser())
        elif not Path(file).expanduser().is_file():
            raise NoTrainedNetworkError(Path(file), "there is no such file")
        elif importlib.util.find_spec("onnxruntime") is None:
            raise MissingExtraError(f"files={file}", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(picture or made_up_picture(Path(folder))).expanduser()
        decode(shown, Decoding(32))  # Refuses a bad one before anything is measured.
        return measured_alone(measure, [(file, str(shown), trusted()) for file in files], output)


def made_up_picture(folder: Path) -> Path:
    """A JPEG with large shapes and some noise, as photographs have."""
    draw = np.random.default_rng(0)
    shapes = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
    pixels = np.asarray(shapes) + draw.normal(0, 4, (HEIGHT, WIDTH, 3))
    path = folder / "picture.jpg"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def measure(file: str, picture: str, modules: Sequence[str] = ()) -> PredictionCost:
    """Measure one file, which may name these modules; meant for a fresh process."""
    tune_process()
    trust(*modules)
    if _is_onnx(file):
        _onnxruntime()  # As torch, loaded before memory is counted.
    memory = PeakMemory()
    path = Path(file).expanduser()
    if _is_onnx(file):
        runtime, decoding, probabilities = _onnx(path)
    else:
        classifier = Classifier.load(path)
        assert classifier.checkpoint is not None
        path, decoding, probabilities = classifier.checkpoint, classifier.decoding, classifier.probabilities
        runtime = f"torch {torch.__version__}"
    pixels = np.random.default_rng(0).integers(0, 256, (max(BATCHES), decoding.side, decoding.side, 3), dtype=np.uint8)

    def from_file() -> None:
        probabilities(decode(Path(picture), decoding)[0][None])

    def images_per_s(batch: int, bf16: bool = False) -> float:
        def step() -> object:
            return probabilities(pixels[:batch])

        return batch / statistics.median(seconds_of(in_bf16(step, CPU) if bf16 else step, CPU))

    latencies = np.array(seconds_of(from_file, CPU, LATENCIES))
    decoding_s = statistics.median(seconds_of(lambda: decode(Path(picture), decoding), CPU, LATENCIES))
    speeds = {str(batch): images_per_s(batch) for batch in BATCHES}
    peak_memory_bytes = memory.bytes(CPU)
    bf16 = None if _is_onnx(file) else images_per_s(max(BATCHES), bf16=True)
    return PredictionCost(
        file=file,
        runtime=runtime,
        side=decoding.side,
        p50_ms=1000 * float(np.quantile(latencies, 0.5)),
        p95_ms=1000 * float(np.quantile(latencies, 0.95)),
        decode_p50_ms=1000 * decoding_s,
        images_per_s=speeds,
        bf16_images_per_s=bf16,
        file_bytes=path.stat().st_size,
        peak_memory_bytes=peak_memory_bytes,
        threads=torch.get_num_threads(),
        device=describe_device(CPU),
    )


def _is_onnx(file: str) -> bool:
    return Path(file).suffix == ".onnx"


def _onnxruntime() -> Any:
    return importlib.import_module("onnxruntime")


def _onnx(path: Path) -> tuple[str, Decoding, Probabilities]:
    """Runtime, decoding and function of an ONNX file that takes ``(batch, side, side, 3)`` uint8, as exported."""
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As many as torch has: otherwise the two could not be compared.
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # onnxruntime has an exception for each thing that can be wrong with a file.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise NoTrainedNetworkError(path, f"onnxruntime cannot read it ({reason})") from error
    (taken, *others), metadata = session.get_inputs(), session.get_modelmeta().custom_metadata_map
    shape = taken.shape
    if others or taken.type != "tensor(uint8)" or len(shape) != 4 or shape[3] != 3 or not isinstance(shape[1], int):
        raise NoTrainedNetworkError(path, f"it takes {taken.type} {shape}, and not uint8 pixels as `export` writes it")
    decoding = Decoding(shape[1], json.loads(metadata.get("fit", '"crop"')))
    return f"onnxruntime {onnxruntime.__version__}", decoding, lambda pixels: session.run(None, {taken.name: pixels})[0]
