from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cnn_compare.cli import main
from cnn_compare.experiment import experiment_parser

ROOT = Path(__file__).parents[1]
TINY = ["--data=DigitsDataModule", "--data.train_subset=40", "--data.val_size=20", "--trainer.max_epochs=1"]


def run(arguments: list[str], capsys) -> tuple[int, str, str]:
    """Exit status, output and error output of the command."""
    try:
        main(arguments)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, without data and without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNN_COMPARE_DATA_DIR", raising=False)
    # No request leaves the machine: names resolve to nothing.
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["fit", "--model.backbone=resnet-18"],
            2,
            "UnknownBackboneError: no backbone is registered as 'resnet-18'. Did",
        ),
        (["fit", "--model.backbone=no_such.module:net"], 2, "UnknownBackboneError"),
        (["fit", "--model.stem=foo"], 2, "foo"),
        (["fit", "--data=DigitsDataModule", "--model.backbone=alexnet"], 2, "ImageTooSmallError: alexnet with its"),
        (["fit", "--data.batch_size=-1"], 2, "InvalidValueError: --data.batch_size must be at least 1, and is -1."),
        (["fit", "--data.image_size=0"], 2, "--data.image_size"),
        (["fit", "--data.normalization=zscore"], 2, "zscore"),
        (["fit", "--data.no_such_option=1"], 2, "no_such_option"),
        (["fit", "--config=missing.yaml"], 2, "missing.yaml"),
        (["fit", "--data.data_dir=empty"], 1, "DataUnavailableError: no CIFAR-10 in"),
        (["fit", "--model.backbone=resnet20", "--model.weights=missing.pth"], 1, "missing.pth"),
        (["fit", "--model.backbone=resnet20", "--model.pretrained=true"], 2, "resnet20"),
        (["test", "--model.backbone=resnet18", "--model.pretrained=true"], 1, "resnet18-f37072fd.pth"),
        (["compare", "--name=x", "--backbones=[resnet-18]"], 2, "Did you mean 'resnet18'"),
        (["compare", "--name=x"], 2, "backbones"),
        (["compare", "--name=x", "--backbones=[lenet]", "--recipe=missing.yaml"], 2, "missing.yaml"),
        (["compare", "--name=../x", "--backbones=[lenet]"], 2, "--name"),
        (["compare", "--name=x", "--backbones=[lenet]", "--seeds=[a]"], 2, "seeds"),
        (["report", "missing_folder"], 2, "missing_folder"),
        (["backbones", "--filter=nothing*"], 2, "nothing*"),
        (["no_such_command"], 2, "no_such_command"),
        ([], 2, "COMMAND"),
    ],
)
def test_mistakes_end_with_a_message_and_their_status(elsewhere, capsys, monkeypatch, arguments, status, message):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(elsewhere / "cache"))
    code, _, errors = run(arguments, capsys)
    assert (code, message in errors) == (status, True), errors
    assert "Traceback" not in errors


def test_an_unknown_key_in_a_configuration_is_named(elsewhere, capsys):
    Path("bad.yaml").write_text("trainer:\n  max_epoch: 3\n")
    code, _, errors = run(["fit", "--config=bad.yaml"], capsys)
    assert code == 2
    assert "max_epoch" in errors


@pytest.mark.filterwarnings("ignore")
def test_fit_leaves_curves_configuration_and_both_checkpoints(elsewhere, capsys):
    code, _, errors = run(["fit", *TINY, "--model.backbone=lenet"], capsys)
    assert code == 0, errors
    folder = elsewhere / "lightning_logs" / "version_0"
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    expected = {"train/loss", "train/acc", "val/loss", "val/acc", "val/top5", "val/macro_f1", "val/balanced_acc", "lr"}
    assert set(events.Tags()["scalars"]) >= expected | {"time/train_epoch_s", "throughput/images_per_s"}
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["backbone"] == "lenet"


@pytest.mark.filterwarnings("ignore")
def test_fit_takes_the_backbones_own_recipe_and_stores_it(elsewhere, capsys):
    arguments = ["--model.backbone=lenet", "--own_recipe=true", "--trainer.enable_progress_bar=false"]
    status, _, _ = run(["fit", *TINY, *arguments], capsys)
    (config,) = elsewhere.rglob("config.yaml")
    stored = yaml.safe_load(config.read_text())
    assert status == 0
    assert stored["model"]["optimizer"]["init_args"]["lr"] == 0.05
    assert stored["data"]["init_args"]["augmentation"] == "crop_flip"


def test_test_reports_the_published_accuracy_of_foreign_weights(real_cifar10, monkeypatch, capsys, tmp_path):
    weights = Path(real_cifar10).parent / "weights" / "resnet20-12fca82f.th"
    if not weights.is_file():
        pytest.skip("the foreign checkpoint does not lie beside the data")
    monkeypatch.chdir(tmp_path)
    model = ["--model.backbone=resnet20", f"--model.weights={weights}"]
    data = ["--data.normalization=imagenet", f"--data.data_dir={real_cifar10}"]
    code, output, errors = run(["test", *model, *data, "--trainer.logger=false"], capsys)
    assert code == 0, errors
    # Its authors publish a test error of 8.27 %.
    assert "0.9172999" in output or "0.9173" in output


@pytest.mark.filterwarnings("ignore")
def test_compare_ends_with_a_table_and_the_reports_path_and_a_failed_run_with_status_1(elsewhere, capfd):
    options = ["--name=two", "--backbones=[lenet]", *TINY]
    assert run(["compare", *options], capfd)[0] == 0
    code, output, errors = run(["compare", *options, "--backbones=[lenet,json:loads]"], capfd)
    assert code == 1
    assert "RunsFailedError: 1 run failed: json:loads seed 0" in errors
    assert "lenet" in output
    assert "json:loads" in Path("lightning_logs/two/report.md").read_text()
    assert "report: lightning_logs/two/report.html" in output


def test_a_variant_may_bring_another_optimizer_from_the_command_line(elsewhere, capfd):
    sgd = "{model: {optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.01}}}}"
    variants = f"--variants={{adam: {{}}, sgd: {sgd}}}"
    status, output, errors = run(["compare", "--name=x", "--backbones=[lenet]", variants, *TINY], capfd)
    assert status == 0, errors
    assert "lenet (sgd)" in output
    stored = yaml.safe_load((elsewhere / "lightning_logs/x/lenet+sgd/seed_0/config.yaml").read_text())
    assert stored["model"]["optimizer"]["init_args"]["lr"] == 0.01


def test_backbones_lists_what_matches_as_json_with_its_costs(capsys):
    code, output, _ = run(["backbones", "--filter=resnet*", "--format=json"], capsys)
    rows = {row["backbone"]: row for row in json.loads(output)}
    assert code == 0
    assert set(rows) == {f"resnet{depth}" for depth in (18, 20, 32, 34, 44, 50, 56, 101, 152)}
    # Published: 11.69 M parameters at 1,000 classes, so 990 * 513 fewer at 10; 1.81 GMACs at 224 px.
    assert rows["resnet18"]["params"] == 11_689_512 - 990 * 513
    assert rows["resnet18"]["macs"] == pytest.approx(1.81e9, rel=0.01)


def imported_by(*arguments: str) -> set[str]:
    """The modules that a command has loaded when it ends."""
    code = (
        "import sys\nfrom cnn_compare.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    command = [sys.executable, "-c", code, *arguments]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[-2].split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["report", "missing"]])
def test_help_and_report_load_no_torch(arguments):
    assert "torch" not in imported_by(*arguments)


def test_backbones_loads_torch_and_no_lightning():
    modules = imported_by("backbones")
    assert "torch" in modules
    assert "lightning" not in modules


def test_importing_the_package_loads_no_torch():
    code = "import sys, cnn_compare; print('torch' in sys.modules, cnn_compare.load_results.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "load_results"]


SHIPPED = [path for path in sorted((ROOT / "configs").rglob("*.yaml")) if path.parent.name != "cluster"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_read_and_says_how_it_runs(path):
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# cnn-compare ")
    assert f"configs/{path.parent.name}/{path.name}" in first
    assert second.startswith("# ")
    config = yaml.safe_load(path.read_text())
    sections = {name: value for name, value in config.items() if name in ("trainer", "model", "data")}
    experiment_parser(exit_on_error=False).parse_object(sections)


def test_a_comparison_file_refines_the_recipe_that_it_names(capsys):
    config = ROOT / "configs" / "comparisons" / "all_eight.yaml"
    code, output, errors = run(["compare", f"--config={config}", "--print_config"], capsys)
    assert code == 0, errors
    resolved = yaml.safe_load(output)
    assert resolved["model"]["pretrained"] is True
    assert resolved["data"]["init_args"]["normalization"] == "half"
    assert resolved["data"]["init_args"]["image_size"] == 96
