"""What only a CUDA device can show; `python -m benchmarks.gpu tests` runs these where there is one."""

from __future__ import annotations

import os
from unittest import mock

import lightning as L
import pytest
import torch

from cnn_compare import ClassifierModule, DigitsDataModule
from cnn_compare.backbones import find_backbone, list_backbones
from cnn_compare.callbacks import EpochTimer, MachineLoad, StopWhenDiverged
from cnn_compare.comparison.turns import TimedTraining
from cnn_compare.data.order import FetchingAhead
from cnn_compare.experiment import resolve_config
from cnn_compare.machine import other_gpu_processes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

AUGMENTATIONS = ["crop_flip_cutout", ["resized_crop", "flip", "color_jitter", "cutout"]]


class Seen(L.Callback):
    """The loss of each step and the batches that the network got, on the CPU."""

    def __init__(self):
        self.losses, self.images, self.labels = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())
        self.images.append(batch[0].cpu())
        self.labels.append(batch[1].cpu())


def trained(folder, backbone="lenet", augmentation="crop_flip_cutout", compile=False, **options):
    """What a training saw, and its data."""
    torch.manual_seed(0)
    module = ClassifierModule(backbone, compile=compile)
    data = DigitsDataModule(batch_size=100, train_subset=450, augmentation=augmentation, seed=0)
    seen = Seen()
    settings = {"accelerator": "gpu", "devices": 1, "max_epochs": 2, "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    L.Trainer(**{**settings, **options}, callbacks=[seen], default_root_dir=folder).fit(module, data)
    return seen, data


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=["cutout", "jitter"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_steps_within_an_epoch_never_wait_for_the_gpu(tmp_path, precision, augmentation):
    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            # The first step may wait, for autotuning, and so may the last, which ends the epoch.
            torch.cuda.set_sync_debug_mode("error" if 0 < batch_idx < trainer.num_training_batches - 1 else "default")

    data = DigitsDataModule(batch_size=100, augmentation=augmentation)
    callbacks = [Watch(), EpochTimer(), MachineLoad(), StopWhenDiverged()]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 2}
    trainer = L.Trainer(
        accelerator="gpu", devices=1, precision=precision, callbacks=callbacks, default_root_dir=tmp_path, **quiet
    )
    try:
        trainer.fit(ClassifierModule("lenet"), data)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_compiled_network_has_the_losses_of_an_uncompiled_one(tmp_path):
    compiled, plain = (trained(tmp_path, "resnet20", compile=compile)[0] for compile in (True, False))
    assert len(plain.losses) == 10
    # Kernels that are fused round otherwise, and ten steps let that grow.
    torch.testing.assert_close(compiled.losses, plain.losses, rtol=0.02, atol=0.02)
    assert plain.losses[-1] < plain.losses[0]


def test_ddp_on_one_device_has_the_losses_of_a_single_device(tmp_path):
    with mock.patch.dict(os.environ):  # Lightning leaves the variables of a distributed process there.
        try:
            distributed, _ = trained(tmp_path, strategy="ddp")
            assert torch.distributed.is_initialized()
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
    single, _ = trained(tmp_path)
    torch.testing.assert_close(distributed.losses, single.losses, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(distributed.images, single.images)


@pytest.mark.parametrize("name", [entry.name for entry in list_backbones()])
def test_every_backbone_trains_with_deterministic_algorithms_and_repeats_its_losses(tmp_path, name):
    size = find_backbone(name).min_size("imagenet")
    losses = []
    try:
        for _ in range(2):
            torch.manual_seed(0)
            data, seen = DigitsDataModule(batch_size=8, train_subset=24, image_size=size, seed=0), Seen()
            options = {"accelerator": "gpu", "devices": 1, "max_epochs": 1, "logger": False, "deterministic": True}
            quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
            trainer = L.Trainer(**options, **quiet, callbacks=[seen], limit_val_batches=0, default_root_dir=tmp_path)
            trainer.fit(ClassifierModule(name), data)
            losses.append(seen.losses)
    finally:
        torch.use_deterministic_algorithms(False)
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3


def test_images_too_large_for_the_gpu_are_fetched_ahead_into_the_same_batches(tmp_path):
    batches = []
    for on_device in (True, False):
        data, seen = DigitsDataModule(batch_size=100, train_subset=450, on_device=on_device, seed=0), Seen()
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        settings = {"accelerator": "gpu", "devices": 1, "max_epochs": 2, "logger": False, "callbacks": [seen]}
        L.Trainer(**settings, **quiet, default_root_dir=tmp_path).fit(ClassifierModule("lenet"), data)
        batches.append(seen)
        assert isinstance(data.train_dataloader(), FetchingAhead) != on_device
    torch.testing.assert_close(batches[0].images, batches[1].images, rtol=0, atol=0)


def test_networks_that_take_turns_share_the_images_in_the_gpus_memory():
    data = {"class_path": "DigitsDataModule", "init_args": {"batch_size": 100}}
    model = {"backbone": "lenet", "num_classes": 10}
    config = resolve_config({"model": model, "data": data, "trainer": {"devices": 1}}) | {"seed_everything": 0}
    first = TimedTraining(config)
    second = TimedTraining(config, [first.data])
    assert first.burst(2) > 0
    before = torch.cuda.memory_allocated()
    assert second.burst(2) > 0
    images = [training.data.splits["train"].images for training in (first, second)]
    assert images[0].is_cuda
    assert images[0].data_ptr() == images[1].data_ptr()
    assert torch.cuda.memory_allocated() - before < images[0].nbytes
    assert min(first.predict(2), second.predict(2)) > 0


def test_a_process_alone_on_the_gpu_sees_nobody_else_there():
    device = torch.zeros(1, device="cuda").device
    assert other_gpu_processes(device) == 0


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=["cutout", "jitter"])
def test_data_in_the_memory_of_the_gpu_gives_the_batches_of_the_cpu(tmp_path, augmentation):
    on_gpu, data = trained(tmp_path, augmentation=augmentation)
    assert {split.images.device.type for split in data.splits.values()} >= {"cuda"}
    on_cpu, _ = trained(tmp_path, augmentation=augmentation, accelerator="cpu")
    torch.testing.assert_close(on_gpu.labels, on_cpu.labels, rtol=0, atol=0)
    # A crop differs by one of 255 levels at most, which jitter makes up to 1.4**3; the images go from -1 to 1.
    atol = 1e-5 if isinstance(augmentation, str) else 3 * 2 / 255
    close = [torch.isclose(ours, theirs, atol=atol) for ours, theirs in zip(on_gpu.images, on_cpu.images, strict=True)]
    # Sums of pixels that end at .5 can be rounded to the other side; wrong draws would change most pixels of a digit.
    assert torch.cat(close).float().mean() > 0.99
