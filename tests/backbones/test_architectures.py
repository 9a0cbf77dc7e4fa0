import itertools
from types import SimpleNamespace

import pytest
import torch
from helpers import A_NETWORK_OF_EACH_KIND
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torchvision import models

from cnn_compare.backbones import build_backbone, find_backbone, list_backbones, pooling
from cnn_compare.backbones.pooling import AdaptiveAvgPool2d, by_matrices

NAMES = [entry.name for entry in list_backbones()]
TORCHVISION_NAMES = [entry.name for entry in list_backbones() if entry.imagenet_weights]
STEMS = ["imagenet", "cifar"]


def of_torchvision(name, num_classes=10):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, num_classes=num_classes, **options)


@pytest.fixture
def deterministic():
    """As `--trainer.deterministic=true`: what has no deterministic way raises."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class Forbid(TorchFunctionMode):
    """Refuses torch's adaptive pooling to more than one number, as CUDA does with deterministic algorithms."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.adaptive_avg_pool2d:
            assert args[1] in (1, (1, 1)), "torch's adaptive pooling cannot be repeated"
        return function(*args, **(kwargs or {}))


def step(network, images, labels, stem):
    """Backpropagate from all logits in training mode, and check how many there are."""
    output = network.train()(images)
    logits, *auxiliary = output if isinstance(output, tuple) else (output,)
    assert logits.shape == (4, 10)
    name = type(network).__name__
    assert len(auxiliary) == ({"GoogLeNet": 2, "Inception3": 1}.get(name, 0) if stem == "imagenet" else 0)
    loss = F.cross_entropy(logits, labels)
    for extra in auxiliary:
        loss = loss + network.aux_loss_weight * F.cross_entropy(extra, labels)
    loss.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_trains_and_evaluates_from_its_smallest_size_on_without_pooling_that_a_gpu_cannot_repeat(
    name, stem, monkeypatch
):
    """On shapes alone; in training, pooling takes the way that it takes on a GPU."""
    size = find_backbone(name).min_size(stem)
    with torch.device("meta"):
        network = build_backbone(name, 10, stem)
        with monkeypatch.context() as on_a_gpu, Forbid():
            on_a_gpu.setattr(pooling, "F", SimpleNamespace(adaptive_avg_pool2d=by_matrices))
            on_a_gpu.setattr(AdaptiveAvgPool2d.__base__, "forward", None)
            step(network, torch.empty(4, 3, size, size), torch.zeros(4, dtype=torch.int64), stem)
            with torch.no_grad():
                network(torch.empty(2, 3, size + 32, size + 32))
        with torch.inference_mode():
            for side in {size, 32} if stem == "cifar" else {size}:
                logits = network.eval()(torch.empty(1, 3, side, side))
                assert (type(logits), logits.shape) == (torch.Tensor, (1, 10))
            if stem == "imagenet" and size > 1:
                with pytest.raises(RuntimeError):
                    network(torch.empty(1, 3, size - 1, size - 1))


# Not both of the largest head, whose weights take seconds to draw: the other stem has the layers of both.
IN_NUMBERS = [pair for pair in itertools.product(A_NETWORK_OF_EACH_KIND, STEMS) if pair != ("vgg11_bn", "imagenet")]


@pytest.mark.parametrize(("name", "stem"), IN_NUMBERS)
def test_a_network_of_each_kind_learns_in_numbers_at_its_smallest_size(name, stem, deterministic):
    torch.manual_seed(0)
    size = find_backbone(name).min_size(stem)
    # Four images: batch norm over the two values of two images' 1x1 maps makes gradients that overflow.
    images, labels = torch.randn(4, 3, size, size), torch.arange(4)
    network = build_backbone(name, 10, stem)
    head, bias = list(network.named_parameters())[-1]
    before = bias.detach().clone()
    step(network, images, labels, stem)
    for key, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), key
        # At the smallest sizes gradients differ by powers of ten: step by their signs, as Adam does first.
        parameter.grad.sign_()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    assert not torch.equal(network.get_parameter(head), before)
    with torch.no_grad():
        assert network.eval()(images).isfinite().all()


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_the_imagenet_stem_is_torchvisions_graph(name):
    with torch.device("meta"):
        ours, theirs = build_backbone(name, 10), of_torchvision(name)
    assert repr(ours) == repr(theirs)
    assert [(key, value.shape) for key, value in ours.state_dict().items()] == [
        (key, value.shape) for key, value in theirs.state_dict().items()
    ]
    assert getattr(ours, "transform_input", False) is False


def test_enlarging_small_maps_leaves_inception_at_its_published_size_alone():
    torch.manual_seed(0)
    ours, theirs = build_backbone("inception_v3", 10), of_torchvision("inception_v3")
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 299, 299)
    outputs = []
    for network in (ours, theirs):
        torch.manual_seed(1)  # for dropout
        with torch.no_grad():
            outputs.append(network.train()(images))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    too_small = "Kernel size can't be greater than actual input size|Output size is too small"
    with torch.device("meta"), pytest.raises(RuntimeError, match=too_small):
        of_torchvision("inception_v3").train()(torch.empty(2, 3, 298, 298))


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("vgg")])
def test_the_cifar_stem_of_vgg_keeps_torchvisions_convolutions(name):
    with torch.device("meta"):
        ours, theirs = build_backbone(name, 10, "cifar"), of_torchvision(name)
    assert repr(ours.features) == repr(theirs.features)
    assert repr(ours.classifier) == "Linear(in_features=512, out_features=10, bias=True)"


@pytest.mark.parametrize(
    ("name", "key", "std"),
    [
        # What torchvision draws: He's for what leaves a layer, 0.01, and He's for what enters it.
        ("resnet18", "conv1.weight", (2 / (64 * 9)) ** 0.5),
        ("vgg11", "features.18.weight", (2 / (512 * 9)) ** 0.5),
        ("vgg11_bn", "classifier.weight", 0.01),
        ("googlenet", "conv1.conv.weight", 0.01),
        ("densenet121", "features.conv0.weight", (2 / (3 * 9)) ** 0.5),
    ],
)
def test_what_a_cifar_stem_replaces_starts_from_the_familys_distribution(name, key, std):
    torch.manual_seed(0)
    assert build_backbone(name, 10, "cifar").get_parameter(key).std().item() == pytest.approx(std, rel=0.1)


@pytest.mark.parametrize(
    ("name", "last", "size"),
    [
        ("alexnet", "features", 3),
        ("densenet121", "features", 4),
        ("googlenet", "inception5b", 8),
        ("inception_v3", "Mixed_7c", 7),
        ("mobilenet_v2", "features", 4),
        ("resnet18", "layer4", 4),
        ("resnet20", "layer3", 8),
    ],
)
def test_at_32_pixels_a_cifar_stem_leaves_a_grid_to_average(name, last, size):
    seen = []
    with torch.device("meta"):
        network = build_backbone(name, 10, "cifar").eval()
        network.get_submodule(last).register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
        network(torch.empty(1, 3, 32, 32))
    assert seen == [(size, size)]


@pytest.mark.parametrize("name", ["lenet", "lenet_relu", "resnet20"])
def test_networks_made_for_32_pixels_have_one_graph(name):
    assert repr(build_backbone(name, 10, "imagenet")) == repr(build_backbone(name, 10, "cifar"))


def test_lenet_is_the_published_one():
    network = build_backbone("lenet")
    kinds = [type(module).__name__ for module in network]
    assert kinds.count("Tanh") == 4
    assert kinds.count("AvgPool2d") == kinds.count("Conv2d") == 2
    assert kinds[-1] == "Linear"
    at_the_paper_size = torch.randn(2, 16, 5, 5)
    assert torch.equal(network.get_submodule("6")(at_the_paper_size), at_the_paper_size)


def test_alexnet_bn_meets_its_head_at_227_pixels():
    network = build_backbone("alexnet_bn")
    widths = [module.num_features for module in network.features if isinstance(module, nn.BatchNorm2d)]
    assert widths == [96, 256, 384, 384, 256]
    with torch.no_grad():
        assert network.features(torch.zeros(1, 3, 227, 227)).shape == (1, 256, 6, 6)


def test_the_option_a_shortcut_halves_the_grid_and_pads_the_channels_with_zeros():
    block = build_backbone("resnet20").layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)  # leaves the shortcut alone
    images = torch.rand(1, 16, 8, 8)
    output = block(images)
    assert torch.equal(output[:, 8:24], images[:, :, ::2, ::2])
    assert output[:, :8].count_nonzero() == output[:, 24:].count_nonzero() == 0
