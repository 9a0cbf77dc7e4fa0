from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import run_command

from cnn_compare.cli import with_flags
from cnn_compare.commands.compare import make_executor
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.errors import CnnCompareError, InvalidValueError
from cnn_compare.experiment import experiment_parser

ROOT = Path(__file__).parents[1]
TINY = ["--data=DigitsDataModule", "--data.train_subset=40", "--data.val_size=20", "--trainer.max_epochs=1"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, without data and without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNN_COMPARE_DATA_DIR", raising=False)
    # No request leaves the machine: names resolve to nothing.
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    return tmp_path


def test_a_field_in_a_message_becomes_a_flag_once_and_nothing_else_does():
    error = CnnCompareError("data.size of my_name, name=2 and --name; data.size_hint, my/name, 'name', --name.")
    error.fields = ("name", "data.size", "data")
    expected = "--data.size of my_name, --name=2 and --name; data.size_hint, my/name, 'name', --name."
    assert with_flags(error) == expected


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"executor": "ray", "jobs": 2}, "jobs"),
        ({"ray_address": "auto"}, "ray_address"),
        ({"resources_per_run": {"CPU": 1}}, "resources_per_run"),
    ],
)
def test_options_of_the_other_executor_are_refused(options, field):
    with pytest.raises(InvalidValueError, match=f"{field} must be left out"):
        make_executor(**options)


def test_the_executor_has_the_jobs_and_the_time_limit_that_were_asked_for():
    executor = make_executor(jobs=3, run_timeout_s=60)
    assert isinstance(executor, LocalExecutor)
    assert (executor.jobs, executor.timeout_s) == (3, 60)


@pytest.mark.filterwarnings("ignore")
def test_fit_leaves_curves_configuration_and_both_checkpoints(elsewhere, capsys):
    code, _, errors = run_command(["fit", *TINY, "--model.backbone=lenet"], capsys)
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
    status, _, _ = run_command(["fit", *TINY, *arguments], capsys)
    (config,) = elsewhere.rglob("config.yaml")
    stored = yaml.safe_load(config.read_text())
    assert status == 0
    assert stored["model"]["optimizer"]["init_args"]["lr"] == 0.05
    assert stored["data"]["init_args"]["augmentation"] == "crop_flip"
    # So `fit --config` with this file takes what it says, and changes nothing again.
    assert stored["own_recipe"] is False


def test_test_reports_the_published_accuracy_of_foreign_weights(real_cifar10, monkeypatch, capsys, tmp_path):
    weights = Path(real_cifar10).parent / "weights" / "resnet20-12fca82f.th"
    if not weights.is_file():
        pytest.skip("the foreign checkpoint does not lie beside the data")
    monkeypatch.chdir(tmp_path)
    model = ["--model.backbone=resnet20", f"--model.weights={weights}"]
    data = ["--data.normalization=imagenet", f"--data.data_dir={real_cifar10}"]
    code, output, errors = run_command(["test", *model, *data, "--trainer.logger=false"], capsys)
    assert code == 0, errors
    # Its authors publish a test error of 8.27 %.
    assert "0.9172999" in output or "0.9173" in output


@pytest.mark.filterwarnings("ignore")
def test_compare_ends_with_a_table_and_the_reports_path_and_a_failed_run_with_status_1(elsewhere, capfd):
    options = ["--name=two", "--backbones=[lenet]", *TINY]
    assert run_command(["compare", *options], capfd)[0] == 0
    code, output, errors = run_command(["compare", *options, "--backbones=[lenet,json:loads]"], capfd)
    assert code == 1
    assert "RunError: 1 run failed: json:loads/0" in errors
    assert "lenet" in output
    assert "json:loads" in Path("lightning_logs/two/report.md").read_text()
    assert "report: lightning_logs/two/report.html" in output


def test_a_variant_may_bring_another_optimizer_from_the_command_line(elsewhere, capfd):
    sgd = "{model: {optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.01}}}}"
    variants = f"--variants={{adam: {{}}, sgd: {sgd}}}"
    status, output, errors = run_command(
        ["compare", "--name=x", "--backbones=[lenet]", variants, "--times=never", *TINY], capfd
    )
    assert status == 0, errors
    assert "lenet (sgd)" in output
    stored = yaml.safe_load((elsewhere / "lightning_logs/x/lenet+sgd/seed_0/config.yaml").read_text())
    assert stored["model"]["optimizer"]["init_args"]["lr"] == 0.01


def test_backbones_lists_what_matches_as_json_with_its_costs(capsys):
    code, output, _ = run_command(["backbones", "--filter=resnet*", "--format=json"], capsys)
    rows = {row["backbone"]: row for row in json.loads(output)}
    assert code == 0
    assert set(rows) == {f"resnet{depth}" for depth in (18, 20, 32, 34, 44, 50, 56, 101, 152)}
    # Published: 11.69 M parameters at 1,000 classes, so 990 * 513 fewer at 10; 1.81 GMACs at 224 px.
    assert rows["resnet18"]["params"] == 11_689_512 - 990 * 513
    assert rows["resnet18"]["macs"] == pytest.approx(1.81e9, rel=0.01)


COMMANDS_OF_ONE_PROCESS = """
import sys
import cnn_compare

def loaded(*packages):
    return sorted({*packages} & {*sys.modules})

assert cnn_compare.load_results and not loaded("torch"), "by the import of the package"
from cnn_compare.cli import main

def run(*arguments):
    try:
        main(arguments)
    except SystemExit:
        pass

for arguments in (["--help"], ["--version"], ["recipes"], ["report", "missing"], ["explain"], ["predict", "--data=x"]):
    run(*arguments)
    assert not loaded("torch"), arguments
run("backbones")
assert loaded("torch", "torchvision", "lightning", "torch._dynamo") == ["torch"], loaded("torchvision", "lightning")

# It writes `float | int`, which Python's cache of types then returns for Lightning's `int | float`.
import sklearn.datasets
from cnn_compare.experiment import resolve_config

data = {"class_path": "DigitsDataModule", "init_args": {"val_size": 20}}
config = resolve_config({"data": data, "trainer": {"limit_train_batches": 1, "limit_val_batches": 0.5}})
limits = [config["trainer"][f"limit_{split}_batches"] for split in ("train", "val")]
numbers = [config["data"]["init_args"]["val_size"], *limits]
assert str(numbers) == "[20, 1, 0.5]", numbers
"""


def test_commands_load_what_they_need_and_whole_numbers_stay_whole_after_the_import_of_others():
    done = subprocess.run([sys.executable, "-c", COMMANDS_OF_ONE_PROCESS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


ENDING = """
import atexit, logging, sys
from cnn_compare import cli

class Kept:
    def __del__(self):
        print("taken apart")

class Log(logging.Handler):
    def close(self):
        print("log closed")
        super().close()

def work():
    global kept
    logging.getLogger().addHandler(Log())
    kept = Kept()
    atexit.register(print, "tidied")
    {}

cli.main = work
cli.script()
"""


@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [("pass", 0, ""), ("sys.exit(3)", 3, ""), ("sys.exit('why')", 1, "why"), ("raise ValueError('why')", 1, "why")],
)
def test_a_command_ends_with_its_status_after_all_handlers_and_before_python_takes_its_modules_apart(
    ending, status, message
):
    done = subprocess.run([sys.executable, "-c", ENDING.format(ending)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, "tidied\nlog closed\n")
    assert message in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full, which is always full, is Linux's")
def test_output_that_cannot_be_written_is_no_success():
    with Path("/dev/full").open("w") as full:
        program = "from cnn_compare import cli; cli.main = lambda: print('a table'); cli.script()"
        called = [sys.executable, "-c", program]
        done = subprocess.run(called, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "No space left" in done.stderr


SHIPPED = [path for path in sorted((ROOT / "configs").rglob("*.yaml")) if path.parent.name != "cluster"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_read_and_says_how_it_runs(path):
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# cnn-compare ")
    # By its name, as an installed package has it too.
    assert re.search(rf"--(recipe|config|search) {path.stem}\b|configs/{path.parent.name}/{path.name}", first)
    assert second.startswith("# ")
    config = yaml.safe_load(path.read_text())
    sections = {name: value for name, value in config.items() if name in ("trainer", "model", "data")}
    experiment_parser(exit_on_error=False).parse_object(sections)


def resolved(arguments: list[str], capsys) -> dict:
    """The configuration that `compare` would run."""
    code, output, errors = run_command(["compare", *arguments, "--print_config"], capsys)
    assert code == 0, errors
    return yaml.safe_load(output)


def test_a_comparison_file_takes_precedence_over_the_recipe_that_it_names(capsys):
    config = resolved([f"--config={ROOT / 'configs' / 'comparisons' / 'report_scratch_32.yaml'}"], capsys)
    assert config["data"]["init_args"]["normalization"] == "half"
    assert config["data"]["init_args"]["image_size"] == 32


RECIPE = """
trainer: {max_epochs: 7, min_epochs: 2}
model: {label_smoothing: 0.3, optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.5, momentum: 0.5}}}
"""


@pytest.fixture
def recipe(elsewhere) -> Path:
    path = elsewhere / "recipes" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(RECIPE)
    return path


def test_a_comparison_file_may_name_its_recipe_after_its_own_settings(recipe, capsys):
    folder = recipe.parents[1] / "comparisons"
    folder.mkdir()
    text = "trainer: {max_epochs: 3}\nmodel: {optimizer: {init_args: {lr: 0.1}}}\nrecipe: ../recipes/mine.yaml\n"
    (folder / "c.yaml").write_text(text)
    config = resolved(["--config=comparisons/c.yaml"], capsys)
    assert (config["trainer"]["max_epochs"], config["trainer"]["min_epochs"]) == (3, 2)
    optimizer = config["model"]["optimizer"]
    assert optimizer["class_path"] == "torch.optim.SGD"
    assert (optimizer["init_args"]["lr"], optimizer["init_args"]["momentum"]) == (0.1, 0.5)


def test_options_after_a_recipe_take_precedence_and_those_before_do_not(recipe, capsys):
    options = ["--trainer.max_epochs=1", f"--recipe={recipe}", "--trainer.min_epochs=1", "--model.optimizer.lr=0.2"]
    config = resolved(options, capsys)
    assert (config["trainer"]["max_epochs"], config["trainer"]["min_epochs"]) == (7, 1)
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--recipe", "recipes/mine.yaml"], "mine"),
        (["--config=recipes/mine.yaml"], "mine"),
        (["--config=c.yaml"], "mine"),
        (["--config=plain.yaml"], "plain"),
        (["--config=plain.yaml", "--recipe=recipes/mine.yaml"], "mine"),
        ([], None),
    ],
)
def test_a_comparison_knows_the_name_of_its_recipe(recipe, capfd, monkeypatch, options, name):
    Path("c.yaml").write_text("recipe: recipes/mine.yaml\n")
    Path("plain.yaml").write_text("trainer: {max_epochs: 2}\n")
    monkeypatch.setattr("cnn_compare.comparison.compare.run_all", lambda specs, *_: [])
    run_command(["compare", *options, "--name=x", "--backbones=[lenet]", *TINY], capfd)
    assert json.loads(Path("lightning_logs/x/manifest.json").read_text())["recipe"] == name


def test_a_recipe_of_the_package_is_known_by_its_name_to_fit_and_compare(recipe, capsys):
    by_name = resolved(["--recipe=modern"], capsys)
    by_path = resolved([f"--recipe={ROOT / 'configs' / 'recipes' / 'modern.yaml'}"], capsys)
    assert {**by_name, "recipe": None} == {**by_path, "recipe": None}
    assert by_name["model"]["label_smoothing"] == 0.1
    Path("mine.yaml").write_text("recipe: modern\nmodel: {label_smoothing: 0.2}\n")
    for options in (["--config=mine.yaml"], ["--recipe=modern", "--model.label_smoothing=0.2"]):
        code, output, errors = run_command(["fit", *options, "--print_config"], capsys)
        assert code == 0, errors
        model = yaml.safe_load(output)["model"]
        assert (model["label_smoothing"], model["stem"]) == (0.2, "cifar")


def test_a_comparison_of_the_package_is_known_by_its_name_and_a_file_of_that_path_takes_precedence(elsewhere, capsys):
    assert resolved(["--config=report"], capsys)["name"] == "report"
    assert resolved(["--config=modern"], capsys)["trainer"]["max_epochs"] == 60
    Path("report").write_text("name: mine\n")
    assert resolved(["--config=report"], capsys)["name"] == "mine"


def test_recipes_lists_what_is_installed_in_40_lines_of_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, output, _ = run_command(["recipes"], capsys)
    lines = output.splitlines()
    names = [line.split()[0] for line in lines if re.match(r"\w+  ", line)]
    assert names == [path.stem for kind in ("recipes", "comparisons") for path in SHIPPED if path.parent.name == kind]
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert re.search("^budget +The same ten minutes for every network, not the same epochs.$", output, re.MULTILINE)


def test_recipes_shows_one_whole_file_or_lists_those_in_a_folder(recipe, capsys):
    _, output, _ = run_command(["recipes", "report"], capsys)
    assert output.split("\n", 1)[1] == (ROOT / "configs" / "recipes" / "report.yaml").read_text()
    _, output, _ = run_command(["recipes", "recipes"], capsys)
    assert output.split() == ["recipes/mine.yaml"]
    status, _, errors = run_command(["recipes", "unheard_of"], capsys)
    assert (status, "quickstart" in errors) == (2, True)


def test_published_figures_are_read_from_beside_the_comparisons_file(elsewhere, capsys):
    (elsewhere / "comparisons").mkdir()
    Path("figures.yaml").write_text("source: a paper\nfigures: {lenet: {test_acc_pct: 60.5}}\n")
    Path("comparisons/c.yaml").write_text("published: ../figures.yaml\n")
    config = resolved(["--config=comparisons/c.yaml"], capsys)
    assert config["published"] == {"source": "a paper", "figures": {"lenet": {"test_acc_pct": 60.5}}}
