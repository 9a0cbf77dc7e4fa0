"""``predict``: classifies pictures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from cnn_compare.commands import about, add_trust
from cnn_compare.commands.function_parser import FunctionParser
from cnn_compare.errors import ConfigurationError, RunError
from cnn_compare.formatting import print_table
from cnn_compare.trusted import trust


def run(arguments: list[str]) -> None:
    """Print, or store, a table of pictures and their most probable classes."""
    if of_lightning := [word for word in arguments if re.match("--(ckpt_path|config|data|model|trainer)", word)]:
        raise ConfigurationError(
            f"predict takes no {of_lightning[0].partition('=')[0]}: checkpoint and pictures are given as in "
            "`cnn-compare predict best.ckpt photos/`, and `cnn-compare test` evaluates on a data set's test images"
        )
    from cnn_compare.inference.classifier import Classifier
    from cnn_compare.inference.predict import as_csv, classify_files, require_output, write_table
    from cnn_compare.machine import tune_process

    parser = FunctionParser(**about("predict"))
    parser.add_argument("checkpoint", help="a checkpoint, a run's folder, or a comparison's: its best network")
    parser.add_argument("pictures", nargs="+", help="files, folders, or patterns such as 'photos/*.jpg'")
    parser.add_argument("--output", type=Path | None, default=None, help="A new file, .csv or .json, for the table.")
    parser.add_argument("--top_k", type=int, default=3, help="How many of the most probable classes are named.")
    parser.add_argument("--batch_size", type=int, default=64, help="Pictures that the network gets at a time.")
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="Average the probabilities of all seeds of a comparison's best network; it takes as many times as long.",
    )
    add_trust(parser)
    parser.add_method_arguments(Classifier, "load", skip={"path", "ensemble", "backbone"})
    options = vars(parser.parse_args(arguments[1:]))
    path, pictures, output, top_k, batch_size = (
        options.pop(name) for name in ("checkpoint", "pictures", "output", "top_k", "batch_size")
    )
    trust(*options.pop("trust"))
    if output is not None:
        require_output(output)
    tune_process()
    classifier = Classifier.load(path, **options)
    print(classifier.description, file=sys.stderr, flush=True)
    table, reasons = classify_files(classifier, pictures, top_k, batch_size)
    if output is not None:
        write_table(table, output)
        print(f"stored: {output}")
    elif sys.stdout.isatty():
        print_table([_answer(row) for _, row in table.iterrows()], 4)
    else:
        print(as_csv(table), end="", flush=True)
    for path, reason in reasons.items():
        print(f"{path}: {reason}", file=sys.stderr)
    if reasons:
        paths = f"{len(reasons):,} path{'' if len(reasons) == 1 else 's'}"
        others = f"{len(table):,} picture{' was' if len(table) == 1 else 's were'}"
        raise RunError(f"{paths} could not be classified, for the reasons above; {others}.")


def _answer(row: Any) -> dict[str, str]:
    """A picture's row of the table as a terminal shows it."""
    later = [f"_{rank}" for rank in range(2, len(row) // 2 + 1)]
    runners_up = [f"{row[f'label{rank}']} {100 * row[f'probability{rank}']:.1f} %" for rank in later]
    answer = {"picture": row["path"], "class": row["label"], "probability": f"{100 * row['probability']:5.1f} %"}
    return answer | ({"next": ", ".join(runners_up)} if runners_up else {})
