"""``compare``: trains several backbones under one recipe, and reports."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from cnn_compare.commands import about
from cnn_compare.comparison.cluster import RayExecutor
from cnn_compare.comparison.compare import Outcome, compare, question_of, run_comparison, trial_runner
from cnn_compare.comparison.executor import Executor
from cnn_compare.comparison.existing import Request, examine
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.comparison.plan import Comparison, plan_runs, repeated, unsuited, until_decided
from cnn_compare.comparison.preview import preview
from cnn_compare.comparison.search import read_search, trials_of, with_tuned
from cnn_compare.comparison.spec import RunSpec
from cnn_compare.configs import as_list
from cnn_compare.errors import InvalidValueError, RunsFailedError
from cnn_compare.experiment import (
    ComparisonFile,
    Parser,
    RecipeFile,
    experiment_parser,
    plain_config,
    with_num_classes,
)
from cnn_compare.formatting import print_table
from cnn_compare.inference.collect import collect_pictures
from cnn_compare.inference.grad_cam import require_captum
from cnn_compare.report.planning import undecided, what_seeds_establish
from cnn_compare.report.terminal import print_report

SETTINGS = ("trainer", "model", "data", "target_acc", "monitor", "patience", "own_recipe", "threads")
"""What a run's configuration consists of."""


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
        name=options["name"],
        backbones=as_list(options["backbones"]),
        seeds=repeated(as_list(options["seeds"]), options["folds"], options["repeats"]),
        folds=options["folds"],
        train_subsets=options["train_subsets"],
        config=with_num_classes({name: options[name] for name in SETTINGS}),
        recipe=Path(files[0]).stem if files else None,
        variants=options["variants"] or {},
        published=options["published"],
        question=question_of(options["baseline"], options["margin"]),
        log_dir=options["log_dir"],
    )
    # Wrong options are refused before anything is run.
    stages = until_decided(comparison, options["seeds_until_decided"])
    specs = plan_runs(comparison)
    request = Request(options["on_existing"], as_list(options["rerun"]), as_list(options["drop"]))
    _executor(options)
    search = options["search"] and read_search(options["search"], options["trials"], options["search_budget_s"])
    if search and len(stages) > 1:
        raise InvalidValueError("search", "given", "left out with seeds_until_decided")
    trials = trials_of(comparison, search) if search else None
    if options["explain"]:
        require_captum("explain")
    if options["dry_run"]:
        if trials:
            _show(trials, plan_runs(trials), request)
            return
        _show(comparison, specs, request)
        if comparison.folds is None:
            networks = len({spec.network for spec in specs})
            print(what_seeds_establish(comparison.folder, networks, len(comparison.seeds)))
        return
    if search:
        run_trials = trial_runner(lambda: _executor(options), request, options["retries"])
        stages = [with_tuned(comparison, search, run_trials)]
    outcome, failed = _run_stages(stages, request, options)
    changed = outcome.changed or options["explain"]
    if changed:
        try:
            collect_pictures(outcome.folder, explain=options["explain"])
        # The runs are done: whatever is wrong with the pictures, the report is written.
        except Exception as error:
            print(f"the report is without new pictures: {error}", file=sys.stderr)
    # The reasons of failures were printed as the runs ended.
    print_report(outcome.folder, write=changed, failures=not outcome.changed)
    if failed:
        raise RunsFailedError(failed, outcome.folder)


def _parser() -> Parser:
    parser = experiment_parser(**about("compare"))
    parser.add_argument(
        "--config",
        action=ComparisonFile,
        help="A comparison, by name or path: a YAML file of these options; later ones take precedence.",
    )
    parser.add_argument(
        "--recipe", action=RecipeFile, help="A recipe, by name or path; the file and later options refine it."
    )
    parser.add_argument(
        "--published",
        type=dict | None,
        default=None,
        sub_configs=True,
        help="Figures for the report to show beside the results, or a YAML file of them.",
    )
    parser.add_function_arguments(compare, skip={*SETTINGS, "recipe", "published", "executor"})
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="Only show the runs: which are finished, which remain, about how long, and what they can establish.",
    )
    parser.add_argument(
        "--seeds_until_decided",
        type=int | None,
        default=None,
        metavar="N",
        help="Add seeds, up to N, until every difference is established, or by --margin excluded. There are up to "
        "three looks at the results, and each gets its part of the 5 %% of comparisons that may be wrong "
        "(simulated: up to 9 %%, where some networks' seeds deviate five times as much as others').",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="Show on the report's page where each network found its answer to the hardest test images (Grad-CAM; pip "
        "install 'cnn-compare[explain]').",
    )
    parser.add_function_arguments(make_executor)
    return parser


def _show(comparison: Comparison, specs: Sequence[RunSpec], request: Request) -> None:
    """Print a row for each run."""
    rows = preview(specs, examine(comparison, specs, request))
    print_table(rows, len(rows[0]) - 1, title=f"{comparison.folder}, nothing is run")
    for sentence in unsuited(specs):
        print(sentence)


def _run_stages(
    stages: Sequence[Comparison], request: Request, options: Mapping[str, Any]
) -> tuple[Outcome, list[str]]:
    """Run one stage after the other, until all differences are decided; what came of the last, and its failed runs."""
    for stage in stages:
        specs = plan_runs(stage)
        outcome = run_comparison(stage, specs, _executor(options), request, options["retries"], options["times"])
        failed = [spec.name for spec, result in zip(specs, outcome.results, strict=True) if result.status != "finished"]
        if len(stages) > 1:
            open_pairs = undecided(outcome.folder)
            print(f"after {len(stage.seeds)} seeds, {open_pairs} differences are undecided", file=sys.stderr)
            if failed or not open_pairs:
                break
            request = Request()  # Runs are deleted and begun anew only once.
    return outcome, failed


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
        ray_address: Of the cluster, ``auto`` for the one that this machine belongs to; None starts one here.
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
