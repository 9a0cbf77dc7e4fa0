"""What a command does about runs that exist already. Runs are recorded without any training."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import DATA, Shown, command, run_command, small_comparison
from PIL import Image

from cnn_compare import DigitsDataModule, ImageDataModule, write_report
from cnn_compare.archive import ARCHIVE
from cnn_compare.backbones import code_fingerprint
from cnn_compare.cli import main
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.errors import ComparisonExistsError, InvalidValueError
from cnn_compare.experiment import make_data
from cnn_compare.report.control import other_pictures
from cnn_compare.results import MANIFEST, Metric, RunResult

ROOT = Path(__file__).parents[1]
FAILS = "json:loads"


@pytest.fixture(autouse=True)
def ran(monkeypatch):
    """The names of the runs that were carried out: `FAILS` fails, every other one gets an accuracy at once."""
    names = []

    def run(self, spec, on_progress):
        names.append(spec.key.label)
        spec.folder.save_config(spec.config)
        if spec.key.backbone == FAILS:
            return "out of cheese"
        metrics = {"test_acc_pct": Metric(50.0, "%", True), "fit_s": Metric(600.0, "s", False)}
        code = code_fingerprint(spec.key.backbone, 10, "imagenet")
        data = make_data(spec.config)
        data.seed = spec.key.seed
        own = {} if isinstance(data, DigitsDataModule) else {"data_fingerprint": data.fingerprint()}
        own |= {"pictures": data.pictures_fingerprint(), "data": data.describe()} if own else {}
        if own:
            own |= {"train_images": len(data.splits["train"]), "test_images": len(data.splits["test"])}
        result = spec.result("finished", metrics=metrics, code_fingerprint=code, device="cpu: made up", **own)
        spec.folder.save_result(result)
        return None

    monkeypatch.setattr(LocalExecutor, "run", run)
    return names


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def compare_command(folder: Path, capfd, *arguments: str) -> tuple[int, str, str]:
    return run_command(command(folder, *arguments)[3:], capfd)


def test_a_repeat_that_finds_everything_finished_says_so_first_and_changes_no_file(tmp_path, ran, capfd):
    options = ["--backbones=[lenet,resnet20]", "--seeds=[0,1]"]
    compare_command(tmp_path, capfd, *options)
    before = files(tmp_path / "small")
    status, output, errors = compare_command(tmp_path, capfd, *options)
    assert (status, len(ran)) == (0, 4)
    assert errors.splitlines()[1].startswith(f"{tmp_path}/small: all 4 runs finished earlier (20")
    assert "Nothing is run, and no file changes. To run anew: another --log_dir or" in errors.splitlines()[1]
    assert "50.00" in output
    assert files(tmp_path / "small") == before


def test_a_reference_comparison_in_a_clone_is_shown_with_its_date_and_not_rewritten(
    tmp_path, ran, capfd, monkeypatch, real_cifar10
):
    # Looking for leaks among 45,000 images takes minutes, and so does measuring times.
    monkeypatch.setattr("cnn_compare.commands.compare.collect_pictures", lambda *_, **options: None)
    shutil.copytree(ROOT / "lightning_logs" / "report_scratch_32", tmp_path / "report_scratch_32")
    before = files(tmp_path / "report_scratch_32")
    config = ROOT / "configs" / "comparisons" / "report_scratch_32.yaml"
    status, output, errors = run_command(["compare", f"--config={config}", f"--log_dir={tmp_path}"], capfd)
    assert (status, ran) == (0, [])
    assert "all 4 runs finished earlier (2026-11-22" in errors.splitlines()[1]
    assert "76.27" in output
    assert before.items() <= files(tmp_path / "report_scratch_32").items()
    shutil.rmtree(tmp_path / "report_scratch_32" / "lenet")
    run_command(["compare", f"--config={config}", f"--log_dir={tmp_path}", "--rerun=[lenet/0]", "--times=never"], capfd)
    # Else the run that has just been deleted would come back.
    assert (ran, (tmp_path / "report_scratch_32" / ARCHIVE).exists()) == (["lenet/0"], False)


def test_a_run_of_an_earlier_command_is_shown_with_its_date_and_device(tmp_path, ran, capfd):
    small_comparison(tmp_path)
    capfd.readouterr()
    small_comparison(tmp_path, seeds=[0, 1])
    assert ran == ["lenet/0", "lenet/1"]
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(" (20")[0] for line in lines if line.startswith("lenet/")] == [
        "lenet/0: 50.00 %, finished earlier",
        "lenet/1: 50.00 %",
    ]
    assert ", cpu: made up)" in "".join(lines)


def test_variants_called_like_settings_hide_no_change_of_these(tmp_path, ran):
    changes = {
        "model": {"label_smoothing": 0.1},
        "data": {**DATA, "init_args": {}},
        "trainer": {"max_epochs": 3},
        "folds": 3,
    }
    options = {"variants": {name: {"model": {"flip_tta": True}} for name in changes}}
    small_comparison(tmp_path, **options)
    for name, value in changes.items():
        with pytest.raises(ComparisonExistsError, match=f"configuration .{name}"):
            small_comparison(tmp_path, **options, **{name: value})


def test_a_change_of_a_variant_is_told_by_its_name(tmp_path, ran):
    small_comparison(tmp_path, variants={"model": {}})
    with pytest.raises(ComparisonExistsError, match=r"variants\.model\.model\.flip_tta is None there and True now"):
        small_comparison(tmp_path, variants={"model": {"model": {"flip_tta": True}}})


@pytest.mark.parametrize("search", [{}, {"search": {"model.label_smoothing": {"choice": [0, 0.1]}}, "trials": 2}])
@pytest.mark.parametrize(
    "wrong",
    [{"baseline": "lenett"}, {"margin": 0.0}, {"margin": math.inf}, {"rerun": ["lenet/7"]}, {"drop": ["resnet18"]}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_no_run_can_make_right_is_refused_before_the_first_run_and_not_recorded(tmp_path, ran, search, wrong):
    with pytest.raises(InvalidValueError, match=f"{next(iter(wrong))} must be"):
        small_comparison(tmp_path, **search, **wrong)
    assert ran == []
    assert not (tmp_path / "small").exists()


def test_a_baseline_may_be_a_network_of_an_earlier_command_unless_it_is_dropped(tmp_path, ran):
    small_comparison(tmp_path, backbones=["lenet", "resnet20"])
    small_comparison(tmp_path, baseline="resnet20")
    with pytest.raises(InvalidValueError, match="baseline must be one of the compared lenet, and is 'resnet20'"):
        small_comparison(tmp_path, baseline="resnet20", drop=["resnet20"])
    variants = {"a": {}, "b": {"model": {"flip_tta": True}}}
    with pytest.raises(InvalidValueError, match=r"one of the compared lenet \(a\), lenet \(b\), and is 'lenet'"):
        small_comparison(tmp_path, name="other", baseline="lenet", variants=variants)


@pytest.mark.parametrize(
    "question", [{"baseline": "resnet18", "margin": 0.5}, {"margin": "much"}, {"margin": math.nan}]
)
def test_a_typo_in_an_earlier_manifest_blocks_neither_report_nor_compare(tmp_path, ran, capfd, question):
    folder = small_comparison(tmp_path, backbones=["lenet", "lenet_relu"])
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **question}))
    ignored = "baseline, resnet18, has no finished run" if "baseline" in question else "is no number of points"
    status, output, errors = run_command(["report", str(folder)], capfd)
    assert (status, ignored in " ".join(output.split())) == (0, True), errors
    status, output, errors = compare_command(tmp_path, capfd, "--backbones=[lenet,lenet_relu]", "--baseline=lenet")
    assert (status, "lenet" in output) == (0, True), errors
    status, _, errors = run_command(["report", str(folder), "--baseline=resnet18", "--measure_times"], capfd)
    assert (status, errors.count("\n")) == (2, 1)
    assert "--baseline must be a network with finished runs: lenet, lenet_relu" in errors


class Grows(ImageDataModule):
    """The images of a user's own class: as many as a file says."""

    class_names = ("cat", "dog")

    def __init__(self, file: str, **options) -> None:
        super().__init__(**options)
        self.file = file

    def load(self, split):
        number = int(Path(self.file).read_text())
        return np.zeros((number, 32, 32, 3), np.uint8), np.arange(number) % 2


def paint(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(path)


def paint_pictures(root: Path) -> None:
    """Two classes with eight pictures each."""
    shutil.rmtree(root, ignore_errors=True)
    for label, number in itertools.product(("cat", "dog"), range(8)):
        paint(root / label / f"{number}.png", 100 * (label == "dog") + number)


@pytest.fixture
def pictures(tmp_path):
    """A folder of pictures, and the options of a comparison on it."""
    root = tmp_path / "pictures"
    paint_pictures(root)
    data = {"class_path": "FolderDataModule", "init_args": {"data_dir": str(root), "val_size": 2, "batch_size": 4}}
    return root, {"data": data, "backbones": ["lenet"]}


CHANGES = {
    "added": lambda root: paint(root / "cat" / "8.png", 50),
    "removed": lambda root: (root / "cat" / "0.png").unlink(),
    "replaced": lambda root: paint(root / "cat" / "0.png", 50),
    "relabelled": lambda root: (root / "cat" / "0.png").rename(root / "dog" / "00.png"),
    "renamed": lambda root: (root / "cat" / "7.png").rename(root / "cat" / "77.png"),
}


def test_a_comparison_whose_pictures_have_changed_is_refused_with_the_ways_out(tmp_path, pictures, ran):
    root, options = pictures
    small_comparison(tmp_path, **options, seeds=[0, 1])
    for change in CHANGES.values():
        paint_pictures(root)
        change(root)
        with pytest.raises(ComparisonExistsError, match=r"--rerun='\[lenet/0,lenet/1\]' trains them with the present"):
            small_comparison(tmp_path, **options, seeds=[0, 1])
    with pytest.raises(ComparisonExistsError, match=r"runs of other pictures, .* \(lenet/seed_0 and lenet/seed_1\)\."):
        small_comparison(tmp_path, **options, seeds=[2])
    with pytest.raises(ComparisonExistsError, match=r"now \(lenet/seed_1;"):
        small_comparison(tmp_path, **options, seeds=[0, 1], rerun=["lenet/0"])
    small_comparison(tmp_path, **options, seeds=[0, 1, 2], rerun=["lenet/0", "lenet/1"])
    assert len(ran) == 5


@pytest.mark.parametrize("further", [{"folds": 2, "seeds": [0, 1]}, {"train_subsets": [4, 6]}])
def test_pictures_that_stay_are_resumed_in_folds_and_subsets_too(tmp_path, pictures, ran, further):
    root, options = pictures
    small_comparison(tmp_path, **options, **further)
    runs = len(ran)
    folder = small_comparison(tmp_path, **options, **further)
    small_comparison(tmp_path, **{**options, "backbones": ["resnet20"]}, **further)
    assert len(ran) == 2 * runs
    assert other_pictures(write_report(folder).stored) is None
    CHANGES["replaced"](root)
    with pytest.raises(ComparisonExistsError, match="runs of other pictures"):
        small_comparison(tmp_path, **options, **further)


def test_images_of_a_class_of_the_user_s_own_must_stay_too(tmp_path):
    file = tmp_path / "number"
    file.write_text("20")
    data = {"class_path": "test_existing.Grows", "init_args": {"file": str(file)}}
    small_comparison(tmp_path, data=data)
    small_comparison(tmp_path, data=data, seeds=[1])
    file.write_text("22")
    with pytest.raises(ComparisonExistsError, match="runs of other pictures"):
        small_comparison(tmp_path, data=data, seeds=[2])


def test_a_run_that_was_stopped_does_not_go_on_with_other_pictures(tmp_path, pictures):
    root, options = pictures
    folder = small_comparison(tmp_path, **options)
    result = RunResult.load(folder / "lenet" / "seed_0" / "result.json")
    (folder / "lenet" / "seed_0" / "result.json").unlink()
    (folder / "lenet" / "seed_0" / "checkpoints").mkdir()
    torch.save({"data_fingerprint": result.data_fingerprint}, folder / "lenet" / "seed_0" / "checkpoints" / "last.ckpt")
    CHANGES["added"](root)
    with pytest.raises(ComparisonExistsError, match="runs of other pictures"):
        small_comparison(tmp_path, **options)


def test_a_report_of_pooled_pictures_says_so_in_its_first_line_and_draws_no_learning_curve(tmp_path, pictures, capsys):
    root, options = pictures
    folder = small_comparison(tmp_path, **options)
    path = folder / "lenet" / "seed_0" / "result.json"
    stored = RunResult.load(path)
    CHANGES["added"](root)
    small_comparison(tmp_path, **options, seeds=[0, 1], rerun=["lenet/0"])
    stored.save(path)
    assert not Shown(write_report(folder)).growth
    first = "Runs of different pictures are taken together in all that follows: "
    first += "lenet/seed_0 (16 images); lenet/seed_1 (17 images)."
    assert (folder / "report.md").read_text().splitlines()[2].startswith(f"> **{first}")
    status, output, _ = run_command(["report", str(folder)], capsys)
    assert status == 0
    assert " ".join(output.split()).startswith(first)


NETWORK = """
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))
"""


def test_runs_of_other_code_are_named_with_what_changed_and_the_way_out(tmp_path, monkeypatch, capfd):
    source = tmp_path / "edited_network.py"
    source.write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    backbones = ["edited_network:net", "lenet"]
    folder = small_comparison(tmp_path, backbones=backbones)
    small_comparison(tmp_path, backbones=backbones)
    assert "other code" not in capfd.readouterr().err
    source.write_text(NETWORK + "# edited\n")
    result = folder / "lenet" / "seed_0" / "result.json"
    stored = json.loads(result.read_text())
    stored["versions"] = {"torch": "1.0"}
    stored["code_fingerprint"]["graph"] = "another"
    result.write_text(json.dumps(stored))
    small_comparison(tmp_path, backbones=backbones)
    edited, older = sorted(line for line in capfd.readouterr().err.splitlines() if "other code" in line)
    assert edited.startswith(
        "edited_network:net/0 finished earlier with other code: the network's source file has changed since. "
        "--rerun='[edited_network:net/0]' trains"
    )
    assert "lenet/0 finished earlier with other code: the network's graph has changed since; torch was 1.0 and" in older


@pytest.mark.parametrize("commands", [[["pk:x_y", "pk_x:y"]], [["pk:x_y"], ["pk_x:y"]]], ids=["one", "two commands"])
def test_two_backbones_of_one_folder_are_refused_by_name(tmp_path, monkeypatch, ran, commands):
    for module, function in (("pk", "x_y"), ("pk_x", "y")):
        (tmp_path / f"{module}.py").write_text(NETWORK.replace("def net", f"def {function}"))
    monkeypatch.syspath_prepend(tmp_path)
    for backbones in commands[:-1]:
        small_comparison(tmp_path, backbones=backbones)
    with pytest.raises(InvalidValueError, match=r"two would write to pk_x_y/.* is \['pk:x_y', 'pk_x:y'\]"):
        small_comparison(tmp_path, backbones=commands[-1])
    assert len(ran) == len(commands) - 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.backbone=resnet18", "--model.backbone must be left out"),
        ("--trainer.logger=false", "--trainer.logger must be left out: each run logs into its own folder, and is"),
        ("--trainer.enable_checkpointing=false", "--trainer.enable_checkpointing must be left out"),
        ("--trainer.default_root_dir=x", "--trainer.default_root_dir must be left out: log_dir names"),
    ],
)
def test_a_setting_that_means_nothing_in_a_comparison_is_refused(tmp_path, capfd, option, message):
    status, _, errors = compare_command(tmp_path, capfd, "--backbones=[lenet]", option)
    assert status == 2
    assert message in errors


def test_a_comparison_without_a_finished_run_takes_the_corrected_configuration(tmp_path, capfd):
    folder = small_comparison(tmp_path, backbones=[FAILS], trainer={"max_epochs": 1})
    small_comparison(tmp_path, backbones=["lenet"], trainer={"max_epochs": 3})
    assert "trainer.max_epochs is 1 there and 3 now: no run in" in capfd.readouterr().err
    manifest = json.loads((folder / MANIFEST).read_text())
    assert (manifest["backbones"], manifest["config"]["trainer"]["max_epochs"]) == (["lenet"], 3)
    assert [path.name for path in folder.iterdir() if path.is_dir()] != [], "the new run is there"
    assert not list((folder / "json_loads").glob("seed_*"))
    with pytest.raises(ComparisonExistsError, match="max_epochs is 3 there and 4 now"):
        small_comparison(tmp_path, trainer={"max_epochs": 4})


def test_a_stopped_run_with_a_checkpoint_keeps_its_comparisons_configuration(tmp_path):
    run = small_comparison(tmp_path) / "lenet" / "seed_0"
    (run / "result.json").unlink()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    before = files(tmp_path)
    with pytest.raises(ComparisonExistsError, match="max_epochs is 2 there and 4 now"):
        small_comparison(tmp_path, trainer={"max_epochs": 4})
    assert files(tmp_path) == before


def test_the_exit_status_is_about_the_runs_that_were_asked_for_and_drop_removes_the_others(tmp_path, capfd):
    folder = tmp_path / "small"
    status, _, errors = compare_command(tmp_path, capfd, f"--backbones=[lenet,{FAILS}]")
    assert status == 1
    assert "1 run failed: json:loads/0" in errors
    assert compare_command(tmp_path, capfd, "--backbones=[lenet]")[0] == 0
    assert FAILS in json.loads((folder / MANIFEST).read_text())["backbones"]
    for drop, message in (("vgg11", "--drop must be one of lenet, json:loads"), ("lenet", "left out of backbones")):
        status, _, errors = compare_command(tmp_path, capfd, "--backbones=[lenet]", f"--drop=[{drop}]")
        assert status == 2
        assert message in errors
    assert compare_command(tmp_path, capfd, "--backbones=[lenet]", f"--drop=[{FAILS}]")[0] == 0
    assert json.loads((folder / MANIFEST).read_text())["backbones"] == ["lenet"]
    assert not (folder / "json_loads").exists()
    assert FAILS not in [row["name"] for row in json.loads((folder / "results.json").read_text())["networks"]]


def test_a_lost_manifest_is_rebuilt_from_the_runs(tmp_path, ran, capfd):
    folder = small_comparison(tmp_path, backbones=["lenet", "resnet20"], seeds=[0, 1])
    for damage in (None, "{", "[]", "{}"):
        (folder / MANIFEST).unlink() if damage is None else (folder / MANIFEST).write_text(damage)
        if damage is None:
            with pytest.raises(ComparisonExistsError, match="max_epochs is 2 there and 3 now"):
                small_comparison(tmp_path, trainer={"max_epochs": 3})
        small_comparison(tmp_path, backbones=["lenet"], seeds=[0])
        assert len(ran) == 4
        said = f"{MANIFEST} was missing or damaged, and is rebuilt from the runs' configurations"
        assert said in capfd.readouterr().err
        manifest = json.loads((folder / MANIFEST).read_text())
        assert (manifest["backbones"], manifest["seeds"]) == (["lenet", "resnet20"], [0, 1])


def test_on_existing_error_and_overwrite_do_what_they_say(tmp_path, ran):
    folder = small_comparison(tmp_path)
    with pytest.raises(ComparisonExistsError):
        small_comparison(tmp_path, on_existing="error")
    (folder / "lenet" / "mark").touch()
    small_comparison(tmp_path, trainer={"max_epochs": 3}, on_existing="overwrite")
    assert not (folder / "lenet" / "mark").exists()
    assert ran == ["lenet/0"] * 2


def test_a_folder_that_is_no_comparison_is_never_overwritten(tmp_path):
    precious = tmp_path / "small" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("ten years")
    with pytest.raises(ComparisonExistsError, match="holds no comparison"):
        small_comparison(tmp_path, on_existing="overwrite")
    assert precious.read_text() == "ten years"


def test_published_figures_stay_in_the_manifest_when_a_comparison_is_resumed(tmp_path):
    published = {"source": "a paper", "figures": {"lenet": {"test_acc_pct": 60.5}}}
    for figures in (published, None):
        folder = small_comparison(tmp_path, published=figures)
        assert json.loads((folder / MANIFEST).read_text())["published"] == published


def test_a_variant_of_another_meaning_is_not_resumed(tmp_path):
    folder, smoothed = small_comparison(tmp_path, variants={"a": {}}), {"model": {"label_smoothing": 0.1}}
    with pytest.raises(ComparisonExistsError, match=r"a.model.label_smoothing is None there and 0.1 now"):
        small_comparison(tmp_path, variants={"a": smoothed})
    small_comparison(tmp_path, variants={"b": smoothed})
    assert list(json.loads((folder / "manifest.json").read_text())["variants"]) == ["a", "b"]


def test_a_comparison_from_before_a_setting_existed_is_resumed(tmp_path, ran):
    folder = small_comparison(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["variants"], manifest["config"]["own_recipe"], manifest["config"]["model"]["flip_tta"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    small_comparison(tmp_path)
    assert ran == ["lenet/0"]


def test_a_recipe_is_a_file_whose_settings_the_arguments_take_precedence_over(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("trainer: {max_epochs: 1}\nmodel: {label_smoothing: 0.1}\nown_recipe: true\n")
    manifest = json.loads(
        (small_comparison(tmp_path, recipe=path, trainer=None, model={"label_smoothing": 0.2}) / MANIFEST).read_text()
    )
    assert manifest["recipe"] == "mine"
    assert manifest["config"]["trainer"]["max_epochs"] == 1
    assert manifest["config"]["model"]["label_smoothing"] == 0.2
    assert manifest["config"]["own_recipe"] is True
    assert RunResult.load(tmp_path / "small" / "lenet" / "seed_0" / "result.json").recipe == "mine"


def test_rerun_begins_one_run_anew_and_leaves_the_others(tmp_path, ran):
    options = {"seeds": [0, 1], "variants": {"a": {}, "b": {"model": {"label_smoothing": 0.1}}}}
    folder = small_comparison(tmp_path, **options)
    others = {path: stamp for path, stamp in files(folder).items() if "lenet+b/seed_1" not in str(path)}
    (folder / "lenet+b" / "seed_1" / "mark").touch()
    del ran[:]
    small_comparison(tmp_path, **options, rerun=["lenet+b/1", "lenet+b/1"])
    assert ran == ["lenet+b/1"]
    assert not (folder / "lenet+b" / "seed_1" / "mark").exists()
    after = files(folder)
    assert {path for path in others if after[path] != others[path]} == {folder / MANIFEST}
    with pytest.raises(InvalidValueError, match="rerun must be a run of this command: lenet"):
        small_comparison(tmp_path, **options, rerun=["lenet/1"])


def test_a_dry_run_shows_what_would_run_and_about_how_long_and_changes_nothing(tmp_path, ran, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("cnn_compare.comparison.preview.seconds_per_image", lambda specs: [0.5] * len(specs))
    options = ["--backbones=[lenet,resnet20]", "--seeds=[0,1]", "--dry_run"]
    status, output, _ = compare_command(tmp_path, capfd, *options)
    assert status == 0
    assert "roughly 2 min, by a few steps" in output  # 120 images, two epochs, half a second an image.
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("cnn_compare.comparison.preview.seconds_per_image", lambda specs: [math.nan] * len(specs))
    small_comparison(tmp_path)
    before = files(tmp_path)
    rows = [line for line in compare_command(tmp_path, capfd, *options)[1].splitlines() if line.startswith("│")]
    # 40.8 M multiply-accumulates (arXiv:1512.03385, counted by hand) to LeNet's 0.65 M: 62 times ten minutes, 10.4 h.
    assert "roughly 10.4 h" in rows[0]
    assert "finished earlier (20" in rows[1]
    assert "10 min, as with other runs" in rows[3]
    assert files(tmp_path) == before
    assert ran == ["lenet/0"]


def test_seeds_are_added_while_differences_are_undecided(tmp_path, ran, capfd):
    options = ["--name=looks", f"--log_dir={tmp_path}", "--backbones=[lenet,lenet_relu]", "--seeds=[0,1]"]
    options += ["--data=DigitsDataModule", "--times=never"]
    main(["compare", *options, "--seeds_until_decided=3"])
    errors = capfd.readouterr().err
    assert "after 2 seeds, 1 differences are undecided" in errors
    assert "after 3 seeds" in errors
    manifest = json.loads((tmp_path / "looks" / "manifest.json").read_text())
    assert (manifest["looks"], manifest["seeds"]) == ([2, 3], [0, 1, 2])
    assert len(ran) == 6


def test_a_dry_run_says_what_the_planned_seeds_can_establish(tmp_path, ran, capfd):
    options = ["--name=planned", f"--log_dir={tmp_path}", "--backbones=[lenet,resnet20]", "--data=DigitsDataModule"]
    main(["compare", *options, "--seeds=[0,1,2]", "--dry_run"])
    said = " ".join(capfd.readouterr().out.split())
    assert "3 seeds of 2 networks: a difference of about " in said
    assert "if seeds deviate by 0.6 points, and without what the test images add" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds=[0]", "--seeds_until_decided=3"], "--seeds must be at least two: one seed decides nothing"),
        (["--seeds=[0,1]", "--seeds_until_decided=2"], "--seeds_until_decided must be more than the 2 seeds to begin"),
        (["--seeds=[0,1]", "--margin=0"], "--margin must be more than 0 points, up to 100, and is 0"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(tmp_path, capfd, options, message):
    with pytest.raises(SystemExit):
        main(["compare", "--name=x", f"--log_dir={tmp_path}", "--backbones=[lenet]", *options])
    assert message in capfd.readouterr().err
