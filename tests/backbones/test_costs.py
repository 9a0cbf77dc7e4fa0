import pytest
import torch
from torch import nn
from torchvision import models

from cnn_compare.backbones import (
    BackboneEntry,
    build_backbone,
    costs,
    costs_of,
    count_macs,
    count_parameters,
    describe_backbones,
    find_backbone,
    list_backbones,
)

TORCHVISION = [entry for entry in list_backbones() if entry.imagenet_weights]


def published_meta(entry):
    return models.get_weight(entry.imagenet_weights).meta


@pytest.mark.parametrize("entry", TORCHVISION, ids=lambda entry: entry.name)
def test_parameters_at_1000_classes_are_the_published_ones(entry):
    with torch.device("meta"):
        network = build_backbone(entry.name, 1000)
    auxiliary = sum(
        count_parameters(head) for head in (getattr(network, "aux1", None), getattr(network, "aux2", None)) if head
    )
    # torchvision counts Inception's auxiliary head, and not GoogLeNet's two.
    assert count_parameters(network) - auxiliary == published_meta(entry)["num_params"]


@pytest.mark.parametrize("entry", TORCHVISION, ids=lambda entry: entry.name)
def test_macs_at_1000_classes_are_the_published_ones(entry):
    published_gmacs = published_meta(entry)["_ops"]
    assert count_macs(entry.name, entry.image_size, 1000) / 1e9 == pytest.approx(published_gmacs, abs=5.1e-4)


@pytest.mark.parametrize(
    ("name", "stem", "params"),
    [
        # LeCun et al. 1998 with three input channels, by hand: 456 + 2416 + 48120 + 10164 + 850.
        ("lenet", "imagenet", 62_006),
        # He et al. 2015, table 6: 0.27 M, 0.46 M, 0.66 M, 0.85 M.
        ("resnet20", "imagenet", 269_722),
        ("resnet32", "imagenet", 464_154),
        ("resnet44", "imagenet", 658_586),
        ("resnet56", "imagenet", 853_018),
        # The same networks in the public CIFAR zoo kuangliu/pytorch-cifar.
        ("resnet18", "cifar", 11_173_962),
        ("resnet50", "cifar", 23_520_842),
        ("vgg16_bn", "cifar", 14_728_266),
    ],
)
def test_parameters_at_10_classes_are_the_known_ones(name, stem, params):
    assert costs_of(name, stem).params == params


@pytest.mark.parametrize(
    ("name", "stem", "gmacs"), [("resnet20", "cifar", 0.041), ("resnet18", "cifar", 0.56), ("vgg16_bn", "cifar", 0.313)]
)
def test_macs_at_32_pixels_are_the_known_ones(name, stem, gmacs):
    assert costs_of(name, stem).macs / 1e9 == pytest.approx(gmacs, rel=0.02)


def test_macs_are_counted_as_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    assert count_macs(network, 6) == 6 * 6 * 4 * 3 * 3 * 3 + 4 * 6 * 6 * 5


def test_a_network_of_another_precision_has_the_same_macs():
    for kind in (torch.float64, torch.bfloat16):
        assert count_macs(build_backbone("lenet").to(kind), 32) == count_macs("lenet", 32)


def test_counting_leaves_a_network_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count_macs(network, 6)
    assert (network.training, network[0].training, network[1].training) == (True, True, False)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())


def test_counting_draws_nothing_from_the_random_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    count_macs("lenet", 32)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("entry", list_backbones(), ids=lambda entry: entry.name)
def test_the_stored_costs_are_what_counting_gives(entry):
    for stem in ("imagenet", "cifar"):
        assert costs_of(entry, stem) == costs._counted(entry, stem), "call cnn_compare.backbones.costs.store_costs()"


def test_nothing_is_stored_that_is_not_registered():
    assert set(costs._stored_costs()) == {entry.name for entry in list_backbones()}


def test_a_network_that_is_not_stored_is_counted():
    def build(num_classes, stem):
        return nn.Sequential(
            nn.Flatten(), nn.LazyLinear(num_classes) if stem is None else nn.Linear(3 * 32 * 32, num_classes)
        )

    counted = costs_of(BackboneEntry("lenet", build), "cifar")
    assert (counted.image_size, counted.params, counted.macs) == (32, 30_730, 30_720)


def test_the_listing_has_a_row_a_backbone_with_its_facts():
    (row,) = describe_backbones("resnet18")
    assert row == {
        "backbone": "resnet18",
        "year": 2015,
        "venue": "CVPR 2016",
        "paper": "arXiv:1512.03385",
        "key_idea": find_backbone("resnet18").key_idea,
        "min_image_size": 1,
        "image_size": 224,
        "params": 11_181_642,
        "macs": 1_813_566_464,
    }
