from __future__ import annotations

import copy

import lightning as L
import numpy as np
import pytest
import torch
import torch._dynamo.testing
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateFinder, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    top_k_accuracy_score,
)
from sklearn.utils.class_weight import compute_class_weight
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cnn_compare import ClassifierModule, DigitsDataModule, EpochTimer, WarmupCosine
from cnn_compare.callbacks import StopWhenDiverged
from cnn_compare.checkpointing import require_resumable
from cnn_compare.checks import make_optimizer
from cnn_compare.errors import (
    InvalidValueError,
    RefusedSettingError,
    ResumeError,
    RunError,
    UnknownBackboneError,
    UsageError,
)
from cnn_compare.experiment import ExperimentCLI
from cnn_compare.metrics import evaluation_metrics, monitors
from cnn_compare.module import balanced_weights


def quiet_trainer(folder, **options):
    settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings |= {"accelerator": "cpu", "enable_model_summary": False}
    return L.Trainer(**{**settings, **options}, default_root_dir=folder)


def small_digits(**options):
    return DigitsDataModule(**{"train_subset": 120, "batch_size": 40, "val_size": 50, **options})


def together(data, loader):
    """All images of a loader, prepared, and their labels."""
    images, labels = zip(*((data.to_input(batch[0]), batch[1]) for batch in loader), strict=True)
    return torch.cat(images), torch.cat(labels)


def two_heads(num_classes):
    """A backbone with an auxiliary head, as GoogLeNet's training output has it."""

    class Net(nn.Module):
        aux_loss_weight = 0.3

        def __init__(self):
            super().__init__()
            self.main, self.aux = nn.Linear(3, num_classes), nn.Linear(3, num_classes)

        def forward(self, images):
            pooled = images.mean((2, 3))
            return (self.main(pooled), self.aux(pooled)) if self.training else self.main(pooled)

    return Net()


def test_test_metrics_are_those_of_scikit_learn(tmp_path):
    torch.manual_seed(0)
    module, data = ClassifierModule("lenet"), small_digits()
    logged = quiet_trainer(tmp_path).test(module, data, verbose=False)[0]
    labels = module.test_outputs["labels"].numpy()
    probabilities = module.test_outputs["probabilities"].double().numpy()
    predictions = probabilities.argmax(1)
    assert len(labels) == 360
    assert logged["test/acc"] == pytest.approx(accuracy_score(labels, predictions))
    assert logged["test/top5"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))
    assert logged["test/macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    assert logged["test/balanced_acc"] == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert logged["test/loss"] == pytest.approx(log_loss(labels, probabilities / probabilities.sum(1, keepdims=True)))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_ignores_a_class_that_is_predicted_and_never_occurs():
    labels, answers = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 2, 0, 1])
    metric = evaluation_metrics(3)["balanced_acc"]
    metric.update(torch.nn.functional.one_hot(answers, 3).float(), labels)
    assert float(metric.compute()) == pytest.approx(balanced_accuracy_score(labels, answers))


def test_training_metrics_are_averages_over_images_not_over_batches(tmp_path):
    module, data = (
        ClassifierModule("lenet", optimizer=lambda p: torch.optim.SGD(p, lr=0.0)),
        small_digits(batch_size=50),
    )
    trainer = quiet_trainer(tmp_path)
    trainer.fit(module, data)
    images, labels = zip(*((data.to_input(b[0]), b[1]) for b in data.train_dataloader()), strict=True)
    assert [len(each) for each in labels] == [50, 50, 20]
    with torch.no_grad():
        logits = module(torch.cat(images))
    expected = nn.functional.cross_entropy(logits, torch.cat(labels))
    assert trainer.callback_metrics["train/loss"] == pytest.approx(float(expected), rel=1e-5)
    assert trainer.callback_metrics["train/acc"] == pytest.approx(
        float((logits.argmax(1) == torch.cat(labels)).float().mean())
    )


class Unequal(DigitsDataModule):
    """Digits of which few are not 0."""

    def load(self, split):
        images, labels = super().load(split)
        chosen = (labels == 0) | (torch.arange(len(labels)) % 5 == 0)
        return images[chosen], labels[chosen]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_weights_are_scikit_learns_and_weigh_the_loss_of_training_alone(tmp_path, smoothing):
    options = {"label_smoothing": smoothing, "optimizer": lambda p: torch.optim.SGD(p, lr=0.0)}
    module, data = ClassifierModule("lenet", class_weights="balanced", **options), Unequal(50, 50)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(module, data)
    images, labels = together(data, data.train_dataloader())
    weights = compute_class_weight("balanced", classes=np.arange(10), y=labels.numpy())
    np.testing.assert_allclose(module.loss_weights, weights, rtol=1e-6)
    assert max(weights) > 3 * min(weights)
    with torch.no_grad():
        logits = module(images)
    target = nn.functional.one_hot(labels, 10) * (1 - smoothing) + smoothing / 10
    expected = -(target * torch.tensor(weights) * logits.log_softmax(1)).sum() / len(labels)
    assert trainer.callback_metrics["train/loss"] == pytest.approx(float(expected), rel=1e-5)
    images, labels = together(data, data.val_dataloader())
    with torch.no_grad():
        plain = nn.functional.cross_entropy(module(images), labels)
    assert trainer.callback_metrics["val/loss"] == pytest.approx(float(plain), rel=1e-5)


def test_a_class_without_training_images_has_no_part_in_balanced_weights():
    assert balanced_weights([6, 0, 2]) == [8 / (2 * 6), 0, 8 / (2 * 2)]


def test_weights_for_a_plain_loader_are_given_as_a_list(tmp_path):
    loader = DataLoader(TensorDataset(torch.randn(8, 3, 32, 32), torch.tensor([0, 1] * 4)), batch_size=4)
    with pytest.raises(InvalidValueError, match=r"model\.class_weights must be a list of one weight a class where no"):
        quiet_trainer(tmp_path).fit(ClassifierModule("lenet", 2, class_weights="balanced"), loader, loader)
    module = ClassifierModule("lenet", 2, class_weights=[0.5, 2.0])
    quiet_trainer(tmp_path).fit(module, loader, loader)
    assert module.loss_weights.tolist() == [0.5, 2.0]


@pytest.mark.parametrize("weights", ["even", [1.0] * 9, [1.0] * 9 + [0.0], [1.0] * 9 + [float("nan")]])
def test_weights_that_are_no_positive_number_a_class_are_refused(weights):
    with pytest.raises(
        InvalidValueError, match=r"model\.class_weights must be none, balanced, or a list of 10 numbers"
    ):
        ClassifierModule("lenet", class_weights=weights)


def test_weight_decay_of_norm_layers_and_biases_can_be_left_out():
    def decays(**options):
        module = ClassifierModule(
            "resnet20", optimizer=lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=5e-4), **options
        )
        groups = module.configure_optimizers().param_groups
        decay = {parameter: group["weight_decay"] for group in groups for parameter in group["params"]}
        own = {"norm": [], "bias": [], "weight": []}
        for layer in module.modules():
            for name, parameter in layer.named_parameters(recurse=False):
                kind = "norm" if isinstance(layer, nn.BatchNorm2d) else name
                own[kind].append(decay.pop(parameter))
        assert not decay
        return {kind: set(values) for kind, values in own.items()}

    assert decays() == {"norm": {5e-4}, "bias": {5e-4}, "weight": {5e-4}}
    assert decays(decay_norm_and_bias=False) == {"norm": {0.0}, "bias": {0.0}, "weight": {5e-4}}


def test_a_training_does_not_go_on_with_other_groups_of_weight_decay():
    settings = {"optimizer": "torch.optim.SGD", "decay_norm_and_bias": True, "backbone_lr_factor": 1.0}
    states = [make_optimizer({**settings, "decay_norm_and_bias": both}).state_dict() for both in (True, False)]
    require_resumable("last.ckpt", {"optimizer_states": [states[0]], "epoch": 0}, make_optimizer(settings), None)
    with pytest.raises(ResumeError, match=r"it was trained with model\.decay_norm_and_bias=false"):
        require_resumable("last.ckpt", {"optimizer_states": [states[1]], "epoch": 0}, make_optimizer(settings), None)
    slower = make_optimizer({**settings, "backbone_lr_factor": 0.1}).state_dict()
    with pytest.raises(ResumeError, match=r"it was trained with model\.backbone_lr_factor=0\.1"):
        require_resumable("last.ckpt", {"optimizer_states": [slower], "epoch": 0}, make_optimizer(settings), None)


def test_five_classes_have_no_top_5_accuracy():
    assert "top5" in evaluation_metrics(6)
    assert "top5" not in evaluation_metrics(5)
    assert monitors() == {"val/acc": True, "val/macro_f1": True, "val/balanced_acc": True, "val/loss": False}


def test_auxiliary_losses_are_added_with_their_weight():
    module = ClassifierModule(f"{__name__}:two_heads", label_smoothing=0.1)
    module.trainer = type("Trainer", (), {"is_last_batch": False, "world_size": 1})()
    module.on_train_epoch_start()
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    main, aux = module.backbone(images)
    expected = nn.functional.cross_entropy(main, labels, label_smoothing=0.1)
    expected += 0.3 * nn.functional.cross_entropy(aux, labels, label_smoothing=0.1)
    torch.testing.assert_close(module.training_step((images, labels), 0), expected)


class Mixup(ClassifierModule):
    """A subclass that trains and logs in its own way."""

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = nn.functional.cross_entropy(self(0.7 * images + 0.3 * images.flip(0)), labels)
        self.log("train/loss", torch.tensor(float(batch_idx)), on_step=False, on_epoch=True, batch_size=1)
        return loss


class StopAfter(L.Callback):
    def __init__(self, epoch, batch):
        self.when = epoch, batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        trainer.should_stop = (trainer.current_epoch, batch_idx) >= self.when


@pytest.mark.parametrize(("epoch", "batch", "mean"), [(9, 9, 1.0), (1, 1, 0.5)])
def test_what_a_training_step_of_ones_own_logs_stays_when_it_is_stopped(tmp_path, epoch, batch, mean):
    callbacks = [StopAfter(epoch, batch), StopWhenDiverged()]
    trainer = quiet_trainer(tmp_path, max_epochs=2, callbacks=callbacks)
    trainer.fit(Mixup("lenet"), small_digits())
    assert float(trainer.callback_metrics["train/loss"]) == mean
    assert "train/acc" not in trainer.callback_metrics


def test_auxiliary_outputs_without_a_weight_are_refused_before_training(tmp_path):
    network = two_heads(10)
    network.register_buffer("seen", torch.zeros(1))
    network.register_forward_pre_hook(lambda module, inputs: module.seen.add_(1))
    network.aux_loss_weight = None
    trainer = quiet_trainer(tmp_path)
    with pytest.raises(UsageError, match="returns auxiliary logits in training, and has no aux_loss_weight"):
        trainer.fit(ClassifierModule(network), small_digits())
    assert (trainer.global_step, int(network.seen)) == (0, 0)
    network.aux_loss_weight = 0.3
    network.aux = nn.Linear(3, 9)
    with pytest.raises(RunError, match=r"returns \(2, 9\) for 2 images in training"):
        trainer.fit(ClassifierModule(network), small_digits())


class Sequence10(nn.Module):
    """Returns its logits in training as a list, as some published networks do."""

    aux_loss_weight = 0.5

    def __init__(self):
        super().__init__()
        self.net = two_heads(10)

    def forward(self, images):
        output = self.net(images)
        return [*output, None] if self.training else output


def test_auxiliary_outputs_may_be_a_list_with_missing_ones(tmp_path):
    trainer = quiet_trainer(tmp_path)
    trainer.fit(ClassifierModule(Sequence10()), small_digits())
    assert trainer.global_step == 3


@pytest.mark.parametrize(
    ("options", "trainer_options", "message"),
    [
        ({"optimizer": torch.optim.LBFGS}, {}, r"^model\.optimizer=LBFGS is refused: it evaluates each batch several"),
        ({}, {"callbacks": [LearningRateFinder()]}, r"^trainer\.callbacks=LearningRateFinder is refused: it sets a"),
        (
            {},
            {"callbacks": [EMAWeightAveraging()], "precision": "bf16-true"},
            r"^trainer\.precision=bf16-true is refused: rounded to 16 bits, the average of EMAWeightAveraging stands",
        ),
    ],
)
def test_what_would_train_wrongly_is_refused_before_training(tmp_path, options, trainer_options, message):
    trainer = quiet_trainer(tmp_path, **trainer_options)
    with pytest.raises(RefusedSettingError, match=message):
        trainer.fit(ClassifierModule("lenet", **options), small_digits())
    assert trainer.global_step == 0


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_a_network_of_another_precision_trains_tests_and_predicts(tmp_path, precision):
    """The reference is the same network in double precision, step by step."""
    torch.manual_seed(0)
    kind = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}[precision]
    options = {"class_weights": [1 + n / 10 for n in range(10)], "flip_tta": True}
    module, data = ClassifierModule("lenet", optimizer=lambda p: torch.optim.SGD(p, lr=0.1), **options), small_digits()
    weights = torch.tensor(options["class_weights"], dtype=torch.float64)
    reference = copy.deepcopy(module.backbone).double()
    trainer = quiet_trainer(tmp_path, precision=precision)
    trainer.fit(module, data)
    assert {parameter.dtype for parameter in module.parameters()} == {kind}
    optimizer, losses, right = torch.optim.SGD(reference.parameters(), lr=0.1), [], 0
    for images, labels, _ in data.train_dataloader():
        logits = reference(data.to_input(images).double())
        loss = nn.functional.cross_entropy(logits, labels, weights, reduction="sum") / len(labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        right += int((logits.argmax(1) == labels).sum())
    rounding = {"64-true": 1e-7, "bf16-true": 0.02, "16-true": 0.01}[precision]
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(np.mean(losses), rel=rounding)
    assert float(trainer.callback_metrics["train/acc"]) == pytest.approx(right / 120, abs=3 * rounding)
    (tested,) = trainer.test(module, data, verbose=False)
    images, labels = together(data, data.test_dataloader())
    with torch.no_grad():
        expected = sum(reference(each.double()).softmax(1) for each in (images, images.flip(3))) / 2
    found = module.test_outputs["probabilities"]
    assert found.dtype == (torch.float64 if precision == "64-true" else torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=rounding, atol=rounding)
    assert tested["test/loss"] == pytest.approx(float(nn.functional.nll_loss(found.log(), labels)), rel=1e-6)
    assert tested["test/acc"] == pytest.approx(float((found.argmax(1) == labels).double().mean()))
    predicted = torch.cat([batch["probability"] for batch in trainer.predict(module, data)])
    torch.testing.assert_close(predicted, found.amax(1))


def test_a_checkpoint_alone_rebuilds_the_network_without_its_first_weights(tmp_path):
    weights = tmp_path / "start.pth"
    torch.save(ClassifierModule("resnet20").backbone.state_dict(), weights)
    module = ClassifierModule("resnet20", weights=str(weights), optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(module, small_digits())
    trainer.save_checkpoint(tmp_path / "trained.ckpt")
    weights.unlink()
    loaded = ClassifierModule.load_from_checkpoint(tmp_path / "trained.ckpt", weights_only=True).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), module.eval()(images), rtol=0, atol=0)


def test_plateau_schedule_lowers_the_learning_rate_when_its_metric_stalls(tmp_path):
    from lightning.pytorch.cli import ReduceLROnPlateau

    module = ClassifierModule(
        "lenet",
        optimizer=lambda p: torch.optim.SGD(p, lr=0.0),
        lr_scheduler=lambda o: ReduceLROnPlateau(o, monitor="val/loss", factor=0.5, patience=0),
    )
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    module.make_optimizer = lambda p: torch.optim.SGD(p, lr=1e-12)
    trainer.fit(module, small_digits(train_subset=40))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-12 / 4)


def test_warmup_cosine_rises_to_the_peak_and_ends_near_zero():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupCosine(optimizer, warmup=0.2, total_steps=99)
    rates = []
    for _ in range(99):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(2.0 * 0.01 / 0.2)
    assert rates[19] == pytest.approx(2.0) == max(rates)
    assert rates[59] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.002


def test_the_first_step_of_a_training_has_the_schedules_first_rate(tmp_path):
    rates = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    module = ClassifierModule(
        "lenet", optimizer=lambda p: torch.optim.SGD(p, lr=1.0), lr_scheduler=lambda o: WarmupCosine(o, warmup=0.5)
    )
    quiet_trainer(tmp_path, max_epochs=3, callbacks=[Watch()]).fit(module, small_digits())
    assert rates == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, *(0.5 * (1 + np.cos(np.pi * x)) for x in (0.2, 0.4, 0.6, 0.8))]
    )


class Clock(Timer):
    """A time limit of 10 s on a machine that takes a second for each step."""

    def __init__(self):
        super().__init__(duration={"seconds": 10})
        self.steps = 0

    def time_elapsed(self, stage="train"):
        return float(self.steps)

    def on_train_batch_start(self, *_):
        self.steps += 1


def test_a_time_limit_ends_the_training_and_its_schedule_amid_an_epoch(tmp_path):
    module = ClassifierModule(
        "lenet", optimizer=lambda p: torch.optim.SGD(p, lr=0.1), lr_scheduler=lambda o: WarmupCosine(o, warmup=0.1)
    )
    timer = EpochTimer()
    trainer = quiet_trainer(tmp_path, max_epochs=-1, callbacks=[Clock(), timer])
    trainer.fit(module, small_digits())
    assert trainer.global_step == 10  # Three epochs of three steps, and one step.
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)
    assert len(timer.train_epoch_s) == 3
    assert len(timer.val_epoch_s) == 4
    assert timer.images_per_epoch == 120
    assert 0 <= trainer.callback_metrics["train/acc"] <= 1
    assert trainer.callback_metrics["time/train_epoch_s"] != pytest.approx(timer.train_epoch_s[-1], rel=1e-6)


def test_a_schedule_without_an_end_is_refused(tmp_path):
    module = ClassifierModule("lenet", lr_scheduler=WarmupCosine)
    with pytest.raises(InvalidValueError, match=r"trainer.max_epochs must be a number, or trainer.max_time set"):
        quiet_trainer(tmp_path, max_epochs=-1).fit(module, small_digits())


def test_test_and_validation_before_a_training_leave_it_possible(tmp_path):
    module, data, trainer = ClassifierModule("lenet"), small_digits(), quiet_trainer(tmp_path)
    trainer.test(module, data, verbose=False)
    trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    (after,) = trainer.test(module, data, verbose=False)
    assert after["test/acc"] == pytest.approx(
        float((module.test_outputs["predictions"] == module.test_outputs["labels"]).float().mean())
    )


def test_mirrored_test_images_count_half_in_testing_and_predicting(tmp_path):
    plain, tta = ClassifierModule("lenet"), ClassifierModule("lenet", flip_tta=True)
    tta.load_state_dict(plain.state_dict())
    data = small_digits()
    (validation,) = quiet_trainer(tmp_path).validate(tta, data, verbose=False)
    assert validation == quiet_trainer(tmp_path).validate(plain, data, verbose=False)[0]
    quiet_trainer(tmp_path).test(tta, data, verbose=False)
    batches = quiet_trainer(tmp_path).predict(tta, data)
    images = torch.cat([data.to_input(batch[0]) for batch in data.test_dataloader()])
    with torch.no_grad():
        expected = (plain(images).softmax(1) + plain(images.flip(3)).softmax(1)) / 2
    torch.testing.assert_close(tta.test_outputs["probabilities"], expected)
    assert torch.equal(torch.cat([b["class"] for b in batches]), expected.argmax(1))
    torch.testing.assert_close(torch.cat([b["probability"] for b in batches]), expected.amax(1))


def test_a_head_of_another_width_than_the_data_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="num_classes must be 10, as the data has, and is 7"):
        quiet_trainer(tmp_path).fit(ClassifierModule("lenet", num_classes=7), small_digits())


@pytest.mark.parametrize(("normalization", "expected"), [("imagenet", True), ("half", False)])
def test_pretrained_googlenet_converts_imagenet_scaling_and_only_that(tmp_path, normalization, expected):
    weights = tmp_path / "googlenet.pth"
    torch.save(ClassifierModule("googlenet").backbone.state_dict(), weights)
    module = ClassifierModule("googlenet", pretrained=True, weights=str(weights))
    trainer = quiet_trainer(tmp_path, limit_test_batches=1)
    trainer.test(module, small_digits(normalization=normalization), verbose=False)
    assert module.backbone.transform_input is expected
    trainer.save_checkpoint(tmp_path / "g.ckpt")
    loaded = ClassifierModule.load_from_checkpoint(tmp_path / "g.ckpt", weights_only=True)
    assert loaded.backbone.transform_input is expected


def test_images_reach_the_network_in_channels_last_order(tmp_path):
    seen = []
    module = ClassifierModule("lenet")
    module.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    quiet_trainer(tmp_path, limit_test_batches=1).test(module, small_digits(), verbose=False)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


@pytest.mark.parametrize("images", [115, 121])
def test_a_compiled_backbone_is_compiled_once_for_training_whatever_the_last_batch(tmp_path, monkeypatch, images):
    counter = torch._dynamo.testing.CompileCounter()
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **kw: compile_module(self, backend=counter, **kw))
    module = ClassifierModule("lenet", compile=True)
    # Batches of 40, 40 and 35 or 41.
    quiet_trainer(tmp_path, max_epochs=2, limit_val_batches=0).fit(module, small_digits(train_subset=images))
    assert counter.frame_count == 1


def test_a_compiled_backbone_gives_a_smaller_batch_the_logits_of_an_uncompiled_one(monkeypatch):
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **kw: compile_module(self, backend="eager", **kw))
    compiled, plain = ClassifierModule("lenet", compile=True), ClassifierModule("lenet")
    plain.load_state_dict(compiled.state_dict())
    images = torch.randn(8, 3, 32, 32)
    for batch in (images, images[:5]):
        torch.testing.assert_close(compiled(batch), plain(batch))


@pytest.mark.parametrize("asked", [{}, {"fused": False}, {"foreach": True}])
def test_the_optimiser_is_fused_unless_something_else_was_asked_for(tmp_path, asked):
    module = ClassifierModule("lenet", optimizer=lambda p: torch.optim.SGD(p, lr=0.1, **asked))
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(module, small_digits())
    assert bool(trainer.optimizers[0].param_groups[0]["fused"]) is not bool(asked)


def test_a_fused_optimiser_takes_the_steps_of_a_plain_one(tmp_path):
    def trained(**asked):
        torch.manual_seed(0)
        module = ClassifierModule("lenet", optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, **asked))
        quiet_trainer(tmp_path, max_steps=5).fit(module, small_digits())
        return module.backbone.state_dict()

    torch.testing.assert_close(trained(), trained(fused=False), rtol=1e-4, atol=1e-5)


def test_an_optimiser_that_cannot_be_fused_is_left_alone(tmp_path):
    module = ClassifierModule("lenet", optimizer=lambda p: torch.optim.RMSprop(p, lr=1e-3))
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(module, small_digits())
    assert "fused" not in trainer.optimizers[0].param_groups[0]


def test_the_graph_is_logged_on_request_and_leaves_the_network_as_it_is(tmp_path):
    torch.manual_seed(0)
    module = ClassifierModule("resnet20")
    before = {name: tensor.clone() for name, tensor in module.backbone.state_dict().items()}
    logger = TensorBoardLogger(tmp_path, name="", version="", log_graph=True)
    data = small_digits(image_size=32)
    quiet_trainer(tmp_path, logger=logger, max_epochs=1, limit_train_batches=0).fit(module, data)
    logger.experiment.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert "layer" in str(events.Graph())
    torch.testing.assert_close(dict(module.backbone.state_dict()), before, rtol=0, atol=0)


class TinyNet(nn.Module):
    """A user's network."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images):
        return self.head(images.mean((2, 3)))


@pytest.fixture(scope="module")
def trained_object(tmp_path_factory):
    """A network given as an object, trained for an epoch: the object, its module, and its checkpoint."""
    network = TinyNet()
    module, folder = ClassifierModule(network), tmp_path_factory.mktemp("object")
    trainer = quiet_trainer(folder)
    trainer.fit(module, small_digits())
    trainer.save_checkpoint(folder / "tiny.ckpt")
    return network, module, folder / "tiny.ckpt"


def test_a_network_given_as_an_object_is_trained_itself(trained_object):
    network, module, _ = trained_object
    assert module.backbone is network
    assert module.hparams["backbone"].endswith("test_module.TinyNet")


def test_the_checkpoint_of_an_object_needs_the_object_or_a_name_again(trained_object):
    network, _, checkpoint = trained_object
    with pytest.raises(UnknownBackboneError, match=r"load_from_checkpoint\(path, backbone=MyNet\(\)\)"):
        ClassifierModule.load_from_checkpoint(checkpoint)
    for again in (TinyNet(), "test_module:TinyNet"):
        loaded = ClassifierModule.load_from_checkpoint(checkpoint, backbone=again)
        torch.testing.assert_close(loaded.backbone.head.weight, network.head.weight)


@pytest.mark.parametrize("wrong", [TinyNet, 5, None, ["lenet"], nn.Linear(3, 10).forward])
def test_what_is_no_network_and_no_name_is_refused_in_one_line(wrong):
    with pytest.raises(InvalidValueError, match=r"^backbone must be a backbone's name or a torch.nn.Module object"):
        ClassifierModule(wrong)


def test_a_network_given_as_an_object_has_no_stem_or_published_weights():
    with pytest.raises(InvalidValueError, match="keeps its own stem"):
        ClassifierModule(TinyNet(), stem="cifar")
    with pytest.raises(UsageError):
        ClassifierModule(TinyNet(), pretrained=True)


@pytest.mark.parametrize("backbone", ["lenet", "googlenet", TinyNet()])
def test_a_module_saved_whole_by_torch_gives_the_same_answers(backbone, tmp_path):
    original = ClassifierModule(backbone, lr_scheduler=WarmupCosine).eval()
    torch.save(original, tmp_path / "module.pt")
    loaded = torch.load(tmp_path / "module.pt", weights_only=False)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded(images), original(images))
    assert loaded.hparams == original.hparams


def test_a_trained_module_of_the_command_line_saved_whole_can_be_trained_on(tmp_path):
    options = [
        "--model.backbone=lenet",
        "--model.optimizer=SGD",
        "--model.optimizer.lr=0.25",
        "--data=DigitsDataModule",
    ]
    options += ["--model.lr_scheduler=WarmupCosine", "--model.lr_scheduler.warmup=0.5", "--trainer.logger=false"]
    module = ExperimentCLI(args=options, run=False).model
    quiet_trainer(tmp_path).fit(module, small_digits())
    torch.save(module, tmp_path / "module.pt")
    loaded = torch.load(tmp_path / "module.pt", weights_only=False)
    assert loaded.make_optimizer(loaded.parameters()).param_groups[0]["lr"] == 0.25
    quiet_trainer(tmp_path).fit(loaded, small_digits())
