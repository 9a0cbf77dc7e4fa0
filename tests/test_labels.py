"""Labels of every shape and type: right, or refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from cnn_compare import ClassifierModule
from cnn_compare.errors import DataError
from cnn_compare.labels import class_targets

IMAGES, CLASSES = 12, 4
IMAGE_CLASSES = torch.arange(IMAGES) % CLASSES
ONE_HOT = F.one_hot(IMAGE_CLASSES, CLASSES)


def loader(labels, batch_size):
    torch.manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(IMAGES, 3, 32, 32), labels), batch_size=batch_size)


def module(**options):
    torch.manual_seed(1)
    return ClassifierModule("lenet", CLASSES, optimizer=lambda p: torch.optim.SGD(p, lr=0.0), **options)


def figures(make_trainer, labels, batch_size, **options):
    """Loss and accuracy in training, validation and test."""
    trainer, net, batches = make_trainer(), module(**options), loader(labels, batch_size)
    trainer.fit(net, batches, batches)
    logged = {
        name: float(trainer.callback_metrics[name]) for name in ("train/loss", "train/acc", "val/loss", "val/acc")
    }
    (tested,) = trainer.test(net, batches, verbose=False)
    assert [len(answers["class"]) for answers in trainer.predict(net, batches)] == [batch_size] * (IMAGES // batch_size)
    return logged | {name: tested[name] for name in ("test/loss", "test/acc")}, net.test_outputs["labels"]


# As many images as classes, too: then argmax and class have the same shape.
@pytest.mark.parametrize("batch_size", [CLASSES, 6])
def test_the_same_classes_in_any_form_have_the_same_loss_and_accuracy(make_trainer, batch_size):
    expected, classes = figures(make_trainer, IMAGE_CLASSES, batch_size)
    images = torch.cat([batch[0] for batch in loader(IMAGE_CLASSES, batch_size)])
    with torch.no_grad():
        logits = module().eval()(images)
    assert (
        expected["train/acc"]
        == expected["test/acc"]
        == pytest.approx(float((logits.argmax(1) == classes).float().mean()))
    )
    assert expected["train/loss"] == pytest.approx(float(F.cross_entropy(logits, IMAGE_CLASSES)), rel=1e-5)
    forms = [IMAGE_CLASSES.to(kind) for kind in (torch.int32, torch.uint8)]
    forms += [IMAGE_CLASSES[:, None], ONE_HOT, ONE_HOT.bool(), ONE_HOT.float(), ONE_HOT.double()]
    for labels in forms:
        found, found_classes = figures(make_trainer, labels, batch_size)
        assert found == pytest.approx(expected, rel=1e-5), (labels.dtype, labels.shape)
        assert found_classes.equal(IMAGE_CLASSES)


@pytest.mark.parametrize("class_weights", ["none", [1.0, 2.0, 3.0, 4.0]])
def test_soft_labels_have_the_loss_of_their_definition(make_trainer, class_weights):
    torch.manual_seed(2)
    soft = torch.rand(IMAGES, CLASSES).softmax(1)
    found, classes = figures(make_trainer, soft, CLASSES, class_weights=class_weights)
    with torch.no_grad():
        shares = module().eval()(loader(soft, IMAGES).dataset.tensors[0]).log_softmax(1)
    assert found["val/loss"] == pytest.approx(float(-(soft * shares).sum() / IMAGES), rel=1e-5)
    weights = torch.ones(CLASSES) if class_weights == "none" else torch.tensor(class_weights)
    assert found["train/loss"] == pytest.approx(float(-(soft * weights * shares).sum() / IMAGES), rel=1e-5)
    assert classes.equal(soft.argmax(1))
    assert found["train/acc"] == found["test/acc"] == pytest.approx(float((shares.argmax(1) == classes).float().mean()))


def test_images_without_a_label_count_nowhere(make_trainer):
    some = IMAGE_CLASSES.masked_fill(torch.arange(IMAGES) % 3 == 0, -100)
    found, classes = figures(make_trainer, some, CLASSES)
    assert classes.equal(some[some >= 0])
    with torch.no_grad():
        logits = module().eval()(loader(some, IMAGES).dataset.tensors[0])[some >= 0]
    assert found["train/acc"] == found["test/acc"] == pytest.approx(float((logits.argmax(1) == classes).float().mean()))
    for stage in ("train", "val", "test"):
        assert found[f"{stage}/loss"] == pytest.approx(float(F.cross_entropy(logits, classes)), rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (IMAGE_CLASSES.float(), r"labels of shape \(12,\) and type torch\.float32"),
        (IMAGE_CLASSES[:, None].float(), r"labels of shape \(12, 1\) and type torch\.float32"),
        (IMAGE_CLASSES[:5], r"labels of shape \(5,\) and type torch\.int64"),
        (ONE_HOT[:, :3], r"labels of shape \(12, 3\) and type torch\.int64"),
        (ONE_HOT[:, None], r"labels of shape \(12, 1, 4\) and type torch\.int64"),
        (IMAGE_CLASSES + 1, "the label 4"),
        (IMAGE_CLASSES - 1, "the label -1"),
        (
            ONE_HOT + ONE_HOT.roll(1, 1),
            r"labels of shape \(12, 4\) and type torch\.int64, whose rows do not add up to 1",
        ),
        (2 * ONE_HOT.float() - 1 / 4, ".* whose rows do not add up to 1"),
        (["a"] * IMAGES, "labels that are a list"),
    ],
)
def test_what_is_no_label_is_refused_with_what_is_expected(labels, found):
    expected = "the class of each of the 12 images, a whole number from 0 to 3, or a row of 4 probabilities for each"
    with pytest.raises(DataError, match=f"^the data loader returned {found}. Expected: {expected}"):
        class_targets(labels, IMAGES, CLASSES)


def test_soft_labels_of_half_precision_are_taken_although_they_are_rounded():
    soft = torch.full((3, 30), 1 / 30).bfloat16()
    assert class_targets(soft, 3, 30).equal(soft)
