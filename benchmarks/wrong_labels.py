"""How many planted label errors are found: some labels of a table are flipped, and the report lists suspicious ones.

python benchmarks/wrong_labels.py LABELS.csv --recipe configs/recipes/photographs.yaml --backbones resnet18 googlenet

All pictures are judged by out-of-fold answers (five folds; pictures of one group are in one fold). Stated: how many of
the planted errors are among as many labels listed first, and among all that are listed.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import report

from cnn_compare import compare, write_report
from cnn_compare.files import write_csv
from cnn_compare.inference.collect import collect_pictures

SHARE = 0.02


def plant(table: Path, folder: Path, seed: int) -> tuple[Path, dict[str, str]]:
    """Copy a table of labels with errors in it, beside links to its pictures.

    Args:
        table: Columns ``path`` and ``label``, and maybe ``group``.
        folder: Where the copy goes.
        seed: Which labels are flipped, and to which class.

    Returns:
        The copy, and the path of each picture whose label was flipped with its right label.
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    draw, classes = np.random.default_rng(seed), sorted({row["label"] for row in rows})
    planted = {}
    for number in draw.choice(len(rows), round(SHARE * len(rows)), replace=False):
        row = rows[number]
        planted[row["path"]] = row["label"]
        row["label"] = str(draw.choice([name for name in classes if name != row["label"]]))
    for top in {Path(row["path"]).parts[0] for row in rows}:
        (folder / top).symlink_to((table.parent / top).resolve())
    write_csv(folder / "labels.csv", rows)
    return folder / "labels.csv", planted


def listed(folder: Path) -> list[dict[str, str]]:
    """The labels that the report lists, the most suspicious first."""
    collect_pictures(folder)
    write_report(folder)
    path = folder / "suspicious_labels.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Plant, train, count, and store the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--backbones", nargs="+", default=["resnet18"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0, help="of the planted errors")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, planted = plant(options.labels, Path(folder), options.seed)
        with table.open(encoding="utf-8") as file:
            group = "group" if "group" in next(csv.reader(file)) else None
        data: dict[str, Any] = {"class_path": "FolderDataModule", "init_args": {"labels": str(table), "group": group}}
        comparison = compare(
            "planted",
            options.backbones,
            folds=options.folds,
            recipe=options.recipe,
            data=data,
            trainer={"max_epochs": options.epochs} if options.epochs else None,
            log_dir=folder,
            times="never",
        )
        found = listed(comparison)
    first = [row["name"] for row in found[: len(planted)]]
    right = sum(row["instead"] == planted[row["name"]] for row in found if row["name"] in planted)
    counts = {
        "planted": len(planted),
        "listed": len(found),
        "planted among as many first": sum(name in planted for name in first),
        "planted among all listed": sum(row["name"] in planted for row in found),
        "of these, right label named": right,
    }
    how = {**vars(options), "labels": options.labels.name}
    report("wrong_labels", [counts], {"options": how, "listed": found})


if __name__ == "__main__":
    main()
