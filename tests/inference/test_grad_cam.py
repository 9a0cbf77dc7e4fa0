"""Grad-CAM against the paper's formula, and which feature map it looks at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.functional import to_tensor

from cnn_compare.backbones import build_backbone, find_backbone
from cnn_compare.errors import MissingExtraError, RunError
from cnn_compare.inference import grad_cam
from cnn_compare.inference.grad_cam import blend_heat_map, feature_layer, heat_maps, require_captum

# At 32 pixels with the stem for them; a VGG and AlexNet have 2x2 places and fewer after their last pooling.
EXPECTED = {
    "alexnet": "features.11",
    "alexnet_bn": "features.16",
    "densenet121": "features",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "lenet": "4",
    "mobilenet_v2": "features",
    "resnet18": "layer4",
    "resnet50": "layer4",
    "resnet20": "layer3",
    "vgg11": "features.14",
    "vgg19_bn": "features.38",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_network_of_each_kind_has_a_last_feature_map(name):
    with torch.device("meta"):
        network = build_backbone(name, 10, "cifar").eval()
        layer = feature_layer(network, torch.empty(1, 3, 32, 32))
    assert layer is network.get_submodule(EXPECTED[name])
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["alexnet", "mobilenet_v2", "resnet18"])
def test_with_the_published_stem_224_pixels_leave_7x7_places(name):
    shapes = []
    with torch.device("meta"):
        network = build_backbone(name, 10, "imagenet").eval()
        layer = feature_layer(network, torch.empty(1, 3, 224, 224))
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[2:])))
        network(torch.empty(1, 3, 224, 224))
    assert shapes == [(6, 6) if name == "alexnet" else (7, 7)]


@pytest.mark.parametrize("name", ["lenet_relu", "resnet20", "mobilenet_v2", "vgg11"])
def test_heat_maps_are_those_of_the_paper(name):
    """Equations 1 and 2: the feature maps, weighted with the mean gradient of the answer's logit."""
    torch.manual_seed(0)
    size = max(32, find_backbone(name).min_size("cifar"))
    network, inputs = build_backbone(name, 10, "cifar").eval(), torch.randn(6, 3, size, size)
    found, answers = heat_maps(network, inputs)
    kept = []
    layer = feature_layer(network, inputs[:1])
    # A clone goes on: what follows may work in place.
    handle = layer.register_forward_hook(lambda module, arguments, output: kept.append(output) or output.clone())
    logits = network(inputs)
    handle.remove()
    assert answers.tolist() == logits.argmax(1).tolist()
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), kept[0])
    maps = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu()
    largest = maps.amax((1, 2), keepdim=True)
    expected = torch.where(largest > 0, maps / largest, torch.zeros(())).detach().numpy()
    assert found.shape[1] >= 4
    assert found == pytest.approx(expected, abs=1e-4)


class Bypassed(nn.Module):
    """Its second convolution is a branch: the input of the block goes past it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        features = self.relu(self.first(images))
        return self.head(self.relu(features + self.second(features)).mean((2, 3)))


def test_a_branch_that_the_answer_can_do_without_is_not_looked_at():
    network = Bypassed().eval()
    assert feature_layer(network, torch.randn(1, 3, 16, 16)) is network.first
    maps, _ = heat_maps(network, torch.randn(2, 3, 16, 16))
    assert maps.shape == (2, 14, 14)


def test_heat_lies_where_the_only_evidence_is():
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).reshape(2, 3, 1, 1))
    image = torch.zeros(1, 3, 8, 8)
    image[0, 1, 2, 5] = 1.0  # Green alone, which speaks for class 1.
    maps, answers = heat_maps(network, image)
    assert answers.tolist() == [1]
    assert np.argwhere(maps[0] > 0).tolist() == [[2, 5]]


def test_a_network_without_feature_maps_is_refused_by_name():
    with pytest.raises(RunError, match="Sequential cannot be explained"):
        heat_maps(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), torch.randn(1, 3, 8, 8))


def test_without_captum_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(grad_cam, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"cnn-compare\[explain\]"):
        require_captum("explain")


def test_where_there_is_no_heat_the_image_is_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    heat = np.zeros((96, 96), np.float32)
    heat[40:, :] = 1
    mixed = blend_heat_map(pixels, heat, 96)
    assert (mixed[:38] == pixels[:38]).all()
    assert (to_tensor(mixed[42:]) - to_tensor(pixels[42:])).abs().mean() > 0.1
