"""``profile``: measures what backbones and predictions cost on this machine."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from cnn_compare.commands import about, add_trust
from cnn_compare.commands.function_parser import FunctionParser
from cnn_compare.errors import InvalidValueError
from cnn_compare.formatting import format_count, print_table, shorten
from cnn_compare.profiling import bf16_in_words, profile
from cnn_compare.trusted import trust


def run(arguments: list[str]) -> None:
    """Print and store the costs of untrained backbones, or of predictions by files of trained networks."""
    parser = FunctionParser(**about("profile"))
    parser.add_argument("files", nargs="*", help="checkpoints, comparisons and ONNX files; or --backbones")
    parser.add_argument("--backbones", type=list[str] | str, default=[], help="Names of untrained backbones, or one.")
    parser.add_argument(
        "--picture", type=str | None, default=None, help="Decoded for each prediction; null: one that is made up."
    )
    add_trust(parser)
    parser.add_function_arguments(profile, skip={"backbones"})
    options = parser.parse_args(arguments[1:])
    trust(*options.pop("trust"))
    files, picture = options.pop("files"), options.pop("picture")
    if files:
        for name in ("backbones", "image_size", "stem"):
            if options[name] != parser.get_default(name):
                raise InvalidValueError(name, options[name], "left out where files are given")
        _profile_predictions(files, picture, options.output)
        return
    if not options.backbones:
        raise InvalidValueError("backbones", options.backbones, "at least one name where no files are given")
    if picture is not None:
        raise InvalidValueError("picture", picture, "given with files of trained networks")
    profiles = profile(**options)
    rows = [
        {
            "backbone": measured.backbone,
            "params": format_count(measured.params),
            "MACs": format_count(measured.macs),
            "weights": f"{measured.weight_bytes / 2**20:,.1f} MiB",
            "train img/s": f"{measured.train_images_per_s:,.0f}",
            "p50 / p90 ms": f"{measured.latency_p50_ms:.3g} / {measured.latency_p90_ms:.3g}",
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


def _profile_predictions(files: Sequence[str], picture: str | None, output: str) -> None:
    # It loads Lightning, which untrained backbones do without.
    from cnn_compare.inference.cost import BATCHES, profile_predictions

    costs = profile_predictions(files, picture, output)
    figures = {
        "runtime": [cost.runtime for cost in costs],
        "ms a picture, p50": [f"{cost.p50_ms:.3g}" for cost in costs],
        "ms a picture, p95": [f"{cost.p95_ms:.3g}" for cost in costs],
        "of it decoding, p50": [f"{cost.decode_p50_ms:.3g}" for cost in costs],
        **{f"images/s in batches of {n}": [f"{cost.images_per_s[str(n)]:,.0f}" for cost in costs] for n in BATCHES},
        f"images/s in batches of {max(BATCHES)}, bf16": [
            "–" if cost.bf16_images_per_s is None else f"{cost.bf16_images_per_s:,.0f}" for cost in costs
        ],
        "MiB on disk": [f"{cost.file_bytes / 2**20:,.1f}" for cost in costs],
        "MiB of memory": [f"{cost.peak_memory_bytes / 2**20:,.1f}" for cost in costs],
    }
    names = [shorten(cost.file, 24) for cost in costs]
    rows = [{"": figure, **dict(zip(names, values, strict=True))} for figure, values in figures.items()]
    print_table(rows, 1, title=f"{costs[0].device}; pictures of {costs[0].side} px once decoded")
    largest = str(max(BATCHES))
    measured = [(cost.file, cost.bf16_images_per_s, cost.images_per_s[largest]) for cost in costs]
    ratios = {file: bf16 / float32 for file, bf16, float32 in measured if bf16 is not None}
    if ratios:
        print(textwrap.fill(bf16_in_words({"inference": ratios}), 79))
    print(f"stored: {output}")
