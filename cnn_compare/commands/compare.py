"""``compare``: trains several backbones under one recipe, and reports."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from cnn_compare.commands import about
from cnn_compare.comparison.cluster import RayExecutor
from cnn_compare.comparison.compare import SETTINGS, carry_out
from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.existing import examine
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.comparison.plan import Comparison, plan_runs, unsuited, until_decided
from cnn_compare.comparison.preview import preview
from cnn_compare.comparison.runner import runs_failed
from cnn_compare.comparison.search import read_search, trials_of
from cnn_compare.data.once import reading_once
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import (
    ComparisonFile,
    RecipeFile,
    SettingsParser,
    experiment_parser,
    plain_config,
    read_classes,
)
from cnn_compare.formatting import print_table, print_text
from cnn_compare.inference.collect import collect_pictures
from cnn_compare.inference.grad_cam import require_captum
from cnn_compare.report.planning import undecided, what_seeds_establish
from cnn_compare.report.terminal import print_report

NO_OPTIONS = ("config", "recipe", "command", "looks", "tested")
"""Fields of a `Comparison` that the command fills in."""


@reading_once()
def run(arguments: list[str]) -> None:
    """Carry out the runs that are not finished, and report; or only show what would be run."""
    given = [argument for argument in arguments if argument.startswith("--model.backbone")]
    if given:
        raise InvalidValueError("model.backbone", given[0], "left out: backbones names what is compared")
    parser = _parser()
    parsed = parser.parse_args(arguments[1:])
    options = plain_config(parser, parsed)
    # Without a recipe, the first file that the settings come from gives the name.
    files = [str(path) for path in (parsed.recipe, *(parsed.config or [])) if path is not None]
    comparison = Comparison(
        **{field.name: options[field.name] for field in fields(Comparison) if field.name not in NO_OPTIONS},
        config=read_classes({name: options[name] for name in SETTINGS}),
        recipe=Path(files[0]).stem if files else None,
        command=shlex.join(["cnn-compare", *arguments]),
    )
    _executor(options)  # Its mistakes, too, are refused before anything is run.
    if options["explain"]:
        require_captum("explain")
    if options["dry_run"]:
        _show(comparison)
        return
    outcome = carry_out(comparison, lambda: _executor(options), undecided)
    changed = outcome.changed or options["explain"]
    if changed:
        try:
            collect_pictures(outcome.folder, explain=options["explain"])
        # The runs are done: whatever is wrong with the pictures, the report is written.
        except Exception as error:
            print(f"the report is without new pictures: {error}", file=sys.stderr)
    # The reasons of failures were printed as the runs ended.
    print_report(outcome.folder, write=changed, failures=not outcome.changed)
    if outcome.failed:
        raise runs_failed(outcome.failed, outcome.folder)


def _parser() -> SettingsParser:
    parser = experiment_parser(**about("compare"))
    parser.add_argument(
        "--config",
        action=ComparisonFile,
        help="A comparison, by name or path: a YAML file of these options; later ones take precedence.",
    )
    parser.add_argument(
        "--recipe", action=RecipeFile, help="A recipe, by name or path; the file and later options refine it."
    )
    parser.add_class_arguments(Comparison, skip={*NO_OPTIONS, "published"})
    parser.add_argument(
        "--published",
        type=dict | None,
        default=None,
        sub_configs=True,
        help="Figures for the report to show beside the results, or a YAML file of them.",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="Only show the runs: which are finished, which remain, about how long, and what they can establish.",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="Show on the report's page where each network found its answer to the hardest test images (Grad-CAM; pip "
        "install 'cnn-compare[explain]').",
    )
    parser.add_function_arguments(make_executor)
    return parser


def _show(comparison: Comparison) -> None:
    """Print a row for each run that would be carried out first, and what its seeds can establish."""
    (planned, *_) = until_decided(comparison)
    if comparison.search is not None:
        search = read_search(comparison.search, comparison.trials, comparison.search_budget_s)
        planned = trials_of(comparison, search)
    specs = plan_runs(planned)
    rows = preview(specs, examine(planned, specs))
    print_table(rows, len(rows[0]) - 1, title=f"{planned.folder}, nothing is run")
    if comparison.folds is None and comparison.search is None:
        networks = len({spec.key.network for spec in specs})
        print_text(what_seeds_establish(planned.folder, networks, len(planned.all_seeds)))
    for sentence in unsuited(specs):
        print_text(sentence)


def _executor(options: Mapping[str, Any]) -> Executor:
    return make_executor(**{name: options[name] for name in signature(make_executor).parameters})


def make_executor(
    executor: Literal["local", "ray"] = "local",
    jobs: int | Literal["auto"] = "auto",
    run_timeout_s: float | None = None,
    ray_address: str | None = None,
    resources_per_run: dict[str, float] | None = None,
) -> Executor:
    """The executor that the options describe.

    Args:
        executor: Where the runs take place: on this machine, or on a Ray cluster (``pip install 'cnn-compare[ray]'``).
        jobs: How many runs at a time on this machine; ``auto``: one a GPU, or without GPUs as many as make the
            comparison end first. Each gets GPUs of its own while there are enough, and an equal share of the cores.
        run_timeout_s: A run that is not done after so many seconds is stopped and has failed.
        ray_address: Address of the cluster, ``auto`` for the one of this machine; None starts one here.
        resources_per_run: What Ray is to set aside for each run, such as ``{GPU: 1, CPU: 4}``; None: a GPU if the
            cluster has any, and a processor core.

    Raises:
        InvalidValueError: If a value is out of range, or an option belongs to the other executor.
    """
    if run_timeout_s is not None and not run_timeout_s > 0:
        raise InvalidValueError("run_timeout_s", run_timeout_s, "more than 0")
    if executor == "ray":
        if jobs != "auto":
            raise InvalidValueError("jobs", jobs, "left out with executor=ray: the cluster runs as many as fit")
        return RayExecutor(ray_address, resources_per_run, run_timeout_s)
    for field, value in (("ray_address", ray_address), ("resources_per_run", resources_per_run)):
        if value is not None:
            raise InvalidValueError(field, value, "left out unless executor=ray")
    return LocalExecutor(jobs, run_timeout_s)
