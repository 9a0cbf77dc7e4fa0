"""What every data module promises: splits, order, draws, preparation, fingerprint, and clear refusals."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning import LightningModule, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torchvision.transforms.v2 import functional as one

from cnn_compare import CIFAR10DataModule, DigitsDataModule, ImageDataModule
from cnn_compare.data import augment
from cnn_compare.data.order import EpochSampler
from cnn_compare.data.splits import stratified_order
from cnn_compare.errors import InvalidValueError

PUBLISHED = {
    "half": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


class Recorder(LightningModule):
    """A network that keeps every batch it is shown, and draws ``appetite`` numbers from torch's generator a step."""

    def __init__(self, appetite=0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.appetite, self.train_epochs, self.val, self.test = appetite, {}, [], []

    def training_step(self, batch, batch_idx):
        torch.rand(self.appetite)
        self.train_epochs.setdefault(self.current_epoch, []).append(batch)
        return self.weight * batch[0].mean()

    def validation_step(self, batch, batch_idx):
        self.val.append(batch)

    def test_step(self, batch, batch_idx):
        self.test.append(batch)

    def predict_step(self, batch, batch_idx):
        return batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def epoch(self, number):
        """Images and labels of a training epoch, in the order in which they came."""
        return together(self.train_epochs[number])


class Painted(ImageDataModule):
    """Random images that a test may paint over: 60 to train, 20 to test."""

    class_names = ("a", "b")
    usual_val_size = 20

    def __init__(self, **options):
        super().__init__(**{"batch_size": 16, **options})
        rng = np.random.default_rng(0)
        self.images = {n: torch.from_numpy(rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)) for n in (60, 20)}
        self.labels = {n: torch.arange(n) % 2 for n in (60, 20)}

    def load(self, split):
        n = 60 if split == "train" else 20
        return self.images[n], self.labels[n]


def together(batches):
    images, labels = zip(*(batch[:2] for batch in batches), strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.fixture
def make_cifar(tiny_cifar10):
    """A function that makes a data module of the tiny CIFAR-10: 150 images to train, 50 to validate, 40 to test."""
    return lambda **options: CIFAR10DataModule(str(tiny_cifar10), **{"batch_size": 32, "val_size": 50, **options})


@pytest.fixture
def split_of(make_cifar):
    """A function that gives the places in the whole training set of a split's images, in the loader's order."""
    images, _ = make_cifar().load("train")
    places = {image.numpy().tobytes(): index for index, image in enumerate(images)}

    def split(name, **options):
        data = make_cifar(**options)
        data.setup("fit")
        loader = data.train_dataloader() if name == "train" else data.val_dataloader()
        return [places[image.permute(1, 2, 0).numpy().tobytes()] for batch in loader for image in batch[0]]

    return split


@pytest.fixture
def record(make_trainer):
    """A function that fits a `Recorder` on data and returns it."""

    def run(data, appetite=0, ckpt_path=None, **options):
        recorder = Recorder(appetite)
        make_trainer(**options).fit(recorder, data, ckpt_path=ckpt_path)
        return recorder

    return run


# Splits


def test_training_and_validation_share_no_image_and_leave_none_out(split_of):
    train, val = split_of("train"), split_of("val")
    assert (len(train), len(val)) == (150, 50)
    assert sorted(train + val) == list(range(200))


@pytest.mark.parametrize(("val_size", "train_subset"), [(50, None), (50, 40), (10, 190), (33, 77)])
def test_every_split_has_each_class_in_its_share(make_cifar, val_size, train_subset):
    data = make_cifar(val_size=val_size, train_subset=train_subset)
    data.setup("fit")
    for loader, size in ((data.train_dataloader(), train_subset or 150), (data.val_dataloader(), val_size)):
        counts = Counter(together(loader)[1].tolist())
        assert counts.total() == size
        assert set(counts) == set(range(10))
        assert all(abs(count - size / 10) < 1 for count in counts.values())


def test_every_stretch_of_a_stratified_order_has_rare_classes_in_their_share():
    labels = np.repeat([0, 1, 2], [300, 60, 7])
    order = stratified_order(labels, seed=3)
    assert sorted(order) == list(range(367))
    shares = np.array([300, 60, 7]) / 367
    counts = np.cumsum(labels[order][:, None] == np.arange(3), axis=0)
    assert np.abs(counts - np.arange(1, 368)[:, None] * shares).max() <= 1


@pytest.mark.parametrize("name", ["train", "val"])
def test_splits_depend_on_the_split_seed_and_not_on_the_seed(split_of, name):
    first = sorted(split_of(name, seed=0, train_subset=80))
    assert sorted(split_of(name, seed=1, train_subset=80, batch_size=16)) == first
    assert sorted(split_of(name, seed=0, train_subset=80, split_seed=43)) != first


def test_a_smaller_subset_is_part_of_a_larger_one_and_leaves_validation_alone(split_of):
    subsets = [set(split_of("train", train_subset=size)) for size in (10, 34, 80, 150, None)]
    assert [len(each) for each in subsets] == [10, 34, 80, 150, 150]
    assert all(small <= large for small, large in pairwise(subsets))
    assert split_of("val", train_subset=10) == split_of("val")


def test_validation_comes_in_the_order_of_the_data(split_of):
    val = split_of("val")
    assert val == sorted(val)


def test_a_test_loads_the_test_images_alone(make_cifar, monkeypatch):
    data, loaded = make_cifar(), []
    monkeypatch.setattr(data, "load", lambda split: loaded.append(split) or CIFAR10DataModule.load(data, split))
    data.setup("test")
    data.setup("predict")
    assert loaded == ["test"]
    assert together(data.test_dataloader())[0].shape == (40, 3, 32, 32)


# Order and draws


@pytest.mark.parametrize(("images", "batch_size", "sizes"), [(41, 20, [20, 21]), (40, 39, [40]), (3, 1, [1, 1, 1])])
def test_a_last_batch_of_a_single_image_joins_the_one_before_it(record, images, batch_size, sizes):
    data = Painted(train_subset=images, batch_size=batch_size, val_size=19)
    recorder = record(data)
    batches = recorder.train_epochs[0]
    assert [len(labels) for _, labels in batches] == sizes
    assert len(data.train_dataloader()) == recorder.trainer.estimated_stepping_batches == len(sizes)
    seen = {image.numpy().tobytes() for inputs, _ in batches for image in inputs}
    assert len(seen) == images
    few = record(data, limit_train_batches=1).train_epochs[0]
    assert [len(labels) for _, labels in few] == sizes[:1]


def test_every_training_image_comes_once_an_epoch(make_cifar, record):
    data = make_cifar()
    recorder = record(data, max_epochs=2)
    expected = Counter(image.numpy().tobytes() for image in together(data.train_dataloader())[0])
    assert expected.total() == len(expected) == 150
    for epoch in (0, 1):
        pixels = ((recorder.epoch(epoch)[0] * 0.5 + 0.5) * 255).round().to(torch.uint8)
        assert Counter(image.numpy().tobytes() for image in pixels) == expected


def test_same_seed_gives_the_same_batches_whatever_the_network_drew(make_cifar, record):
    options = {"augmentation": "crop_flip_cutout", "seed": 5}
    torch.manual_seed(0)
    frugal = record(make_cifar(**options), max_epochs=2)
    torch.manual_seed(1)
    greedy = record(make_cifar(**options), appetite=1000, max_epochs=2)
    for epoch in (0, 1):
        for ours, theirs in zip(frugal.train_epochs[epoch], greedy.train_epochs[epoch], strict=True):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_another_epoch_or_another_seed_gives_another_order(make_cifar, record, augmentation):
    first = record(make_cifar(seed=0, augmentation=augmentation), max_epochs=2)
    second = record(make_cifar(seed=1, augmentation=augmentation))
    assert not torch.equal(first.epoch(0)[1], first.epoch(1)[1])
    assert not torch.equal(first.epoch(0)[1], second.epoch(0)[1])


def test_a_resumed_training_sees_the_batches_that_an_uninterrupted_one_sees(make_cifar, record, tmp_path):
    options = {"augmentation": "crop_flip_cutout", "seed": 5}
    whole = record(make_cifar(**options), max_epochs=3)
    record(make_cifar(**options), max_epochs=1).trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    rest = record(make_cifar(**options), max_epochs=3, ckpt_path=tmp_path / "stopped.ckpt")
    assert sorted(rest.train_epochs) == [1, 2]
    for epoch in (1, 2):
        assert torch.equal(rest.epoch(epoch)[0], whole.epoch(epoch)[0])


def test_no_seed_means_that_of_seed_everything_or_zero():
    assert DigitsDataModule().seed == 0
    seed_everything(7, verbose=False)
    assert DigitsDataModule().seed == 7
    assert DigitsDataModule(seed=0).seed == 0
    assert DigitsDataModule().fingerprint() == DigitsDataModule(seed=7).fingerprint()


# From stored pixels to the network's input


def prepared(image, normalization, image_size, draws=None, cutout=False):
    """One image's way to the network by torchvision's functions."""
    if draws is not None:
        top, left, flipped, row, column = draws
        image = one.crop(one.pad(image, [4]), top, left, 32, 32)
        image = one.horizontal_flip(image) if flipped else image
    image = one.normalize(one.to_dtype(image, torch.float32, scale=True), *PUBLISHED[normalization])
    if cutout:
        image[:, max(row - 8, 0) : row + 8, max(column - 8, 0) : column + 8] = 0
    return one.resize(image, [image_size, image_size], antialias=True)


def table(draws):
    """All numbers, one row an image."""
    return torch.cat([part.reshape(len(part), -1) for part in draws.values()], dim=1)


def centred(draws, augmentation):
    """Draws with the offset of an image that stays where it is, for what does not crop."""
    return draws if augmentation.startswith("crop") else [4, 4, *draws[2:]]


@pytest.mark.parametrize(
    ("augmentation", "normalization", "image_size"),
    [
        ("none", "half", 32),
        ("flip", "half", 32),
        ("crop_flip", "cifar10", 32),
        ("crop_flip_cutout", "half", 32),
        ("crop_flip_cutout", "imagenet", 48),
        ("crop_flip", "half", 20),
    ],
)
def test_training_images_are_those_of_torchvision_with_the_same_draws(
    make_trainer, augmentation, normalization, image_size
):
    options = {"augmentation": augmentation, "normalization": normalization, "image_size": image_size}
    data, recorder = Painted(seed=3, **options), Recorder()
    make_trainer(max_epochs=2).fit(recorder, data)
    stored = together([data._splits["train"].__getitems__(list(range(40)))])
    sampler = EpochSampler(40, seed=3)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        order, draws = torch.from_numpy(sampler.order()), table(sampler.draws((), (32, 32), image_size))
        expected = [
            prepared(
                stored[0][index],
                normalization,
                image_size,
                centred(draws[index].tolist(), augmentation) if augmentation != "none" else None,
                augmentation == "crop_flip_cutout",
            )
            for index in order
        ]
        images, labels = recorder.epoch(epoch)
        torch.testing.assert_close(images, torch.stack(expected), rtol=1e-5, atol=1e-5)
        assert torch.equal(labels, stored[1][order])
    for images, labels in recorder.train_epochs[0]:
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.dtype == torch.int64


@pytest.mark.parametrize("image_size", [32, 40])
def test_validation_test_and_prediction_images_are_never_augmented(make_trainer, image_size):
    data = Painted(augmentation="crop_flip_cutout", normalization="cifar10", image_size=image_size)
    recorder, trainer = Recorder(), make_trainer(max_epochs=2, num_sanity_val_steps=1)
    trainer.fit(recorder, data)
    trainer.validate(recorder, data, verbose=False)
    trainer.test(recorder, data, verbose=False)
    val = torch.cat([batch[0] for batch in data.val_dataloader()])
    expected = torch.stack([prepared(image, "cifar10", image_size) for image in val])
    seen = [batch[0] for batch in recorder.val]
    # One batch of 16 in the sanity check, then three times 16 and 4.
    torch.testing.assert_close(torch.cat(seen), torch.cat([expected[:16], *[expected] * 3]), rtol=1e-5, atol=1e-5)
    expected = torch.stack([prepared(image, "cifar10", image_size) for image in data.images[20].permute(0, 3, 1, 2)])
    torch.testing.assert_close(together(recorder.test)[0], expected, rtol=1e-5, atol=1e-5)
    predicted = together(trainer.predict(recorder, data))
    assert torch.equal(predicted[0], together(recorder.test)[0])
    assert torch.equal(predicted[1], data.labels[20])


@pytest.mark.parametrize(
    ("augmentation", "fingerprint", "pixels"),
    [
        ("none", "b5f7b1c9df0573a7", "6e391d010dfa1ca0"),
        ("flip", "f2fd73e44bff5f18", "b4305f636ac42183"),
        ("crop_flip", "86012a25b2287366", "6f8b3c6f74340bee"),
        ("crop_flip_cutout", "3828799dc3473d87", "53e9e1d51bb855e4"),
    ],
)
def test_the_words_of_the_first_version_still_mean_the_same_images(record, augmentation, fingerprint, pixels):
    """The values were stored before an augmentation could be a list."""
    data = Painted(seed=3, augmentation=augmentation)
    images = record(data, max_epochs=2).epoch(1)[0].permute(0, 2, 3, 1).contiguous().numpy()
    assert data.fingerprint() == fingerprint
    assert hashlib.blake2b(images.tobytes(), digest_size=8).hexdigest() == pixels


def test_a_list_of_steps_is_applied_in_its_order_to_images_of_any_shape(record):
    """Stored 32x24 pictures reach the network as torchvision makes them of the same draws, at 20 pixels."""
    steps = ["resized_crop", "color_jitter", "flip", "cutout"]
    data = Painted(seed=3, augmentation=steps, image_size=20)
    data.images = {n: images[:, :, :24].contiguous() for n, images in data.images.items()}
    images = record(data).epoch(0)[0]
    stored = together([data._splits["train"].__getitems__(list(range(40)))])[0]
    sampler = EpochSampler(40, seed=3)
    draws = sampler.draws(steps, (32, 24), 20)
    for place, index in enumerate(sampler.order()):
        top, left, height, width = draws["resized_crop"][index].tolist()
        image = one.resized_crop(stored[index], top, left, height, width, [20, 20], antialias=True) / 255
        brightness, contrast, saturation = draws["color_jitter"][index].tolist()
        image = one.adjust_contrast(one.adjust_brightness(image, brightness), contrast)
        image = one.adjust_saturation(image, saturation)
        image = one.horizontal_flip(image) if draws["flip"][index] else image
        image = one.normalize(image, [0.5] * 3, [0.5] * 3)
        row, column = draws["cutout"][index].tolist()
        image[:, max(row - 8, 0) : row + 8, max(column - 8, 0) : column + 8] = 0
        # A level of 255 is 2 / 255 here; jitter rounds to whole levels.
        torch.testing.assert_close(images[place], image, rtol=0, atol=1.01 / 255)


def test_a_further_step_leaves_the_draws_of_the_others_as_they_are():
    sampler = EpochSampler(50, seed=3)
    few = sampler.draws(["resized_crop", "flip"], (32, 32), 32)
    many = sampler.draws(["crop", "resized_crop", "color_jitter", "flip"], (32, 32), 32)
    assert all(torch.equal(few[step], many[step]) for step in few)
    sampler.set_epoch(1)
    assert not torch.equal(sampler.draws(["resized_crop"], (32, 32), 32)["resized_crop"], few["resized_crop"])


def test_own_normalization_is_numpys_mean_and_deviation_of_the_training_images_alone(monkeypatch):
    monkeypatch.setattr(augment, "PIXELS_AT_A_TIME", 32 * 32 * 3 * 7)
    data = Painted(normalization="own")
    data.images[60][:, :16] //= 3  # so that the deviation is not that of evenly distributed pixels
    data.setup("fit")
    train = data._splits["train"].subset.numpy()
    pixels = data.images[60].numpy()[train].reshape(-1, 3) / 255
    assert len(train) == 40
    stored = data.preparation["normalization"]
    np.testing.assert_allclose(stored, [pixels.mean(0), pixels.std(0)], rtol=1e-12)
    inputs = data.to_input(data.images[60][train].permute(0, 3, 1, 2))
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-5
    assert (inputs.std((0, 2, 3)) - 1).abs().max() < 1e-4
    given = Painted(normalization=stored)
    given.images = data.images
    assert given.fingerprint() == data.fingerprint() != Painted(normalization="own").fingerprint()


def test_own_normalization_is_that_of_the_size_that_the_network_gets():
    data = Painted(normalization="own", image_size=8, augmentation=["resized_crop"])
    train = data.splits["train"]
    inputs = data.to_input(train.images[train.subset].permute(0, 3, 1, 2))
    np.testing.assert_allclose(inputs.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(inputs.std((0, 2, 3), correction=0), 1, atol=1e-4)


def test_own_normalization_refuses_a_colour_that_never_changes():
    data = Painted(normalization="own")
    data.images[60][..., 2] = 7
    with pytest.raises(InvalidValueError, match=r"data\.normalization must be .*a colour is the same in all pixels"):
        data.setup("fit")


def test_draws_fill_their_ranges_evenly():
    draws = table(EpochSampler(20_000, seed=0).draws((), (32, 32), 32)).numpy()
    for column, choices in enumerate([9, 9, 2, 32, 32]):
        counts = np.bincount(draws[:, column], minlength=choices)
        assert len(counts) == choices
        # Six standard deviations of a binomial count.
        assert np.abs(counts - 20_000 / choices).max() < 6 * np.sqrt(20_000 / choices)


def test_draws_follow_the_images_to_the_device_of_a_second_trainer(record):
    data = Painted(augmentation="crop_flip")
    record(data)
    elsewhere = data._epoch_draws(torch.empty(4, 3, 32, 32, device="meta"))
    assert (elsewhere["flip"].device.type, elsewhere["flip"].shape) == ("meta", (40,))


def test_images_that_lie_in_another_order_of_memory_are_taken_too(record):
    """The natural thing to write in a subclass: pictures stored as (N, 3, H, W), permuted."""
    plain, permuted = Painted(seed=0), Painted(seed=0)
    permuted.images = {n: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for n, x in plain.images.items()}
    assert not permuted.images[60].is_contiguous()
    assert torch.equal(record(permuted).epoch(0)[0], record(plain).epoch(0)[0])
    assert permuted.fingerprint() == plain.fingerprint()


# Fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"split_seed": 1},
        {"val_size": 60},
        {"train_subset": 140},
        {"batch_size": 31},
        {"image_size": 33},
        {"normalization": "cifar10"},
        {"augmentation": "crop_flip"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_that_changes_a_batch_changes_the_fingerprint(make_cifar, change):
    assert make_cifar(**change).fingerprint() != make_cifar().fingerprint()


def test_the_fingerprint_stays_as_long_as_the_batches_do(make_cifar, record):
    first = make_cifar(augmentation="crop_flip").fingerprint()
    torch.manual_seed(123)
    trained = make_cifar(augmentation="crop_flip", on_device=True)
    record(trained, appetite=10, max_epochs=2)
    assert trained.fingerprint() == first
    assert make_cifar(augmentation="crop_flip", on_device=False, seed=0, split_seed=42).fingerprint() == first


@pytest.mark.parametrize("size", [60, 20], ids=["train", "test"])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_one_changed_pixel_or_label_changes_the_fingerprint(size, kind):
    changed = Painted()
    stored = getattr(changed, kind)[size]
    stored.view(-1)[-1] ^= 1
    assert changed.fingerprint() != Painted().fingerprint()


# Digits


def test_digits_are_scikit_learns_1797_each_in_one_split_enlarged_bilinearly():
    data, source = DigitsDataModule(), load_digits()
    (train, train_labels), (test, test_labels) = data.load("train"), data.load("test")
    assert (len(train), len(test)) == (1437, 360)
    grey = torch.from_numpy(source.images).float()[:, None] * (255 / 16)
    enlarged = one.resize(grey, [32, 32], antialias=True).round().to(torch.uint8).permute(0, 2, 3, 1)
    expected = Counter(zip((image.numpy().tobytes() for image in enlarged), source.target.tolist(), strict=True))
    images, labels = torch.cat([train, test]), torch.cat([train_labels, test_labels])
    assert images.shape == (1797, 32, 32, 3)
    assert torch.equal(images[..., :1].expand(-1, -1, -1, 3), images)
    red = (image.numpy().tobytes() for image in images[..., :1].contiguous())
    # Equal as multisets, so that no image is lost, and none is in both splits.
    assert Counter(zip(red, labels.tolist(), strict=True)) == expected


def test_digits_keep_the_same_test_images_whatever_the_seeds():
    first, second = DigitsDataModule().load("test"), DigitsDataModule(seed=5, split_seed=6).load("test")
    assert torch.equal(first[0], second[0])
    shares = np.bincount(load_digits().target) * 360 / 1797
    assert np.abs(np.bincount(first[1]) - shares).max() < 1


# Refusals


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("batch_size", [0, -1]),
        ("val_size", [0, -5]),
        ("image_size", [0, -32]),
        ("train_subset", [0, -5]),
        ("seed", [-1, 2**32]),
        ("split_seed", [-1, 2**32]),
        ("normalization", ["", "Half", "cifar100", [[0.5], [0.5]], [[0.5] * 3, [0.5, 0.5, 0]]]),
        ("augmentation", ["", "crop", "None", ["flip", "flip"], ["cutout", "flip"], ["blur"], ["crop", "none"]]),
    ],
)
def test_values_outside_their_range_are_refused_at_once(option, values):
    for value in values:
        with pytest.raises(InvalidValueError, match=rf"data\.{option}\b.* must be ") as caught:
            DigitsDataModule(**{option: value})
        assert repr(value) in str(caught.value)
        assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_size": 191}, r"data.val_size must be from 10 .* to 190 .*, and is 191"),
        ({"val_size": 9}, r"data.val_size must be from 10 \(one image a class\)"),
        ({"train_subset": 151}, r"data.train_subset must be from 10 .* to 150 .*, and is 151"),
        ({"train_subset": 9}, r"data.train_subset must be from 10 .*, and is 9"),
    ],
)
def test_splits_that_the_data_has_no_room_for_are_refused(make_cifar, options, message):
    with pytest.raises(InvalidValueError, match=message):
        make_cifar(**options).setup("fit")


@pytest.mark.parametrize("options", [{"val_size": 190}, {"val_size": 10, "train_subset": 190}, {"batch_size": 150}])
def test_the_largest_splits_that_there_is_room_for_are_accepted(make_cifar, options):
    make_cifar(**options).setup("fit")


def test_each_data_set_has_its_usual_validation_size():
    assert (CIFAR10DataModule().val_size, DigitsDataModule().val_size) == (5000, 200)
    assert (CIFAR10DataModule().num_classes, DigitsDataModule().num_classes) == (10, 10)


# The real CIFAR-10


def test_the_real_cifar10_has_its_published_sizes_means_and_deviations(real_cifar10):
    data = CIFAR10DataModule(str(real_cifar10))
    images, labels = data.load("train")
    assert images.shape == (50_000, 32, 32, 3)
    assert torch.bincount(labels).tolist() == [5000] * 10
    assert torch.bincount(data.load("test")[1]).tolist() == [1000] * 10
    parts, levels = np.split(images.numpy().reshape(-1, 3), 500), np.arange(256) / 255
    counts = sum(np.stack([np.bincount(colour, minlength=256) for colour in part.T]) for part in parts)
    mean = counts @ levels / (50_000 * 32 * 32)
    deviation = np.sqrt(counts @ levels**2 / (50_000 * 32 * 32) - mean**2)
    # Published to four digits; the deviations that everybody quotes are off by one in the last.
    np.testing.assert_allclose(mean, PUBLISHED["cifar10"][0], atol=5e-5)
    np.testing.assert_allclose(deviation, PUBLISHED["cifar10"][1], atol=1e-4)


class Furnished(ImageDataModule):
    """Takes arguments of its own, by position and by name."""

    def __init__(self, folder, *, scale=1.0, **options):
        self.folder, self.scale = folder, scale
        super().__init__(**options)


def test_a_data_module_tells_the_arguments_it_was_made_with(tmp_path):
    data = Furnished(tmp_path, scale=0.5, val_size=20)
    config = {"folder": str(tmp_path), "scale": 0.5, "val_size": 20}
    assert data.config() == {"class_path": f"{__name__}.Furnished", "init_args": config}
    digits = {"class_path": "cnn_compare.DigitsDataModule", "init_args": {"batch_size": 64}}
    assert DigitsDataModule(64).config() == digits
    assert pickle.loads(pickle.dumps(data)).config() == data.config()


def test_a_data_module_that_other_processes_could_not_make_again_is_refused():
    class Local(DigitsDataModule):
        pass

    with pytest.raises(InvalidValueError, match=r"at the top of a file that can be imported"):
        Local().config()
    with pytest.raises(InvalidValueError, match=r"data\.folder must be a plain value"):
        Furnished(object(), val_size=20).config()
    changed = DigitsDataModule(batch_size=64)
    changed.batch_size = 32
    with pytest.raises(InvalidValueError, match=r"data\.batch_size must be 64, as it was made with, and is 32"):
        changed.config()
