"""``report``: reports on stored runs."""

from __future__ import annotations

from pathlib import Path

from cnn_compare.commands import about, add_trust
from cnn_compare.errors import InvalidValueError
from cnn_compare.parsing import Parser
from cnn_compare.trusted import trust


def run(arguments: list[str]) -> None:
    """Write a comparison's report, and print it."""
    parser = Parser(**about("report"))
    parser.add_argument("runs_dir", type=Path, help="a comparison's folder, or any folder that holds runs")
    parser.add_argument("--baseline", metavar="NETWORK", help="compare each other network with this one")
    parser.add_argument("--margin", type=float, metavar="POINTS", help="networks closer than this count as the same")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="the best network with at most so much, such as params=10e6 (or at least, where more is better)",
    )
    parser.add_argument(
        "--measure_times",
        action="store_true",
        help="first let the comparison's networks take turns alone on this machine, up to 30 s each, to measure the "
        "seconds of an epoch",
    )
    parser.add_argument(
        "--latex",
        action="store_true",
        help="print the table of results as LaTeX, for a paper, and write nothing",
    )
    add_trust(parser)
    options = parser.parse_args(arguments[1:])
    trust(*options.trust)
    limits = {}
    for limit in options.limit:
        metric, _, value = limit.partition("=")
        try:
            limits[metric] = float(value)
        except ValueError:
            raise InvalidValueError("limit", limit, "METRIC=NUMBER, such as params=10e6") from None
    question = {"baseline": options.baseline, "margin": options.margin, "limits": limits}
    if options.measure_times:
        # It loads torch.
        from cnn_compare.comparison.turns import measure_times
        from cnn_compare.report.load import find_runs
        from cnn_compare.report.pairs import find_question

        find_question(find_runs(options.runs_dir), **question)  # What is wrong with it is said before minutes pass.
        measure_times(options.runs_dir)
    if options.latex:
        from cnn_compare.report.findings import Findings
        from cnn_compare.report.latex import results_in_latex
        from cnn_compare.report.load import find_runs

        print(results_in_latex(Findings(find_runs(options.runs_dir), **question)))
        return
    from cnn_compare.report.terminal import print_report

    print_report(options.runs_dir, **question)
