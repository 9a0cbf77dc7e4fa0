"""``profile``: measures what backbones and predictions cost on this machine."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from cnn_compare.commands import about, add_trust
from cnn_compare.commands.function_parser import FunctionParser
from cnn_compare.errors import InvalidValueError
from cnn_compare.formatting import format_count, print_table, shorten
from cnn_compare.profiling import bf16_in_words, profile
from cnn_compare.times import interval
from cnn_compare.trusted import trust


def run(arguments: list[str]) -> None:
    """Print and store the costs of untrained backbones, or the times of predictions by files of trained networks."""
    parser = FunctionParser(**about("profile"))
    parser.add_argument("files", nargs="*", help="checkpoints, comparisons and ONNX files; or --backbones")
    parser.add_argument("--backbones", type=list[str] | str, default=[], help="Names of untrained backbones, or one.")
    add_trust(parser)
    parser.add_function_arguments(profile, skip={"backbones"})
    options = parser.parse_args(arguments[1:])
    trust(*options.pop("trust"))
    if files := options.pop("files"):
        for name in ("backbones", "image_size", "stem"):
            if options[name] != parser.get_default(name):
                raise InvalidValueError(name, options[name], "left out where files are given")
        _time_predictions(files, options.output)
        return
    if not options.backbones:
        raise InvalidValueError("backbones", options.backbones, "at least one name where no files are given")
    profiles = profile(**options)
    rows = [
        {
            "backbone": measured.backbone,
            "params": format_count(measured.params),
            "MACs": format_count(measured.macs),
            "weights": f"{measured.weight_bytes / 2**20:,.1f} MiB",
            "train img/s": f"{measured.train_images_per_s:,.0f}",
            "predict ms": f"{measured.predict_ms:.3g}",
            "infer img/s": f"{measured.inference_images_per_s:,.0f}",
            "memory": f"{measured.peak_memory_bytes / 2**20:,.1f} MiB",
        }
        for measured in profiles
    ]
    first = profiles[0]
    print_table(rows, 1, title=f"{first.device}, {first.image_size} px, {first.stem} stem")
    training = {each.backbone: each.train_bf16_images_per_s / each.train_images_per_s for each in profiles}
    inference = {each.backbone: each.inference_bf16_images_per_s / each.inference_images_per_s for each in profiles}
    print(textwrap.fill(bf16_in_words({"training": training, "inference": inference}), 79))
    print(f"stored: {options.output}")


def _time_predictions(files: Sequence[str], output: str) -> None:
    # It loads Lightning, which untrained backbones do without.
    from cnn_compare.inference.cost import time_predictions

    measured = time_predictions(files, output)
    intervals = [interval(each.predict_ms) for each in measured]
    rows = [
        {
            "file": shorten(each.file, 32),
            "runtime": each.runtime,
            "ms": f"{mean:.3g}",
            "95 %": f"{low:.3g} to {high:.3g}",
            "MiB": f"{each.file_bytes / 2**20:,.1f}",
        }
        for each, (mean, low, high) in zip(measured, intervals, strict=True)
    ]
    print_table(rows, 2, title=f"{measured[0].device}; milliseconds of one decoded picture")
    print(f"stored: {output}")
