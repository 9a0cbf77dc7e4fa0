import random
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.fx
import yaml
from torch import nn

from cnn_compare.backbones import build_backbone, find_backbone, list_backbones, register_backbone, registry
from cnn_compare.configs import flatten, merge_config
from cnn_compare.errors import InvalidValueError, UnknownBackboneError, UsageError
from cnn_compare.experiment import experiment_parser, plain_config

# The names that the project promises.
NAMES = {
    *("lenet", "lenet_relu", "alexnet", "alexnet_bn", "googlenet", "inception_v3", "mobilenet_v2"),
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet20", "resnet32", "resnet44", "resnet56"),
    *("densenet121", "densenet169"),
}


@pytest.fixture
def empty_registry(monkeypatch):
    monkeypatch.setattr(registry, "_entries", {})


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A user's package with a few callables, good and bad."""
    (tmp_path / "users_nets.py").write_text(
        "from torch import nn\n"
        "def tiny(num_classes):\n"
        "    '''Tiny indeed.'''\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, num_classes))\n"
        "def with_stem(num_classes, stem):\n"
        "    net = tiny(num_classes)\n"
        "    net.stem = stem\n"
        "    return net\n"
        "def loose(num_classes, **options):\n"
        "    assert not options\n"
        "    return tiny(num_classes)\n"
        "def needs_width(width): ...\n"
        "def gives_a_list(num_classes): return [num_classes]\n"
        "class Nets: tiny = staticmethod(tiny)\n"
        "class MyNet(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.head = tiny(num_classes)\n"
        "    def forward(self, images): return self.head(images)\n"
        "number = 3\n"
    )
    (tmp_path / "users_broken.py").write_text("raise RuntimeError('half-written')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "users_nets"
    sys.modules.pop("users_nets", None)


def test_the_registry_holds_every_promised_name():
    assert sorted(entry.name for entry in list_backbones()) == sorted(NAMES)


def test_every_entry_says_when_where_and_why():
    for entry in list_backbones():
        assert 1998 <= entry.year <= 2018
        assert entry.venue
        assert entry.paper.startswith(("arXiv:", "doi:"))
        assert entry.key_idea
        assert "\n" not in entry.key_idea


def test_a_pattern_selects_and_numbers_sort_as_numbers():
    names = [entry.name for entry in list_backbones("resnet*")]
    assert names == [f"resnet{depth}" for depth in (18, 20, 32, 34, 44, 50, 56, 101, 152)]
    assert list_backbones("nothing*") == []


def test_a_function_that_needs_other_arguments_is_not_registered(empty_registry):
    def mine(num_classes, stem, width):
        """Mine: needs a width."""

    with pytest.raises(UsageError, match=r"mine\(num_classes, stem\): missing a required argument: 'width'"):
        register_backbone(year=2026, venue="here", paper="none", min_image_size=1)(mine)
    assert list_backbones("mine") == []


def test_registering_a_taken_name_raises_and_keeps_the_first(empty_registry):
    register = register_backbone(year=2026, venue="here", paper="none", min_image_size=1)

    @register
    def mine(num_classes, stem):
        """Mine: the first."""

    first = find_backbone("mine")
    with pytest.raises(UsageError, match=r"'mine' is taken by .*mine"):

        @register
        def mine(num_classes, stem):
            """Mine: the second."""

    assert find_backbone("mine") is first
    assert first.key_idea == "the first"


def test_an_entry_knows_the_smallest_image_of_each_stem():
    alexnet, densenet = find_backbone("alexnet"), find_backbone("densenet121")
    assert (alexnet.min_size("imagenet"), alexnet.min_size("cifar")) == (63, 32)
    assert (densenet.min_size("imagenet"), densenet.min_size("cifar")) == (29, 29)


def test_a_misspelt_name_suggests_the_right_one():
    with pytest.raises(
        UnknownBackboneError, match=r"'resnet-18'\. Did you mean 'resnet18'\?.* lists all 26\."
    ) as caught:
        build_backbone("resnet-18")
    assert caught.value.name == "resnet-18"


@pytest.mark.parametrize("num_classes", [0, -1])
def test_too_few_classes_are_refused(num_classes):
    with pytest.raises(InvalidValueError, match=f"num_classes must be at least 1, and is {num_classes}"):
        build_backbone("lenet", num_classes)


def test_an_unknown_stem_is_refused():
    with pytest.raises(InvalidValueError, match="stem must be 'imagenet' or 'cifar', and is 'mnist'"):
        build_backbone("lenet", stem="mnist")


def test_an_importable_callable_is_a_backbone(nets):
    network = build_backbone(f"{nets}:tiny", num_classes=7)
    assert network(torch.zeros(2, 3, 4, 4)).shape == (2, 7)
    assert find_backbone(f"{nets}:tiny").key_idea == "Tiny indeed."
    assert isinstance(build_backbone(f"{nets}:Nets.tiny"), nn.Module)


def test_a_class_is_a_backbone_and_its_idea_is_not_that_of_its_base_class(nets):
    network = build_backbone(f"{nets}:MyNet", num_classes=7)
    assert type(network).__name__ == "MyNet"
    assert network(torch.zeros(2, 3, 4, 4)).shape == (2, 7)
    assert find_backbone(f"{nets}:MyNet").key_idea == ""


@pytest.fixture
def install(nets, tmp_path):
    """A function that installs a package with entry points, as pip leaves it."""

    def install(package: str, **points: str) -> None:
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[cnn_compare.backbones]", *lines]))
        registry._installed.cache_clear()

    yield install
    registry._installed.cache_clear()


def test_an_installed_package_adds_networks_by_name(install):
    install("their_nets", theirs="users_nets:tiny", classy="users_nets:MyNet")
    assert build_backbone("theirs", num_classes=7)(torch.zeros(2, 3, 4, 4)).shape == (2, 7)
    assert find_backbone("theirs").key_idea == "Tiny indeed."
    assert {"theirs", "classy", "resnet18"} <= {entry.name for entry in list_backbones()}
    with pytest.raises(UnknownBackboneError, match="Did you mean 'theirs'"):
        build_backbone("theirz")


def test_an_installed_package_is_imported_for_its_own_networks_only(install):
    install("their_nets", theirs="users_nets:tiny")
    list_backbones("resnet*")
    find_backbone("lenet")
    assert "users_nets" not in sys.modules


def test_an_installed_package_may_register_its_network_with_facts(install, empty_registry, tmp_path):
    (tmp_path / "users_registered.py").write_text(
        "from cnn_compare import register_backbone\n"
        "@register_backbone(year=2026, venue='here', paper='none', min_image_size=48)\n"
        "def theirs(num_classes, stem):\n"
        "    '''Theirs: an idea.'''\n"
    )
    install("their_nets", theirs="users_registered:theirs")
    entry = find_backbone("theirs")
    assert (entry.year, entry.key_idea, entry.min_image_size) == (2026, "an idea", 48)
    assert find_backbone("theirs") is entry


def test_a_name_that_an_installed_package_takes_again_is_an_error_that_names_both(install, caplog):
    install("their_nets", lenet="users_nets:tiny", same="users_nets:tiny")
    install("other_nets", same="users_nets:with_stem")
    with pytest.raises(UsageError, match=r"'lenet' is taken by cnn_compare\..*lenet, and their_nets 1.0 \(users"):
        build_backbone("lenet")
    with pytest.raises(UsageError) as caught:
        build_backbone("same")
    assert all(f"{package}_nets 1.0" in str(caught.value) for package in ("their", "other"))
    assert not {"lenet", "same"} & {entry.name for entry in list_backbones()}
    assert build_backbone("cnn_compare.backbones.lenet:lenet")
    assert "their_nets 1.0" in caplog.text


def test_a_broken_package_costs_its_own_networks_only(install, caplog):
    install("broken_nets", broken="users_broken:net")
    install("their_nets", theirs="users_nets:tiny")
    names = {entry.name for entry in list_backbones()}
    assert "broken" not in names
    assert names >= {"theirs", "lenet"}
    (warning,) = caplog.messages
    assert "broken_nets 1.0 (users_broken:net) adds it. Importing it failed (RuntimeError: half-written)" in warning
    with pytest.raises(UnknownBackboneError, match=r"broken_nets 1\.0"):
        build_backbone("broken")


def test_a_callable_gets_the_stem_only_if_its_signature_names_it(nets):
    assert build_backbone(f"{nets}:with_stem", stem="cifar").stem == "cifar"
    build_backbone(f"{nets}:loose", stem="cifar")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_package.nets:tiny", "No module named 'no_such_package'"),
        ("users_nets:smal", "has no attribute 'smal'"),
        ("users_broken:net", "RuntimeError: half-written"),
        ("users_nets:number", "is a int, which cannot be called"),
        ("users_nets:needs_width", r"cannot be called with \(num_classes=10\)"),
        ("users_nets:gives_a_list", "gave a list, and not a torch.nn.Module"),
        (":", "Importing it failed"),
    ],
)
def test_a_callable_that_is_no_backbone_says_why(nets, name, reason):
    with pytest.raises(UnknownBackboneError, match=reason):
        build_backbone(name)


@pytest.mark.parametrize("module", [None, SimpleNamespace()], ids=["missing", "a file called so"])
def test_timm_missing_names_the_package_to_install(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "timm", module)
    if module is not None:
        monkeypatch.setattr(registry.metadata, "distribution", Mock(side_effect=PackageNotFoundError))
    with pytest.raises(UnknownBackboneError, match=r"pip install 'cnn-compare\[timm\]'"):
        build_backbone("timm/resnet26")


def test_timm_builds_what_it_knows_and_suggests_otherwise():
    pytest.importorskip("timm", reason="timm is optional")
    assert build_backbone("timm/resnet26", num_classes=7).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    with pytest.raises(UnknownBackboneError, match="Did you mean 'timm/resnet26'"):
        build_backbone("timm/resnet-26")
    with pytest.raises(InvalidValueError, match="timm's networks keep their own stem"):
        build_backbone("timm/resnet26", stem="cifar")


def test_a_network_of_timm_knows_its_image_size_and_normalisation():
    pytest.importorskip("timm", reason="timm is optional")
    transformer, resnet = find_backbone("timm/vit_tiny_patch16_224"), find_backbone("timm/resnet26")
    with pytest.raises(InvalidValueError, match=r"data.image_size must be 224, the only size that timm/vit_tiny"):
        transformer.require_image_size("imagenet", 256)
    transformer.require_image_size("imagenet", 224)
    resnet.require_image_size("imagenet", 64)
    # As published by timm: half for this one, ImageNet's for the other.
    assert transformer.mean_std == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert resnet.mean_std == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", ["googlenet", "resnet20", "vgg11"])
def test_fresh_parameters_depend_on_torchs_seed_alone(name):
    def draw(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_backbone(name, stem="cifar").parameters()])

    others = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 - the state that must not move
    first = draw(0)
    assert torch.equal(first, draw(0))
    assert not torch.equal(first, draw(1))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == others  # noqa: NPY002


@pytest.mark.parametrize("name", [entry.name for entry in list_backbones()])
def test_the_stated_depth_is_that_of_the_longest_path_through_layers_with_weights(name):
    with torch.device("meta"):  # Shapes without numbers: nothing has to be drawn.
        network = build_backbone(name).eval()
    depth = {}  # How many layers lie before each step of the network, on the longest way to it.
    graph = torch.fx.Tracer().trace(network)
    modules = dict(network.named_modules())
    longest = 0
    for node in graph.nodes:
        before = max((depth[each] for each in node.all_input_nodes), default=0)
        layer = modules.get(node.target) if node.op == "call_module" else None
        depth[node] = before + isinstance(layer, nn.Conv2d | nn.Linear)
        longest = max(longest, depth[node])
    assert longest == next(entry.depth for entry in list_backbones(name))


@pytest.mark.parametrize("entry", list_backbones(), ids=lambda entry: entry.name)
def test_a_recipe_of_its_own_is_one_that_the_command_takes(entry):
    modern = yaml.safe_load((Path(__file__).parents[2] / "configs" / "recipes" / "modern.yaml").read_text())
    parser = experiment_parser(exit_on_error=False)
    parsed = flatten(plain_config(parser, parser.parse_object(merge_config(modern, entry.recipe_changes))))
    for setting, value in flatten(entry.recipe_changes).items():
        assert parsed[setting] == value


def test_networks_with_normalisation_layers_take_the_recipe_as_it_is():
    own = {entry.name for entry in list_backbones() if entry.recipe_changes}
    assert own == {"lenet", "lenet_relu", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19"}
