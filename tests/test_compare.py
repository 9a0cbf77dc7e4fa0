from __future__ import annotations

import csv
import io
import re

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from helpers import DROPS, Shown, predictions, run_command, shown, small_comparison
from rich.console import Console
from sklearn.metrics import accuracy_score

from cnn_compare import DigitsDataModule, load_results, write_report
from cnn_compare.backbones import find_backbone
from cnn_compare.comparison import runner
from cnn_compare.comparison.plan import Comparison, plan_runs
from cnn_compare.comparison.spec import Progress, RunSpec
from cnn_compare.configs import differing_settings, flatten, merge_config
from cnn_compare.errors import (
    ConfigurationError,
    InvalidValueError,
    UnknownBackboneError,
    UsageError,
)
from cnn_compare.experiment import apply_own_recipe, resolve_config
from cnn_compare.results import RunFolder, RunResult
from cnn_compare.run_key import RunKey, path_name


@pytest.fixture(scope="module")
def run(finished):
    return finished / "lenet_relu" / "seed_1"


def test_every_run_leaves_its_artefacts(run):
    names = {path.name for path in run.iterdir()}
    assert names > {"config.yaml", "metrics.csv", "train.log", "predictions.npz", "result.json", "checkpoints"}
    assert [name for name in names if name.startswith("events.out.tfevents")]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_result_agrees_with_its_predictions_and_curves(run):
    result = RunResult.load(run / "result.json")
    with np.load(run / "predictions.npz", allow_pickle=False) as stored:
        assert result.value("test_acc_pct") == pytest.approx(
            100 * accuracy_score(stored["labels"], stored["predictions"])
        )
        assert stored["probabilities"].shape == (360, 10)
        assert result.test_images == 360
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    validation = [float(row["val/acc"]) for row in rows]
    assert result.value("best_val_acc_pct") == pytest.approx(100 * max(validation))
    assert result.best_epoch == validation.index(max(validation))
    assert result.train_epochs_s == pytest.approx([float(row["time/train_epoch_s"]) for row in rows])
    assert len(result.val_epochs_s) == 2
    assert sum(result.train_epochs_s) + sum(result.val_epochs_s) < result.value("fit_s")
    assert result.train_images == 120
    assert result.value("images_per_s") == pytest.approx(120 / result.train_epochs_s[1])
    assert result.value("first_epoch_s") == result.train_epochs_s[0]
    assert result.value("params") == 62_006  # LeCun et al. 1998 with three input channels, counted by hand
    assert result.versions["torch"]


def test_the_same_seed_shows_every_backbone_the_same_data(finished):
    table = load_results(finished)
    assert (table.groupby("seed").data_fingerprint.nunique() == 1).all()
    assert table.data_fingerprint.nunique() == 2
    assert predictions(finished, "lenet_relu", 0) != predictions(finished, "lenet_relu", 1)
    found = shown(finished)
    assert set(found.varied) == {"model.backbone", "seed_everything"}
    assert not [text for text in found.warnings if text.startswith("mixed")]


def test_only_backbone_and_seed_differ_between_stored_configurations(finished):
    configs = [yaml.safe_load(path.read_text()) for path in finished.rglob("config.yaml")]
    assert len(configs) == 4
    assert set(differing_settings(configs)) == {"model.backbone", "seed_everything"}


@pytest.mark.filterwarnings("ignore")
def test_a_stored_configuration_trains_again_with_fit(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--trainer.max_epochs=1", "--trainer.logger=false"]
    status, _, errors = run_command(["fit", "--config", str(run / "config.yaml"), *options], capsys)
    assert status == 0, errors


def test_a_data_module_object_means_the_same_as_its_class_and_arguments(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("result.json")}
    data = DigitsDataModule(40, train_subset=120, val_size=50, augmentation="crop_flip_cutout")
    small_comparison(finished.parent, backbones=["lenet", "lenet_relu"], seeds=[0, 1], data=data)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("result.json")} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": L.LightningDataModule()}, "data must be an ImageDataModule, or class_path and init_args of one"),
        ({"backbones": [torch.nn.Linear(3, 10)]}, "backbones must be names, because each run builds its own network"),
    ],
)
def test_objects_that_other_processes_cannot_make_again_are_refused(tmp_path, options, message):
    with pytest.raises(InvalidValueError, match=message):
        small_comparison(tmp_path, **options)


def test_a_failing_run_is_recorded_and_the_others_go_on(tmp_path):
    names = ["helpers:explodes", "helpers:dies", "lenet"]
    folder = small_comparison(tmp_path, backbones=names, trainer={"max_epochs": 1})
    write_report(folder)
    table = load_results(folder).set_index("backbone")
    assert list(table.status[names]) == ["failed", "failed", "finished"]
    assert table.reason[names[0]] == "RuntimeError: out of cheese"
    assert "killed by SIGKILL" in table.reason[names[1]]
    assert RunResult.load(folder / path_name(names[0]) / "seed_0" / "result.json").attempts == 1
    assert "out of cheese" in (folder / "report.md").read_text()
    first = (folder / "lenet" / "seed_0" / "result.json").stat().st_mtime_ns
    small_comparison(tmp_path, backbones=names, trainer={"max_epochs": 1})
    assert (folder / "lenet" / "seed_0" / "result.json").stat().st_mtime_ns == first


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backbones": ["resnet-18"]}, UnknownBackboneError, "Did you mean 'resnet18'"),
        ({"backbones": []}, InvalidValueError, "backbones"),
        ({"backbones": ["lenet", "lenet"]}, InvalidValueError, "backbones"),
        ({"backbones": ["lenet", "alexnet"]}, UsageError, "alexnet"),
        ({"seeds": []}, InvalidValueError, "seeds"),
        ({"seeds": ["a"]}, InvalidValueError, "seeds must be whole numbers"),
        ({"name": "../../x"}, InvalidValueError, "name"),
        ({"variants": {"../x": {}}}, InvalidValueError, "variants must be named with"),
        (
            {"variants": {"a": {"model": {"backbone": "vgg11"}}}},
            InvalidValueError,
            r"variants.a .* is 'model.backbone'",
        ),
        ({"variants": {"a": {"seed_everything": 3}}}, InvalidValueError, r"is 'seed_everything'"),
        ({"variants": {"a": {"model": {"stemm": "cifar"}}}}, ConfigurationError, "stemm"),
        ({"variants": {"a": {"model": {"stem": "cifr"}}}}, ConfigurationError, "cifr"),
        (
            {"variants": {"a": {"target_acc": 94}}},
            InvalidValueError,
            "target_acc must be a share above 0, up to 1, such",
        ),
        ({"target_acc": 0}, InvalidValueError, "target_acc must be a share above 0"),
        ({"target_acc": -0.1}, InvalidValueError, "target_acc must be a share above 0"),
    ],
)
def test_requests_that_cannot_work_are_refused_before_anything_runs(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        small_comparison(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def planned(**options):
    return plan_runs(Comparison("small", **{"backbones": ["lenet"], "seeds": [0], **options}))


def test_a_plan_has_one_run_for_each_backbone_and_seed_and_goes_seed_by_seed():
    config = resolve_config({"model": {"stem": "cifar"}})
    specs = planned(backbones=["lenet", "resnet20"], seeds=[3, 5], config=config, recipe="mine")
    assert [(spec.key.backbone, spec.key.seed) for spec in specs] == [
        ("lenet", 3),
        ("resnet20", 3),
        ("lenet", 5),
        ("resnet20", 5),
    ]
    assert str(specs[2].folder.path) == "lightning_logs/small/lenet/seed_5"
    assert specs[2].config == {
        **config,
        "seed_everything": 5,
        "model": {**config["model"], "backbone": "lenet"},
    }
    assert {spec.recipe for spec in specs} == {"mine"}


def test_the_own_recipe_is_in_the_planned_configuration_and_not_applied_to_it_again():
    (spec,) = planned(config=resolve_config({"own_recipe": True}))
    own = flatten(find_backbone("lenet").recipe_changes)
    assert own.items() <= flatten(spec.config).items()
    assert spec.declared_changes["model.optimizer.class_path"] == "torch.optim.SGD"
    changed = merge_config(spec.config, {"model": {"optimizer": {"init_args": {"lr": 0.123}}}})
    assert apply_own_recipe(changed) == changed


VARIANTS = {"published": {}, "flat": {"model": {"label_smoothing": 0.2}}, "own": {"own_recipe": True}}


def test_variants_differ_in_what_they_declare_and_nothing_else(tmp_path):
    folder = small_comparison(tmp_path, backbones=["lenet", "helpers:drops"], variants=VARIANTS)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "lenet+published",
        "lenet+flat",
        "lenet+own",
        f"{DROPS}+published",
        f"{DROPS}+flat",  # and no resnet20+own: it has no recipe of its own, and would be trained twice alike
    }
    results = {path.parents[1].name: RunResult.load(path) for path in folder.rglob("result.json")}
    configs = {path.parents[1].name: yaml.safe_load(path.read_text()) for path in folder.rglob("config.yaml")}
    for name, result in results.items():
        base = configs[f"{path_name(result.backbone)}+published"]
        changed = differing_settings([base, configs[name]])
        assert result.declared_changes == {setting: new for setting, (_, new) in changed.items()}
        assert result.variant == name.partition("+")[2]
    assert results[f"{DROPS}+flat"].declared_changes == {"model.label_smoothing": 0.2}
    assert results["lenet+own"].declared_changes["model.optimizer.class_path"] == "torch.optim.SGD"
    assert results[f"{DROPS}+published"].data_fingerprint == results[f"{DROPS}+flat"].data_fingerprint
    findings = Shown(write_report(folder))
    assert {network.name for network in findings.networks} > {"lenet (own)", "helpers:drops (flat)"}
    assert not [warning for warning in findings.warnings if "mixed" in warning]
    text = (folder / "report.md").read_text()
    assert "declared, not controlled: model.label_smoothing = 0.2 for " in text
    table = text.partition("## Test accuracy by variant\n\n")[2]
    assert table.startswith("| test acc. % | published | flat | own |\n")
    assert re.search(r"^\| helpers:drops \| \d.* \| \d.* \| – \|$", table, re.MULTILINE)
    assert "Test accuracy by variant" in (folder / "report.html").read_text()


def test_a_limit_on_the_time_ends_runs_that_have_none_on_their_epochs(tmp_path):
    trainer = {"max_epochs": -1, "max_time": "00:00:00:01"}
    table = load_results(small_comparison(tmp_path, trainer=trainer))
    assert list(table.status) == ["finished"]
    assert (table.test_images == 360).all()


def test_a_run_ends_at_the_target_accuracy_and_says_when_it_got_there(tmp_path):
    folder = small_comparison(tmp_path, trainer={"max_epochs": 30, "accelerator": "cpu"}, target_acc=0.2)
    (path,) = folder.rglob("result.json")
    result = RunResult.load(path)
    with (path.parent / "metrics.csv").open() as file:
        validation = [float(row["val/acc"]) for row in csv.DictReader(file)]
    assert [accuracy >= 0.2 for accuracy in validation] == [False] * (len(validation) - 1) + [True]
    assert len(validation) < 30
    assert result.target_acc_pct == 20
    assert result.value("seconds_to_target") == pytest.approx(sum(result.train_epochs_s))


def test_a_target_that_is_not_reached_leaves_all_epochs_and_no_time(tmp_path):
    folder = small_comparison(tmp_path, target_acc=1.0)
    result = RunResult.load(next(folder.rglob("result.json")))
    assert len(result.train_epochs_s) == 2
    assert (result.target_acc_pct, result.value("seconds_to_target")) == (100, None)


def display_of(tmp_path, *seeds):
    """A display of LeNet's runs of three epochs with these seeds, the runs, and what it prints."""
    config = {"trainer": {"max_epochs": 3}, "model": {"num_classes": 10, "stem": "imagenet"}}
    config["data"] = {"init_args": {}}
    specs = [RunSpec(RunKey("lenet", seed=seed), config, RunFolder(tmp_path / str(seed))) for seed in seeds]
    console = Console(file=io.StringIO(), width=200)
    return runner._RunsDisplay(specs, console), specs, console.file


def test_progress_without_a_terminal_is_a_plain_line_now_and_then(tmp_path):
    display, (spec, _), output = display_of(tmp_path, 0, 1)
    with display:
        for share in (0.1, 0.2, 0.3):
            display.update(spec, Progress(0, share))
    lines = [line for line in output.getvalue().splitlines() if "run 1 of 2" in line]
    assert lines == ["run 1 of 2: lenet/0, epoch 1 of 3"]


def test_the_time_left_is_shown_from_the_end_of_the_first_epoch_on(tmp_path, monkeypatch):
    seconds = [1000.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: seconds[0])
    display, (first, second), output = display_of(tmp_path, 0, 1)
    with display:
        # It goes on from its middle, so that 100 s are for a quarter of a run; one and a quarter are left.
        for epoch, share, passed in ((0, 0.0, 0), (0, 0.5, 10), (1, 0.75, 90)):
            seconds[0] += passed
            display.update(first, Progress(epoch, share))
        seconds[0] += 100
        display.end(first, first.result("finished"))
        seconds[0] += 10
        display.update(second, Progress(0, 0.0))
    lines = [line for line in output.getvalue().splitlines() if line.startswith("run ") and " of 2: " in line]
    assert lines == [
        *["run 1 of 2: lenet/0, epoch 1 of 3"] * 2,
        "run 1 of 2: lenet/0, epoch 2 of 3, about 8 min left",
        "run 2 of 2: lenet/1, epoch 1 of 3, about 7 min left",
    ]


def test_networks_known_to_learn_nothing_with_their_settings_are_named_before_the_first_run(
    tmp_path, capsys, monkeypatch
):
    def refused(*arguments):
        raise InvalidValueError("executor", "none", "here")

    monkeypatch.setattr("cnn_compare.comparison.compare.run_all", refused)
    # Steps of VGG16 take long.
    monkeypatch.setattr("cnn_compare.comparison.preview.seconds_per_image", lambda specs: [1.0] * len(specs))
    options = ["compare", "--recipe=report_scratch", "--name=x", f"--log_dir={tmp_path}", "--data=DigitsDataModule"]
    options += ["--backbones=[alexnet,vgg16,vgg16_bn,resnet18]", "--data.image_size=64"]
    named = "vgg16 and alexnet: known to learn nothing from random weights with Adam at a learning rate of 0.001"
    for dry_run in ([], ["--dry_run"]):
        _, shown, errors = run_command([*options, *dry_run], capsys)
        assert " ".join((shown + errors).split()).count(named) == 1
    for others in (["--model.optimizer.init_args.lr=0.0003"], ["--own_recipe=true"], ["--model.stem=cifar"]):
        _, shown, errors = run_command([*options, *others, "--dry_run"], capsys)
        assert "vgg16_bn" in shown
        assert "learn nothing" not in shown + errors
