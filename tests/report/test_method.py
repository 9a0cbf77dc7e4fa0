"""How a comparison was done, and its table of results as LaTeX: the same facts as in the stored configurations."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml
from helpers import LOGS, run_command

from cnn_compare.archive import archived_runs
from cnn_compare.report.load import find_runs
from cnn_compare.report.sections.method import how_it_was_done

CONFIG = {
    "trainer": {
        "max_epochs": 7,
        "callbacks": [{"class_path": "cnn_compare.PreciseBatchNorm", "init_args": {"images": 64}}],
    },
    "model": {
        "stem": "cifar",
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "momentum": 0.9, "nesterov": True}},
        "lr_scheduler": {"class_path": "cnn_compare.WarmupCosine", "init_args": {"warmup": 0.1, "total_steps": 1}},
        "label_smoothing": 0.1,
    },
    "data": {
        "class_path": "cnn_compare.CIFAR10DataModule",
        "init_args": {
            "batch_size": 48,
            "val_size": 500,
            "normalization": "imagenet",
            "augmentation": "crop_flip",
            "image_size": 40,
        },
    },
    "monitor": "val/loss",
}


def test_the_paragraph_has_every_fact_of_a_configuration(store_run, tmp_path):
    for seed in (3, 5):
        for name in ("lenet", "resnet18"):
            store_run(name, seed, config=CONFIG, train_images=4_000)
    command = "cnn-compare compare --config mine.yaml"
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "mine", "command": command}))
    text = how_it_was_done(find_runs(tmp_path))
    for fact in (
        "We trained lenet and resnet18 on CIFAR-10 (Krizhevsky 2009), which has 10 classes.",
        "4,000 training images, 500 validation images and 1,000 test images.",
        "scaled to 40 × 40 pixels and normalised with the mean and standard deviation of ImageNet",
        "augmented by shifts by up to 4 pixels and horizontal flips.",
        "with stems for small images started from random weights.",
        "7 epochs with SGD (learning rate 0.05, momentum 0.9, Nesterov), batches of 48 images",
        "rises over the first 10 % of the steps and falls to 0 along a cosine, in 32-bit floating point.",
        "Labels were smoothed by 0.1.",
        "Batch norm's statistics were recomputed from 64 training images before each validation.",
        "the epoch with the lowest validation loss.",
        "trained with 2 seeds (3 and 5), which decide",
        "Device: cpu: this one. Versions: torch 2.15.0.",
        f"Command: `{command}`.",
    ):
        assert fact in text
    assert "None" not in text


def test_what_differed_on_purpose_is_said_apart_from_what_all_others_had(store_run, tmp_path):
    store_run("lenet", config=CONFIG)
    other = {**CONFIG, "model": {**CONFIG["model"], "label_smoothing": 0.3}}
    changed = {"model.label_smoothing": 0.3, "model.optimizer.init_args.eps": None}
    store_run("resnet18", config=other, variant="smooth", declared_changes=changed)
    text = how_it_was_done(find_runs(tmp_path))
    assert "Labels were smoothed by 0.1." in text
    assert "Networks differed on purpose: resnet18 (smooth) had model.label_smoothing = 0.3." in text


@pytest.mark.parametrize("name", ["sign_language", "subset_5k", "cpu_64px"])
def test_stored_comparisons_are_described_as_their_configurations_have_it(name):
    text = how_it_was_done(find_runs(LOGS / name))
    (runs,) = archived_runs(LOGS / name).values()
    config = yaml.safe_load(next(runs.rglob("config.yaml")).read_text())
    optimizer = config["model"]["optimizer"]
    assert f"for {config['trainer']['max_epochs']} epochs with {optimizer['class_path'].rpartition('.')[2]} (" in text
    assert f"learning rate {optimizer['init_args']['lr']:g}" in text
    assert f"batches of {config['data']['init_args']['batch_size']} images" in text
    assert f"scaled to {config['data']['init_args']['image_size']} × " in text


def test_runs_without_configurations_have_no_paragraph(tmp_path, store_run):
    (store_run() / "config.yaml").unlink()
    assert how_it_was_done(find_runs(tmp_path)) == ""


@pytest.fixture
def latex(store_run, tmp_path, capsys):
    store_run("a_net|<{x}>", right=range(812), config=CONFIG)
    store_run("50%&$#~^\\", right=range(640), config=CONFIG)
    status, output, _ = run_command(["report", str(tmp_path), "--latex"], capsys)
    assert status == 0
    assert not (tmp_path / "report.md").exists()
    return output


def test_the_latex_table_has_the_reports_figures_and_intervals(latex, tmp_path, capsys):
    assert run_command(["report", str(tmp_path)], capsys)[0] == 0
    report = (tmp_path / "report.md").read_text()
    rows = [line.removesuffix(r" \\").split(" & ") for line in latex.splitlines() if line.endswith(r" \\")]
    heading, first, second = rows
    assert heading[:4] == ["network", "n", r"test acc. \%", r"95 \%"]
    for row in (first, second):
        plain = [cell.replace(r"$\pm$", "±").replace(r"\ldots{}", "…") for cell in row[1:4]]
        assert f"| {' | '.join(plain)} |" in report
    assert first[0] == r"a\_net\textbar{}\textless{}\{x\}\textgreater{}"
    assert re.search(r"\\caption\{.*95 \\% interval", latex)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_table_compiles(latex, tmp_path):
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + latex + "\n\\end{document}\n"
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-1500:]
    assert (tmp_path / "paper.pdf").exists()
