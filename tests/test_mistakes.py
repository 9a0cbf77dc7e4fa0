"""What a user gets for a mistake: one line that names it, a status, and no training before that."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ENVIRONMENT, run_command
from lightning.pytorch.callbacks import ModelPruning

from cnn_compare.checks import check_callbacks, check_network, check_settings
from cnn_compare.configs import merge_config
from cnn_compare.errors import InvalidValueError, RefusedSettingError
from cnn_compare.experiment import resolve_config

FIT = [
    "fit",
    "--data=DigitsDataModule",
    "--data.train_subset=40",
    "--data.val_size=20",
    "--trainer.max_epochs=1",
    "--model.backbone=lenet",
    "--trainer.enable_progress_bar=false",
]
COMPARE = ["compare", "--name=x", "--backbones=[lenet]", *FIT[1:5]]
TEST = ["test", *FIT[1:]]

# Values that are refused before the data and the network are made.
VALUES = [
    ("trainer.max_epochs", -5),
    ("trainer.max_epochs", 0),
    ("trainer.max_epochs", -1),
    ("trainer.strategy", "dpp"),
    ("trainer.precision", "17"),
    ("trainer.limit_train_batches", 0),
    ("trainer.limit_val_batches", 0),
    ("trainer.limit_val_batches", 1.5),
    ("trainer.check_val_every_n_epoch", 2),
    ("trainer.check_val_every_n_epoch", 0),
    ("trainer.max_time", "10min"),
    ("trainer.gradient_clip_val", -1),
    ("trainer.accumulate_grad_batches", 0),
    ("model.optimizer.lr", -1),
    ("model.optimizer.lr", 0),
    ("model.optimizer.lr", float("nan")),
    ("model.optimizer.weight_decay", -1),
    ("model.num_classes", 1),
    ("model.label_smoothing", 1),
]

# The command line, its status, and what its message must name: the setting, the value, or the way out.
SETTINGS = [
    # A name that does not exist, or is missing.
    ([], 2, "COMMAND"),
    (["fitt"], 2, "fit"),
    (["fit", "--trainer.max_epoch=3"], 2, "did you mean --trainer.max_epochs"),
    (["fit", "--max_epochs=3"], 2, "did you mean --trainer.max_epochs"),
    (["fit", "--data.batchsize=3"], 2, "did you mean --data.batch_size"),
    (["fit", "--modle.backbone", "lenet"], 2, "did you mean --model.backbone"),
    (["fit", "extra"], 2, "extra"),
    (["compare", "--name=x"], 2, "backbones"),
    (["compare", "--nme=x", "--backbones=[lenet]"], 2, "did you mean --name"),
    (["report"], 2, "runs_dir"),
    (["report", "missing_folder"], 2, "missing_folder"),
    (["backbones", "--fliter=a"], 2, "did you mean --filter"),
    (["backbones", "--filter=nothing*"], 2, "nothing*"),
    (["backbones", "--format=xml"], 2, "xml"),
    (["profile", "--backbones=[lenet]", "--img_size=3"], 2, "did you mean --image_size"),
    (["profile", "--backbones=lennet"], 2, "lenet"),
    (["fit", "--model.backbone=resnet-18"], 2, "no backbone is registered as 'resnet-18'. Did you mean 'resnet18'"),
    (["fit", "--model.backbone=no_such.module:net"], 2, "UnknownBackboneError"),
    # A value of another type.
    (["fit", "--trainer.max_epochs=many"], 2, "--trainer.max_epochs"),
    (["fit", "--trainer.max_epochs=1.5"], 2, "--trainer.max_epochs"),
    (["fit", "--model.stem=foo"], 2, "--model.stem"),
    (["fit", "--data.batch_size=big"], 2, "--data.batch_size must be a whole number, and is 'big'"),
    (["fit", "--trainer.max_epochs"], 2, "--trainer.max_epochs needs a value"),
    (["fit", "--data=FolderDataModule", "--data.colums.label=b"], 2, "did you mean --data.columns"),
    (["fit", "--config={trainer: {max_epochs: x}}"], 2, "--trainer.max_epochs must be a whole number or null"),
    (["report", "folder", "--margin=much"], 2, "--margin must be a number, and is 'much'"),
    (["compare", "--name=x", "--backbones=[lenet]", "--folds=a"], 2, "--folds must be a whole number or null"),
    (["fit", "--data.normalization=zscore"], 2, "--data.normalization"),
    (["fit", "--data.augmentation=[cutout,flip]"], 2, "--data.augmentation"),
    (["fit", "--model.class_weights=even"], 2, "--model.class_weights"),
    (["fit", "--model.class_weights=[1,2]"], 2, "--model.class_weights"),
    (["fit", "--monitor=val/accuracy"], 2, "--monitor"),
    (["fit", "--data=NoSuchData"], 2, "NoSuchData"),
    (["fit", "--model.optimizer=NoSuchOptimizer"], 2, "NoSuchOptimizer"),
    (["fit", "--model.optimizer.lr=fast"], 2, "--model.optimizer.lr"),
    (["fit", "--seed_everything=abc"], 2, "--seed_everything"),
    ([*COMPARE, "--jobs=two"], 2, "--jobs"),
    ([*COMPARE, "--jobs=0"], 2, "--jobs must be 1 or more, or auto, and is 0"),
    ([*COMPARE, "--seeds=[a]"], 2, "--seeds"),
    ([*COMPARE, "--executor=cloud"], 2, "--executor"),
    ([*COMPARE, "--ray_address=auto"], 2, "--ray_address must be left out"),
    ([*COMPARE, "--run_timeout_s=0"], 2, "--run_timeout_s must be more than 0"),
    ([*COMPARE, "--run_timeout_s=.nan"], 2, "--run_timeout_s"),
    # Values that a Trainer, an optimiser or the data cannot take.
    *(
        ([*command, f"--{setting}={value}"], 2, f"--{setting}")
        for command, settings in (
            (FIT, ("trainer.accelerator=gpu", "trainer.accelerator=abacus", "trainer.devices=0")),
            (FIT, ("trainer.devices=9999", "trainer.max_epochs=0", "model.num_classes=7", "data.train_subset=3")),
            (FIT, ("data.train_subset=100000", "data.val_size=100000", "data.batch_size=0")),
            (FIT, ("target_acc=94", "patience=0")),
            # `compare` checks them in the same place: one of each kind.
            (COMPARE, ("trainer.accelerator=gpu", "model.optimizer.lr=-1", "target_acc=94")),
            (COMPARE, ("data.train_subset=100000",)),
        )
        for setting, value in (each.split("=") for each in settings)
    ),
    ([*FIT, "--model.optimizer=LBFGS"], 2, "--model.optimizer=LBFGS is refused"),
    ([*COMPARE, "--trainer.callbacks=LearningRateFinder"], 2, "--trainer.callbacks=LearningRateFinder is refused"),
    ([*FIT, "--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val_loss"], 2, "val/loss"),
    ([*FIT, "--trainer.callbacks=LearningRateMonitor", "--trainer.logger=false"], 2, "LearningRateMonitor"),
    ([*FIT, "--seed_everything=-3"], 2, "--seed_everything"),
    ([*COMPARE, "--seeds=[-3]"], 2, "--seeds"),
    ([*COMPARE, "--seeds=[0,0]"], 2, "--seeds"),
    ([*COMPARE, "--trainer.fast_dev_run=true"], 2, "--trainer.fast_dev_run"),
    ([*FIT, "--trainer.callbacks=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"], 2, "EMAWeightAver"),
    ([*FIT, "--trainer.callbacks=BackboneFinetuning"], 2, "--model.freeze=backbone"),
    ([*FIT, "--trainer.max_time=00:00:00:00"], 1, "after 0 steps without a validation"),
    ([*COMPARE, "--trainer.limit_test_batches=0"], 2, "--trainer.limit_test_batches"),
    ([*TEST, "--trainer.limit_test_batches=0"], 2, "--trainer.limit_test_batches"),
    ([*FIT, "--model.backbone=resnet18", "--data.batch_size=1"], 2, "--data.batch_size"),
    ([*FIT, "--model.backbone=alexnet"], 2, "UsageError: alexnet with its imagenet stem needs"),
    # Networks that do not answer with one logit per class.
    ([*FIT, "--model.backbone=test_mistakes:seven_outputs"], 1, "(1, 7)"),
    ([*FIT, "--model.backbone=test_mistakes:no_logits"], 1, "(1, 3, 32, 32)"),
    ([*FIT, "--model.backbone=test_mistakes:a_string"], 2, "str"),
    ([*FIT, "--model.backbone=torchvision.models:googlenet", "--data.image_size=64"], 2, "aux_loss_weight"),
    # Files and folders.
    (["fit", "--config=missing.yaml"], 2, "missing.yaml"),
    (["fit", "--config=folder"], 2, "folder"),
    (["fit", "--config=binary.yaml"], 2, "binary.yaml"),
    (["fit", "--config=broken.yaml"], 2, "broken.yaml"),
    (["fit", "--config=list.yaml"], 2, "list.yaml"),
    (["fit", "--config=unknown_key.yaml"], 2, "unknown_key.yaml"),
    (["fit", "--config=unknown_key.yaml"], 2, "did you mean trainer.max_epochs"),
    (["fit", "--config=wrong_value.yaml"], 2, "wrong_value.yaml"),
    (["compare", "--config=unknown_key.yaml"], 2, "unknown_key.yaml"),
    (["compare", "--name=x", "--backbones=[lenet]", "--recipe=binary.yaml"], 2, "binary.yaml"),
    (
        ["compare", "--name=x", "--backbones=[lenet]", "--recipe=no.yaml"],
        2,
        "--recipe must be a file, or one of budget",
    ),
    ([*COMPARE, "--log_dir=/proc/x"], 1, "/proc/x"),
    ([*COMPARE, "--log_dir=broken.yaml"], 1, "StorageError: a file could not be read or written"),
    ([*FIT, "--trainer.default_root_dir=/proc/x"], 1, "/proc/x"),
    (["profile", "--backbones=[lenet]", "--output=folder"], 2, "--output"),
    (["profile", "--backbones=[lenet]", "--output=/proc/x/y.json"], 1, "/proc/x"),
    (["report", "binary.yaml"], 2, "binary.yaml"),
    # Checkpoints and weights.
    ([*FIT, "--ckpt_path=missing.ckpt"], 1, "no checkpoint in missing.ckpt: there is no such file"),
    ([*FIT, "--ckpt_path=folder"], 1, "folder"),
    ([*TEST, "--ckpt_path=binary.yaml"], 1, "CheckpointFileError: no checkpoint in binary.yaml"),
    ([*TEST, "--ckpt_path=empty.ckpt"], 1, "CheckpointFileError: no checkpoint in empty.ckpt"),
    ([*TEST, "--ckpt_path=half.ckpt"], 1, "CheckpointFileError: no checkpoint in half.ckpt"),
    ([*TEST, "--ckpt_path=state_dict.pt"], 1, "--model.weights=state_dict.pt"),
    ([*FIT, "--ckpt_path=state_dict.pt"], 1, "--model.weights=state_dict.pt"),
    ([*TEST, "--ckpt_path=list.pt"], 1, "list.pt"),
    ([*TEST, "--ckpt_path=last.ckpt", "--model.backbone=resnet18"], 1, "has --model.backbone='lenet', and 'resnet18'"),
    ([*TEST, "--ckpt_path=last.ckpt", "--config=net.yaml"], 1, "has --model.backbone='lenet', and 'resnet18' was"),
    ([*TEST, "--ckpt_path=last.ckpt", "--model.stem=cifar"], 1, "has --model.stem='imagenet', and 'cifar' was"),
    ([*TEST, "--ckpt_path=last.ckpt", "--model.num_classes=7"], 1, "has --model.num_classes=10, and 7 was requested"),
    ([*FIT, "--ckpt_path=best.ckpt"], 1, "last.ckpt"),
    ([*FIT, "--trainer.max_epochs=2", "--ckpt_path=last.ckpt", "--model.optimizer=SGD"], 1, "optimizer"),
    ([*FIT, "--trainer.max_epochs=1", "--ckpt_path=last.ckpt"], 1, "--trainer.max_epochs"),
    ([*FIT, "--model.backbone=resnet20", "--model.weights=list.pt"], 1, "list.pt"),
    ([*FIT, "--model.backbone=resnet20", "--model.weights=missing.pth"], 1, "missing.pth"),
    ([*FIT, "--model.backbone=resnet20", "--model.pretrained=true"], 2, "resnet20"),
    (["test", "--model.backbone=resnet18", "--model.pretrained=true"], 1, "resnet18-f37072fd.pth"),
]


def seven_outputs(num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 7))


def no_logits(num_classes):
    return torch.nn.Identity()


def a_string(num_classes):
    return "network"


@pytest.fixture(scope="module")
def lenet_checkpoints(tmp_path_factory) -> Path:
    """The folder with the `best.ckpt` and `last.ckpt` of a LeNet, trained for one epoch."""
    from cnn_compare.experiment import ExperimentCLI

    root = tmp_path_factory.mktemp("trained")
    ExperimentCLI([*FIT, f"--trainer.default_root_dir={root}"])
    return root / "lightning_logs" / "version_0" / "checkpoints"


@pytest.fixture
def folder(tmp_path, monkeypatch, lenet_checkpoints) -> Path:
    """The working folder, with files that are not what a command needs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    Path("folder").mkdir()
    Path("binary.yaml").write_bytes(b"\x00\xff\xfe\x80binary")
    Path("broken.yaml").write_text("trainer: {max_epochs: 3\n")
    Path("list.yaml").write_text("- a\n- b\n")
    Path("unknown_key.yaml").write_text("trainer:\n  max_epoch: 3\n")
    Path("net.yaml").write_text("model:\n  backbone: resnet18\n")
    Path("empty.ckpt").touch()
    Path("half.ckpt").write_bytes(b"PK\x03\x04half an archive")
    Path("wrong_value.yaml").write_text("trainer:\n  max_epochs: many\n")
    torch.save({"conv.weight": torch.zeros(3)}, "state_dict.pt")
    torch.save([1, 2], "list.pt")
    for name in ("best.ckpt", "last.ckpt"):
        Path(name).symlink_to(lenet_checkpoints / name)
    return tmp_path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    SETTINGS,
    ids=[f"{arguments[0]} {arguments[-1]}" if arguments else "nothing" for arguments, _, _ in SETTINGS],
)
def test_a_mistake_ends_in_one_line_before_any_training(folder, capsys, monkeypatch, arguments, status, named):
    def no_training(*_, **__):
        raise AssertionError("an epoch began")

    monkeypatch.setattr("cnn_compare.module.ClassifierModule.on_train_epoch_start", no_training)
    monkeypatch.setattr("cnn_compare.comparison.compare.run_all", no_training)
    monkeypatch.setattr("cnn_compare.comparison.local.start_server", lambda: None)
    monkeypatch.setattr("cnn_compare.profiling.profile_one", no_training)
    code, _, errors = run_command(arguments, capsys)
    assert (code, named in errors) == (status, True), errors
    assert "Traceback" not in errors
    message = [
        line for line in errors.splitlines() if not re.match(r"cnn-compare \w+: |Seed set to|[GT]PU available", line)
    ]
    assert len(message) == 1, errors


@pytest.fixture(scope="module")
def config():
    """Settings that can be trained with."""
    data = {"class_path": "DigitsDataModule", "init_args": {"train_subset": 40, "val_size": 20}}
    model = {"backbone": "lenet", "num_classes": 10, "optimizer": {"class_path": "torch.optim.SGD"}}
    return resolve_config({"trainer": {"max_epochs": 1}, "model": model, "data": data})


@pytest.mark.parametrize(("setting", "value"), VALUES)
def test_a_value_that_no_training_can_have_is_refused_by_its_name(config, setting, value):
    check_settings(config)
    *sections, name = setting.replace("optimizer.", "optimizer.init_args.").split(".")
    changes = {name: value}
    for section in reversed(sections):
        changes = {section: changes}
    with pytest.raises((InvalidValueError, RefusedSettingError), match=rf"^{re.escape(setting)}\b"):
        check_settings(merge_config(config, changes))


def test_a_command_says_what_it_is_about_to_do_before_it_imports_torch(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['lightning'] = sys.modules['jsonargparse'] = None\n"
        "from cnn_compare.cli import main\n"
        "main(['fit'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT)
    assert done.stderr.startswith("cnn-compare fit: train a backbone; starting\n")


def test_an_unforeseen_error_is_one_line_and_its_traceback_is_in_the_file_that_it_names(folder, capsys, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("seven\nby zero")

    monkeypatch.setattr("cnn_compare.commands.report.run", fail)
    code, _, errors = run_command(["report", "folder"], capsys)
    (log,) = folder.glob("cnn_compare_error_*.log")
    assert (code, errors.splitlines()) == (
        1,
        [f"UnforeseenError: ZeroDivisionError: seven by zero. The traceback is in {log.name}."],
    )
    assert "in fail" in log.read_text()


def test_one_backbone_and_one_seed_need_no_brackets_and_a_tilde_is_the_home_folder(folder, capsys, monkeypatch):
    planned = []
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setattr("cnn_compare.comparison.compare.run_all", lambda specs, *_: planned.extend(specs) or [])
    monkeypatch.setattr("cnn_compare.comparison.local.start_server", lambda: None)
    options = ["--backbones", "lenet", "--seeds", "3", "--log_dir=~/logs"]
    run_command(["compare", "--name=x", *options, *FIT[1:5]], capsys)
    assert [(spec.key.backbone, spec.key.seed) for spec in planned] == [("lenet", 3)]
    assert planned[0].folder.path == folder / "home" / "logs" / "x" / "lenet" / "seed_3"


def test_the_check_of_a_network_leaves_it_and_the_random_numbers_as_they_are():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    network[0].eval()
    before, state = {name: tensor.clone() for name, tensor in network.state_dict().items()}, torch.get_rng_state()
    check_network(network, "net", 32, 10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network] == [False, True, True]
    assert torch.equal(torch.get_rng_state(), state)


def test_pruning_while_a_network_trains_is_refused_because_best_ckpt_could_not_be_loaded():
    with pytest.raises(RefusedSettingError, match=r"ModelPruning is refused: .*best\.ckpt"):
        check_callbacks([ModelPruning])
