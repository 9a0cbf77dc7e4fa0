from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import Payload
from lightning import LightningDataModule
from PIL import Image
from torch import nn
from torch.nn import functional as F

from cnn_compare import Classifier, ClassifierModule, DigitsDataModule
from cnn_compare.data.decode import Decoding
from cnn_compare.errors import (
    BadPictureError,
    InvalidValueError,
    NoTrainedNetworkError,
    UnknownBackboneError,
    UsageError,
)


def paths_of_test_images(data):
    return [data.pictures.root / data.image_name("test", row) for row in data.splits["test"].subset.tolist()]


@pytest.mark.parametrize("flip_tta", [False, True])
def test_probabilities_of_files_are_bit_for_bit_those_of_the_test(trained, make_trainer, tmp_path, flip_tta):
    _, data, checkpoint = trained
    module = ClassifierModule.load_from_checkpoint(checkpoint, flip_tta=flip_tta)
    trainer = make_trainer()
    trainer.strategy.connect(module)
    trainer.test(module, data, verbose=False)
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["flip_tta"] = flip_tta
    torch.save(content, tmp_path / "some.ckpt")
    classifier, paths = Classifier.load(tmp_path / "some.ckpt"), paths_of_test_images(data)
    stored = data.splits["test"]
    pixels = classifier.pixels(paths)
    np.testing.assert_array_equal(pixels, stored.images[stored.subset].numpy())
    # In the test's batches: another number of images may be rounded otherwise.
    found = np.concatenate([classifier.probabilities(part) for part in np.split(pixels, range(4, len(paths), 4))])
    np.testing.assert_array_equal(found, module.test_outputs["probabilities"].numpy())


def test_the_table_names_the_most_probable_classes_in_their_order(trained):
    _, data, checkpoint = trained
    classifier, paths = Classifier.load(checkpoint), paths_of_test_images(data)
    table = classifier(paths, batch_size=3)
    assert [*table] == ["path", "label", "probability", "label_2", "probability_2", "label_3", "probability_3"]
    assert table["path"].tolist() == [str(path) for path in paths]
    probabilities = classifier.probabilities(classifier.pixels(paths))
    for row, expected in zip(table.to_dict("records"), probabilities, strict=True):
        names = [row["label"], row["label_2"], row["label_3"]]
        assert names == [data.class_names[label] for label in sorted(range(3), key=lambda label: -expected[label])]
        np.testing.assert_allclose(
            [row["probability"], row["probability_2"], row["probability_3"]], sorted(expected)[::-1], rtol=1e-5
        )
    assert [*classifier(paths, top_k=1)] == ["path", "label", "probability"]
    assert len(classifier([])) == 0


def test_a_path_an_opened_picture_and_its_array_are_the_same_picture(trained, pictures):
    classifier, path = Classifier.load(trained[2]), pictures / "grün" / "00.png"
    with Image.open(path) as image:
        array = np.asarray(image)
        pixels = classifier.pixels(
            [path, str(path), image, array, np.dstack([array, np.full(array.shape[:2], 255)]).astype(np.uint8)]
        )
    assert all(np.array_equal(pixels[0], other) for other in pixels[1:])
    assert np.array_equal(classifier.pixels(path), pixels[:1])
    assert np.array_equal(classifier.pixels(array), pixels[:1])
    assert np.array_equal(classifier.pixels(np.stack([array, array])), pixels[:2])
    assert classifier.pixels(array[:, :, 0]).shape == (1, 40, 40, 3)
    assert classifier(path)["path"].tolist() == [str(path)]
    assert classifier(array)["path"].tolist() == [None]


@pytest.mark.parametrize("picture", [np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8)[None], "missing.png", [[1]]])
def test_what_is_no_picture_is_refused(trained, picture):
    with pytest.raises(BadPictureError, match="cannot be decoded"):
        Classifier.load(trained[2])([picture] if isinstance(picture, str) else picture)


def test_a_checkpoint_says_how_pictures_are_prepared_and_what_it_was_made_with(trained):
    _, data, checkpoint = trained
    content = torch.load(checkpoint, weights_only=True)
    images = data.splits["train"]
    # Of what the network gets: the images after resizing.
    pixels = images.images[images.subset].permute(0, 3, 1, 2).double().div(255)
    pixels = F.interpolate(pixels, size=data.image_size, mode="bilinear", antialias=True).movedim(1, 3).reshape(-1, 3)
    mean, std = content["data"]["mean_std"]
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-4)
    np.testing.assert_allclose(std, pixels.std(0, correction=0), rtol=1e-4)
    assert content["data_fingerprint"] == data.fingerprint()
    classifier = Classifier.load(checkpoint)
    assert classifier.decoding == data.decoding == Decoding(40, "pad", (200, 10, 90))
    assert (classifier.class_names, classifier.image_size) == (["a b", "grün", "강아지"], 32)
    assert classifier.versions["torch"] in torch.__version__
    assert classifier.fingerprint == data.fingerprint()
    assert not classifier.module.training


class WithoutTest(DigitsDataModule):
    """Digits whose test images are missing."""

    def load(self, split):
        if split == "test":
            raise FileNotFoundError("the test images are secret")
        return super().load(split)


def test_a_training_without_test_images_leaves_a_checkpoint_without_fingerprint(make_trainer, tmp_path, caplog):
    trainer = make_trainer()
    trainer.fit(ClassifierModule("lenet_relu"), WithoutTest(train_subset=40, val_size=20, batch_size=20))
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    assert "no data fingerprint: FileNotFoundError" in caplog.text
    classifier = Classifier.load(tmp_path / "some.ckpt")
    assert classifier.fingerprint is None
    assert classifier.decoding == Decoding(32)


def without(checkpoint, path, *names, of_data=()):
    content = torch.load(checkpoint, weights_only=True)
    for name in names:
        del content[name]
    for name in of_data:
        del content["data"][name]
    torch.save(content, path)
    return path


def test_what_a_checkpoint_lacks_is_asked_for_and_taken_as_keywords(trained, pictures, tmp_path):
    checkpoint, picture = trained[2], pictures / "grün" / "00.png"
    expected = Classifier.load(checkpoint)(picture)
    older = Classifier.load(
        without(checkpoint, tmp_path / "older.ckpt", "versions", "data_fingerprint", of_data=["mean_std"])
    )
    assert older(picture).equals(expected)
    assert older.versions == {}
    oldest = without(checkpoint, tmp_path / "oldest.ckpt", "versions", "data_fingerprint", "data")
    with pytest.raises(UsageError, match=r"Give class_names, image_size, normalization as well"):
        Classifier.load(oldest)
    asked = {"class_names": ["x", "y", "z"], "image_size": 32, "normalization": "half"}
    classifier = Classifier.load(oldest, **asked)
    assert (classifier.class_names, classifier.decoding) == (["x", "y", "z"], Decoding(32))
    assert Classifier.load(oldest, **asked, stored_size=64, fit="squash").decoding == Decoding(64, "squash")
    with pytest.raises(InvalidValueError, match="class_names must be a list of 3 names"):
        Classifier.load(oldest, **{**asked, "class_names": ["x"]})
    with pytest.raises(InvalidValueError, match="no training images are at hand"):
        Classifier.load(oldest, **{**asked, "normalization": "own"})
    with pytest.raises(UsageError, match="Give stored_size as well"):
        Classifier.load(without(checkpoint, tmp_path / "old.ckpt", of_data=["stored_size"]))


@pytest.mark.parametrize("options", [{"image_size": 64}, {"fit": "crop"}, {"class_names": ["x", "y", "z"]}])
def test_what_contradicts_the_checkpoint_is_refused(trained, options):
    with pytest.raises(InvalidValueError, match="left out, or"):
        Classifier.load(trained[2], **options)


class Wide(LightningDataModule):
    """Knows what a checkpoint stores of images that are twice as wide as high."""

    @property
    def preparation(self):
        return {"class_names": ["x", "y"], "image_size": 32, "normalization": "half", "stored_size": [32, 64]}

    def fingerprint(self):
        return "1"


def test_pictures_for_a_network_of_wide_images_are_squashed_as_these_were(make_trainer, tmp_path):
    trainer = make_trainer()
    module = ClassifierModule("lenet_relu", num_classes=2)
    trainer.strategy.connect(module)
    module.trainer, trainer.datamodule = trainer, Wide()
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    assert Classifier.load(tmp_path / "some.ckpt").decoding == Decoding(32, "squash")


def test_a_network_given_as_an_object_is_asked_for(make_trainer, tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    trainer, module = make_trainer(), ClassifierModule(network)
    trainer.strategy.connect(module)
    trainer.test(module, DigitsDataModule(train_subset=40, val_size=20), verbose=False)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    with pytest.raises(UnknownBackboneError, match="given to ClassifierModule as an object"):
        Classifier.load(tmp_path / "some.ckpt")
    again = Classifier.load(tmp_path / "some.ckpt", backbone=nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))
    assert torch.equal(again.module.backbone[1].weight, network[1].weight)


def test_a_comparison_stands_for_the_network_with_the_best_mean_and_its_seed_best_in_validation(store_run, trained):
    store_run("lucky", 0, 99.0, 99.0)
    store_run("lucky", 1, 60.0, 60.0)
    store_run("good", 0, 90.0, 91.0)
    store_run("good", 1, 92.0, 95.0)
    store_run("good", 2, 95.0, 93.0)
    folder = store_run("broken", 0, 99.9, 99.9, status="failed")
    classifier = Classifier.load(folder)
    assert classifier.checkpoint == folder / "good" / "seed_1" / "checkpoints" / "best.ckpt"
    assert classifier.description == (
        f"good, the best of 2 networks in {folder}: 92.33 % of the test images are right in the mean over 3 seeds; "
        "seed 1, the best in validation"
    )
    run = Classifier.load(folder / "lucky" / "seed_1")
    assert run.checkpoint == folder / "lucky" / "seed_1" / "checkpoints" / "best.ckpt"
    assert run.description == f"lenet_relu, {folder / 'lucky' / 'seed_1'}"
    (folder / "good" / "seed_1" / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(NoTrainedNetworkError, match="good is the best network"):
        Classifier.load(folder)


def test_an_ensemble_gives_the_mean_probability_of_all_seeds(store_run, trained, pictures, tmp_path):
    content = torch.load(trained[2], weights_only=True)
    content["state_dict"] = {name: -weight for name, weight in content["state_dict"].items()}
    content["data"]["mean_std"] = [[0.1, 0.2, 0.3], [1.0, 1.0, 1.0]]
    torch.save(content, tmp_path / "other.ckpt")
    store_run("net", 0, 90.0, 90.0)
    folder = store_run("net", 1, 90.0, 90.0, checkpoint=tmp_path / "other.ckpt")
    ensemble = Classifier.load(folder, ensemble=True)
    assert "the mean probability of its 2 seeds" in ensemble.description
    pixels = ensemble.pixels(pictures / "grün" / "00.png")
    single = [Classifier.load(folder / "net" / f"seed_{seed}").probabilities(pixels) for seed in (0, 1)]
    assert np.abs(single[0] - single[1]).max() > 0.01
    np.testing.assert_allclose(ensemble.probabilities(pixels), (single[0] + single[1]) / 2, rtol=1e-6)
    content["data"]["class_names"] = ["grün", "a b", "강아지"]
    torch.save(content, folder / "net" / "seed_1" / "checkpoints" / "best.ckpt")
    with pytest.raises(InvalidValueError, match="differ in their data"):
        Classifier.load(folder, ensemble=True)
    with pytest.raises(InvalidValueError, match="given with the folder of a comparison"):
        Classifier.load(trained[2], ensemble=True)


def test_a_hostile_checkpoint_runs_no_code_and_is_refused(trained, tmp_path):
    content = torch.load(trained[2], weights_only=True)
    torch.save({**content, "payload": Payload(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    with pytest.raises(NoTrainedNetworkError, match="it holds code"):
        Classifier.load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"class_names": 5, "image_size": 32, "normalization": "half", "stored_size": 32}},
        {"data": {"class_names": ["x"] * 3, "image_size": 32, "normalization": "half", "stored_size": 10**9}},
        {"data": {"class_names": ["x"] * 3, "image_size": 32, "normalization": {}, "stored_size": 32}},
        {"hyper_parameters": 7},
        {"state_dict": {}},
    ],
)
def test_a_damaged_checkpoint_is_an_error_that_says_so(trained, tmp_path, change):
    torch.save({**torch.load(trained[2], weights_only=True), **change}, tmp_path / "some.ckpt")
    with pytest.raises((NoTrainedNetworkError, InvalidValueError)):
        Classifier.load(tmp_path / "some.ckpt")


def test_files_and_folders_without_a_trained_network_are_named(trained, tmp_path):
    torch.save(torch.load(trained[2], weights_only=True)["state_dict"], tmp_path / "weights.pth")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "nothing.ckpt").touch()
    (tmp_path / "empty").mkdir()
    for name, reason in (
        ("nothing.ckpt", "the file is damaged"),
        ("weights.pth", "it holds weights alone"),
        ("text.ckpt", "damaged data"),
        ("empty", "neither a checkpoint nor a finished and tested run"),
        ("missing", "no such file or folder"),
    ):
        with pytest.raises(NoTrainedNetworkError, match=reason):
            Classifier.load(tmp_path / name)
