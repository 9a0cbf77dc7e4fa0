"""A folder of runs -> `report.md` and `results.csv` beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_compare.errors import ResultError
from cnn_compare.report.load import find_runs, results_table
from cnn_compare.report.tables import COLUMNS, by_backbone, markdown_table, summary_rows
from cnn_compare.results import write_text

# The student report of 2023 that this project grew out of: ImageNet-pretrained torchvision networks, ten epochs of
# Adam, normalised with 0.5/0.5, PyTorch 2.0.1 on an RTX 3060. (seconds an epoch, accuracy %)
REPORT_2023 = {"alexnet": (17, 70.40), "vgg16": (129, 70.66), "googlenet": (26, 82.46), "resnet18": (17, 79.14)}


def write_report(folder: str | Path) -> pd.DataFrame:
    """Write ``report.md`` and ``results.csv`` into a folder of runs.

    Args:
        folder: A comparison's folder, or any folder that holds some.

    Returns:
        The table that `load_results` gives.

    Raises:
        InvalidValueError: If the folder is missing or holds no run.
    """
    folder = Path(folder)
    results, unreadable = find_runs(folder)
    table = results_table(results)
    write_text(folder / "results.csv", table.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "report.md", _markdown(folder, table, unreadable))
    return table


def _markdown(folder: Path, table: pd.DataFrame, unreadable: list[ResultError]) -> str:
    manifest = _manifest(folder)
    finished = table[table.status == "finished"]
    parts = [f"# {manifest.get('name', folder.name)}", _conditions(manifest, finished)]
    if len(finished):
        parts += [markdown_table(summary_rows(table), COLUMNS), _legend(finished)]
    parts += _failures(folder, table[table.status == "failed"], unreadable)
    if follows_report(manifest.get("config", {})) and (rows := _beside_2023(manifest, finished)):
        parts += rows
    return "\n\n".join(parts) + "\n"


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _conditions(manifest: dict[str, Any], finished: pd.DataFrame) -> str:
    lines = [
        f"- {label}: {', '.join(sorted(map(str, finished[column].dropna().unique())))}"
        for label, column in (
            ("device", "device"),
            ("precision", "precision"),
            ("data fingerprint", "data_fingerprint"),
        )
    ]
    if manifest.get("varied"):
        lines.insert(
            0, f"- varied: {', '.join(f'`{name}`' for name in manifest['varied'])}; every other setting is the same"
        )
    if (shared := finished[finished.contended.eq(True)].backbone.unique()).size:
        who = ", ".join(map(str, shared))
        lines.insert(
            0, f"- **contended: others used the machine while {who} trained; times are shown, not comparable**"
        )
    if broken := [name for name, same in manifest.get("controlled", {}).items() if not same]:
        lines.insert(0, f"- **not controlled: {', '.join(broken)} differ between the runs**")
    return "\n".join(lines)


def _legend(finished: pd.DataFrame) -> str:
    seeds = finished.groupby("backbone").seed.nunique().max()
    spread = "standard deviation over seeds" if seeds > 1 else "95 % sampling error of the test images, one seed"
    return (
        f"Test accuracy of the weights with the best validation accuracy, ± {spread}. "
        "Seconds per epoch: median without the first epoch (of all there is, with one epoch), training alone. "
        "Peak memory: of the GPU, or on a CPU of the whole process."
    )


def _failures(folder: Path, failed: pd.DataFrame, unreadable: list[ResultError]) -> list[str]:
    lines = [f"- {run.backbone}, seed {run.seed}: {' '.join(str(run.reason).split())}" for run in failed.itertuples()]
    lines += [f"- `{error.path.parent.relative_to(folder)}`: {error.reason}" for error in unreadable]
    return ["## Runs without a result", "\n".join(lines)] if lines else []


def follows_report(config: dict[str, Any]) -> bool:
    """Whether a resolved configuration trains as the 2023 report did, image size and pretraining aside."""
    model, data, trainer = (config.get(section) or {} for section in ("model", "data", "trainer"))
    optimizer = model.get("optimizer") or {}
    data_args = data.get("init_args") or {}
    return (
        optimizer.get("class_path", "").endswith(".Adam")
        and optimizer.get("init_args", {}).get("lr") == 1e-3
        and model.get("lr_scheduler") is None
        and data.get("class_path", "").endswith("CIFAR10DataModule")
        and data_args.get("normalization") == "half"
        and data_args.get("augmentation") == "none"
        and data_args.get("train_subset") is None
        and trainer.get("max_epochs") == 10
    )


def _beside_2023(manifest: dict[str, Any], finished: pd.DataFrame) -> list[str]:
    columns = {
        "backbone": "backbone",
        "acc": "accuracy %",
        "acc_2023": "2023 %",
        "s": "s / epoch",
        "s_2023": "2023 s / epoch",
    }
    rows = [
        {
            "backbone": backbone,
            "acc": f"{runs.test_acc_pct.mean():.2f}",
            "acc_2023": f"{REPORT_2023[backbone][1]:.2f}",
            "s": f"{runs.train_epoch_s.median():.3g}",
            "s_2023": str(REPORT_2023[backbone][0]),
        }
        for backbone, runs in by_backbone(finished)
        if backbone in REPORT_2023
    ]
    if not rows:
        return []
    config = manifest["config"]
    start = "ImageNet weights" if config["model"]["pretrained"] else "random weights, where the report had ImageNet's"
    size = config["data"]["init_args"]["image_size"]
    note = (
        f"Ours: {start}; images of {size} px; a validation split kept apart and the test set used once. "
        "The report: RTX 3060, PyTorch 2.0.1. Its times are another machine's."
    )
    return ["## Beside the report of 2023", markdown_table(rows, columns), note]
