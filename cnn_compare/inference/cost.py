"""Milliseconds a prediction takes on this machine: of checkpoints with torch, of ONNX files with onnxruntime."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from cnn_compare.errors import InvalidValueError, MissingExtraError, NoTrainedNetworkError
from cnn_compare.files import write_json
from cnn_compare.inference.classifier import Classifier, Predict
from cnn_compare.machine import describe_device, tune_process
from cnn_compare.profiling import burst, take_turns

SECONDS_A_FILE = 10.0
CPU = torch.device("cpu")


@dataclass(frozen=True)
class PredictionTime:
    """The time of one file's predictions.

    Args:
        file: The file's name as it was given.
        runtime: The library that computes, with its version.
        side: Height and width of the decoded picture, in pixels.
        predict_ms: Milliseconds of one decoded picture, one value a round of turns.
        file_bytes: The file's size; a checkpoint that training goes on from holds more than the weights.
        device: Its name.
    """

    file: str
    runtime: str
    side: int
    predict_ms: list[float]
    file_bytes: int
    device: str


def time_predictions(
    files: Sequence[str], output: str = "profile.json", seconds_a_file: float = SECONDS_A_FILE
) -> list[PredictionTime]:
    """Let the predictions of files take turns on the processor, as the networks of a comparison do.

    Args:
        files: Checkpoints or folders, as for `Classifier.load`, and ONNX files.
        output: JSON file for the results.
        seconds_a_file: How long to measure at most; less, once ratios are known to 5 %.

    Raises:
        NoTrainedNetworkError: If a file is neither a checkpoint nor an ONNX file.
        MissingExtraError: If onnxruntime is needed and not installed.
        InvalidValueError: If ``output`` is a folder.
    """
    if Path(output).is_dir():
        raise InvalidValueError("output", output, "a file, and not a folder")
    tune_process()
    loaded = {file: _onnx(Path(file).expanduser()) if file.endswith(".onnx") else _torch(file) for file in files}
    turns = {file: _burst_of(predict, side) for file, (_, _, side, predict) in loaded.items()}
    rounds = take_turns(turns, seconds_a_file * len(loaded))
    device = describe_device(CPU)
    times = [
        PredictionTime(file, runtime, side, [1000 * each for each in rounds[file]], path.stat().st_size, device)
        for file, (path, runtime, side, _) in loaded.items()
    ]
    write_json(Path(output), [asdict(each) for each in times])
    return times


def _burst_of(predict: Predict, side: int) -> Callable[[int], float]:
    picture = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    return lambda steps: burst(lambda: predict(picture), CPU, steps)


def _torch(file: str) -> tuple[Path, str, int, Predict]:
    """File, runtime, side of its pictures, and function of a checkpoint."""
    classifier = Classifier.load(file)
    assert classifier.checkpoint is not None
    return classifier.checkpoint, f"torch {torch.__version__}", classifier.decoding.side, classifier.probabilities


def _onnx(path: Path) -> tuple[Path, str, int, Predict]:
    """File, runtime, side and function of an ONNX file that takes ``(batch, side, side, 3)`` uint8, as exported."""
    if not path.is_file():
        raise NoTrainedNetworkError(path, "there is no such file")
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError(f"files={path}", "onnx")
    onnxruntime = importlib.import_module("onnxruntime")
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
    taken, *others = session.get_inputs()
    shape = taken.shape
    if others or taken.type != "tensor(uint8)" or len(shape) != 4 or shape[3] != 3 or not isinstance(shape[1], int):
        raise NoTrainedNetworkError(path, f"it takes {taken.type} {shape}, and not uint8 pixels as `export` writes it")
    runtime = f"onnxruntime {onnxruntime.__version__}"
    return path, runtime, shape[1], lambda pixels: session.run(None, {taken.name: pixels})[0]
