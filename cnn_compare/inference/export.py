"""A trained network as a file for other programs, whose answers are compared with torch's before it is written."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn_compare.backbones import converts_input
from cnn_compare.checkpointing import require_checkpoint
from cnn_compare.data.augment import to_input
from cnn_compare.errors import (
    InvalidValueError,
    MissingExtraError,
    NoTrainedNetworkError,
    RunError,
)
from cnn_compare.experiment import data_defaults, make_data
from cnn_compare.files import require_absent, write_bytes
from cnn_compare.formatting import quiet
from cnn_compare.inference.classifier import Classifier, Predict
from cnn_compare.inference.model_card import model_card
from cnn_compare.machine import versions
from cnn_compare.run_key import path_name

Format = Literal["onnx", "torch_export", "safetensors"]
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
# The packages that a format needs, and which an extra of the same name installs.
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "safetensors": ("safetensors",)}

CARD, SCRIPT = "model_card.md", "predict_onnx.py"
BATCHES = (1, 2, 7)
"""Batch sizes at which a file is compared with torch."""
# Of the logarithms of probabilities, so that a network whose answers hardly differ is compared as strictly as others;
# probabilities below the floor count as equal. Rounding alone makes such differences: the answers of a fresh ResNet-152
# in float32 are 0.7 % from those in float64. What exporters get wrong changes answers by far more.
TOLERANCE, FLOOR = 1e-2, 1e-6
PATCHES = 4
# What protobuf, the format of ONNX files, can hold.
LARGEST_ONNX_BYTES = 2**31 - 1

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Exported:
    """The files that `export` has written.

    Args:
        path: The exported file.
        beside: The other files.
        checked_on: The images on which its answers were compared with torch's, in words.
        difference: The largest one between the probabilities, as a share of torch's.
    """

    path: Path
    beside: list[Path]
    checked_on: str
    difference: float


class PixelsToProbabilities(nn.Module):
    """The graph of an exported file: ``(B, side, side, 3)`` uint8 RGB to probabilities ``(B, classes)`` float32.

    Normalisation, the resize to the network's input, and the mean with the mirror image are part of it.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.module = classifier.module
        self.mean_std, self.image_size = classifier.mean_std, classifier.image_size

    def forward(self, pixels: Tensor) -> Tensor:
        """Probabilities of decoded pictures."""
        return self.module.probabilities(to_input(pixels.permute(0, 3, 1, 2), self.mean_std, self.image_size))


def export(classifier: Classifier, format: Format = "onnx", output: str | Path | None = None) -> Exported:
    """Write a trained network as one file, with a model card beside it, and for ONNX a program that uses the file.

    The file is run with 1, 2 and 7 images and compared with torch before it is written: with test images where the
    checkpoint's data is at hand, else with random colours. The same checkpoint gives the same bytes each time.

    Args:
        classifier: One from `Classifier.load`.
        format: ``onnx`` and ``torch_export`` turn ``(batch, side, side, 3)`` uint8 RGB pixels into probabilities
            ``(batch, classes)`` float32; ``safetensors`` holds the weights alone, for ``model.weights``.
        output: The file, which ends in ``.onnx``, ``.pt2`` or ``.safetensors``; None: in
            ``exported/<backbone>/``.

    Raises:
        InvalidValueError: If the format is unknown, or ``output`` has another suffix.
        UsageError: If a file is there already; its folder may have the model card of the same network.
        MissingExtraError: If the format needs packages that are not installed.
        NoTrainedNetworkError: If the network gives no numbers.
        RunError: If the network cannot be exported, or the file answers otherwise than torch.
    """
    if classifier.others:
        raise InvalidValueError("ensemble", True, "left out: a file holds one network")
    name = str(classifier.module.hparams["backbone"])
    path = Path("exported", path_name(name), path_name(name) + SUFFIXES.get(format, ""))
    path = path if output is None else Path(output).expanduser()
    require_exportable(format, path)
    facts, (pixels, checked_on) = facts_of(classifier), check_pixels(classifier)
    if not np.isfinite(classifier.probabilities(pixels)).all():
        reason = "its probabilities are not finite numbers, as after a training that diverged"
        raise NoTrainedNetworkError(classifier.checkpoint or Path(name), reason)
    beside = {path.with_name(CARD): model_card(classifier, facts, checked_on).encode()}
    if format == "onnx":
        beside[path.with_name(SCRIPT)] = Path(__file__).with_name(SCRIPT).read_bytes()
    for other, content in beside.items():
        # That of another format of the same network is the same.
        if other.exists() and not (other.is_file() and other.read_bytes() == content):
            require_absent(other)
    # A copy, on the processor and without gradients: what is traced stays where it is, and as it is.
    classifier = copy.deepcopy(classifier).to("cpu")
    classifier.module.requires_grad_(False)
    write, load = FORMATS[format]
    try:
        with quiet():
            content = write(PixelsToProbabilities(classifier), pixels[:2], facts)
            difference = largest_difference(classifier.probabilities, load(content, classifier), pixels)
    # Tracing meets all that a network, which may be the user's own code, can do.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or "without a message"
        raise _not_exported(name, format, f"the exporter fails ({type(error).__name__}: {reason})") from error
    if not difference <= TOLERANCE:
        how = f"by {100 * difference:.3g} %" if difference < np.inf else "in shape or type, or are no numbers"
        raise _not_exported(name, format, f"the file's probabilities differ from torch's {how}")
    for other, text in beside.items():
        write_bytes(other, text)
    write_bytes(path, content)
    return Exported(path, [*beside], checked_on, difference)


def require_exportable(format: Format, output: str | Path | None = None) -> None:
    """Check what can be before a network is loaded; arguments and errors are those of `export`."""
    if format not in get_args(Format):
        raise InvalidValueError("format", format, f"one of {', '.join(get_args(Format))}")
    if any(importlib.util.find_spec(package) is None for package in PACKAGES.get(format, ())):
        raise MissingExtraError(f"format={format}", format)
    if output is None:
        return
    path = Path(output).expanduser()
    if path.suffix != SUFFIXES[format]:
        raise InvalidValueError("output", str(path), f"a file whose name ends in {SUFFIXES[format]}")
    require_absent(path)


def _not_exported(backbone: str, format: str, reason: str) -> RunError:
    way_out = "" if format == "safetensors" else " format=safetensors stores the weights alone."
    return RunError(f"{backbone} is not exported as {format}, and nothing is written: {reason}.{way_out}", ["format"])


def facts_of(classifier: Classifier) -> dict[str, Any]:
    """The metadata of every exported file: how to use the network, and where it comes from; plain values."""
    module, decoding = classifier.module, classifier.decoding
    digest = None
    if classifier.checkpoint is not None:
        with classifier.checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "class_names": classifier.class_names,
        "size": decoding.side,
        "fit": decoding.fit,
        "background": list(decoding.background),
        "image_size": classifier.image_size,
        "mean_std": [list(part) for part in classifier.mean_std],
        "backbone": module.hparams["backbone"],
        "stem": module.hparams["stem"],
        "transform_input": converts_input(module.backbone),
        "flip_tta": module.hparams["flip_tta"],
        "checkpoint_sha256": digest,
        "data_fingerprint": classifier.fingerprint,
        "trained_with": classifier.versions,
        "exported_with": versions(),
    }


def check_pixels(classifier: Classifier) -> tuple[Pixels, str]:
    """Return as many images as the largest batch of a check has, and what they are, in words.

    Test images, spread over all of them, where the data that the checkpoint names is there; else random colours.
    """
    count, side = max(BATCHES), classifier.decoding.side
    try:
        if (images := _test_images(classifier, count)) is not None:
            return images, f"{count} test images"
    # Data modules are the user's code, too, and a file that cannot be checked on pictures still can on pixels.
    except Exception as error:
        logging.getLogger(__name__).debug("no test images", exc_info=error)
    # Large patches: of single pixels, a network that averages over the image sees little but their mean.
    patch = np.arange(side) * PATCHES // side
    colours = np.random.default_rng(0).integers(0, 256, (count, PATCHES, PATCHES, 3), dtype=np.uint8)
    return colours[:, patch][:, :, patch], f"{count} images of random colours, because its test images are not at hand"


def _test_images(classifier: Classifier, count: int) -> Pixels | None:
    stored = None if classifier.checkpoint is None else require_checkpoint(classifier.checkpoint).get("data")
    if not stored:
        return None
    data = make_data({"data": data_defaults(stored)})
    folder = getattr(data, "data_dir", None)
    if folder is not None and not Path(folder).is_dir():
        return None  # Nothing is to be downloaded for this.
    if list(data.class_names) != classifier.class_names:
        return None
    test = data.splits["test"]
    chosen = test.subset[torch.linspace(0, len(test) - 1, count).long()]
    return classifier.pixels(test.images[chosen].numpy())


def largest_difference(expected: Predict, found: Predict, pixels: Pixels) -> float:
    """The largest difference of log-probabilities over all batches of a check; infinite for a wrong shape or value.

    Args:
        expected: Gives the right probabilities.
        found: Gives those to check.
        pixels: ``(N, side, side, 3)``, as many as the largest batch.
    """
    differences = [0.0]
    for size in BATCHES:
        right, answer = expected(pixels[:size]), found(pixels[:size])
        if answer.shape != right.shape or answer.dtype != np.float32 or not np.isfinite(answer).all():
            return float("inf")
        logarithms = [np.log(np.maximum(each, FLOOR)) for each in (right, answer)]
        differences.append(float(np.abs(logarithms[0] - logarithms[1]).max()))
    return max(differences)


def _traced(graph: nn.Module, pixels: Pixels) -> Any:
    """The program that torch has traced, for any number of images."""
    example = torch.from_numpy(pixels)
    graph(example)  # What is computed once and kept is computed before tracing, which would keep placeholders.
    program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # Holds paths of this machine.
    return program


def _to_onnx(graph: nn.Module, pixels: Pixels, facts: Mapping[str, Any]) -> bytes:
    program = torch.onnx.export(
        _traced(graph, pixels),
        dynamo=True,
        external_data=False,
        input_names=["pixels"],
        output_names=["probabilities"],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    # All that describes the tracing: it holds names and paths of this machine.
    del model.graph.value_info[:], model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    size = model.ByteSize()
    if size > LARGEST_ONNX_BYTES:
        raise ValueError(f"it has {size / 2**30:.1f} GiB, and an ONNX file holds 2 at most")
    return bytes(model.SerializeToString(deterministic=True))


def _run_onnx(content: bytes, classifier: Classifier) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def _to_torch_export(graph: nn.Module, pixels: Pixels, facts: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_traced(graph, pixels), buffer, extra_files={"metadata.json": json.dumps(facts)})
    return buffer.getvalue()


def _run_torch_export(content: bytes, classifier: Classifier) -> Predict:
    network = torch.export.load(io.BytesIO(content)).module()

    def run(pixels: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(pixels)))

    return run


def _to_safetensors(graph: nn.Module, pixels: Pixels, facts: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save

    module: Any = graph.module
    # Tensors of their own: the format has neither shared memory nor memory formats.
    weights = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in module.backbone.state_dict().items()
    }
    # Under one name: the library writes several in an order that differs each time.
    return bytes(save(weights, {"cnn_compare": json.dumps(facts)}))


def _run_safetensors(content: bytes, classifier: Classifier) -> Predict:
    from safetensors.torch import load

    module = copy.deepcopy(classifier.module)
    for tensor in module.backbone.state_dict().values():
        tensor.zero_()
    module.backbone.load_state_dict(load(content))
    again = Classifier(module, classifier.class_names, classifier.decoding, classifier.image_size, classifier.mean_std)
    return again.probabilities


# Format -> what makes its bytes of a network, an example and the metadata, and what runs these bytes.
FORMATS: dict[
    str, tuple[Callable[[nn.Module, Pixels, Mapping[str, Any]], bytes], Callable[[bytes, Classifier], Predict]]
] = {
    "onnx": (_to_onnx, _run_onnx),
    "torch_export": (_to_torch_export, _run_torch_export),
    "safetensors": (_to_safetensors, _run_safetensors),
}
