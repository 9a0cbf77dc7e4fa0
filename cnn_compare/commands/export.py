"""``export``: writes a trained network as a file for other programs."""

from __future__ import annotations

import sys

from cnn_compare.commands import about, add_trust
from cnn_compare.commands.function_parser import FunctionParser
from cnn_compare.inference.classifier import Classifier
from cnn_compare.inference.export import export, require_exportable
from cnn_compare.trusted import trust


def run(arguments: list[str]) -> None:
    """Export, and say how far the file's answers are from torch's."""
    parser = FunctionParser(**about("export"))
    parser.add_argument("checkpoint", help="a checkpoint, a run's folder, or a comparison's: its best network")
    add_trust(parser)
    wanted = parser.add_function_arguments(export, skip={"classifier"})
    parser.add_method_arguments(Classifier, "load", skip={"path", "ensemble", "backbone"})
    options = vars(parser.parse_args(arguments[1:]))
    trust(*options.pop("trust"))
    path, asked = options.pop("checkpoint"), {name: options.pop(name) for name in wanted}
    require_exportable(**asked)
    classifier = Classifier.load(path, **options)
    print(classifier.description, file=sys.stderr, flush=True)
    exported = export(classifier, **asked)
    print(f"exported: {exported.path}, {exported.path.stat().st_size / 2**20:,.1f} MiB")
    print(f"beside it: {', '.join(beside.name for beside in exported.beside)}")
    print(
        f"compared with torch on {exported.checked_on}: probabilities differ by at most "
        f"{100 * exported.difference:.2g} % of their value"
    )
