import io
import logging
import pickle
import re
import sys
import types
import urllib.error

import pytest
import torch
from helpers import Payload
from torch import nn
from torchvision import models

from cnn_compare.backbones import build_backbone, registry
from cnn_compare.errors import UsageError, WeightsError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch's folder for downloads, empty, with a network that is down."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    return tmp_path / "hub/checkpoints"


def save(state, path):
    torch.save(state, path)
    return path


def of_torchvision(name, num_classes=1000):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(5)
    return models.get_model(name, weights=None, num_classes=num_classes, **options)


def differing(network, state):
    own = network.state_dict()
    return {
        key for key in own if key in state and not (own[key].shape == state[key].shape and own[key].equal(state[key]))
    }


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", {"fc.weight", "fc.bias"}),
        ("mobilenet_v2", {"classifier.1.weight", "classifier.1.bias"}),
        ("googlenet", {f"{part}.{kind}" for part in ("fc", "aux1.fc2", "aux2.fc2") for kind in ("weight", "bias")}),
    ],
)
def test_a_1000_class_file_gives_ten_classes_its_body_and_a_fresh_head(tmp_path, name, head, caplog):
    state = of_torchvision(name).state_dict()
    path = save(state, tmp_path / "weights.pth")
    torch.manual_seed(0)
    fresh = build_backbone(name).state_dict()
    torch.manual_seed(0)
    with caplog.at_level(logging.INFO):
        loaded = build_backbone(name, weights=path)
    assert differing(loaded, state) == head
    assert not head & differing(loaded, fresh)
    assert "is for 1000 classes" in caplog.text


def test_a_file_with_as_many_classes_gives_its_head_too(tmp_path, caplog):
    state = of_torchvision("resnet18", 10).state_dict()
    with caplog.at_level(logging.INFO):
        loaded = build_backbone("resnet18", 10, weights=str(save(state, tmp_path / "weights.pth")))
    assert differing(loaded, state) == set()
    assert caplog.text == ""


def test_a_layer_as_wide_as_the_classes_is_not_taken_for_the_head(tmp_path):
    """With 64 classes resnet18's first convolution looks like a head: of another width it still does not fit."""
    state = of_torchvision("resnet18").state_dict()
    state["conv1.weight"] = torch.zeros(32, 3, 7, 7)
    with pytest.raises(WeightsError, match=r"3 of another shape \(conv1.weight, fc.bias, fc.weight\)"):
        build_backbone("resnet18", 64, weights=save(state, tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {
            "state_dict": {**{f"backbone.{key}": value for key, value in state.items()}, "sums": torch.ones(2)}
        },
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ],
    ids=["DataParallel", "Lightning checkpoint", "compiled", "before PyTorch 0.4.1"],
)
def test_what_wraps_a_state_dict_is_taken_off(tmp_path, wrap):
    state = build_backbone("resnet20").state_dict()
    assert differing(build_backbone("resnet20", weights=save(wrap(state), tmp_path / "weights.pth")), state) == set()


@pytest.mark.parametrize(("stored", "built"), [(True, False), (False, True)])
def test_auxiliary_heads_that_only_one_side_has_are_left_alone(tmp_path, monkeypatch, stored, built):
    state = of_torchvision("googlenet", 10).state_dict()
    if not stored:
        state = {key: value for key, value in state.items() if not key.startswith("aux")}
    if not built:
        monkeypatch.setattr("cnn_compare.backbones.googlenet.torchvision_model", without_auxiliary_heads)
    loaded = build_backbone("googlenet", weights=save(state, tmp_path / "weights.pth"))
    assert differing(loaded, state) == set()
    assert any(key.startswith("aux") for key in loaded.state_dict()) is built


def without_auxiliary_heads(name, num_classes, **options):
    return models.get_model(name, weights=None, num_classes=num_classes, **{**options, "aux_logits": False})


def test_densenet_files_with_their_old_names_fit(tmp_path):
    state = of_torchvision("densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    loaded = build_backbone("densenet121", weights=save(old, tmp_path / "weights.pth"))
    assert differing(loaded, state) == {"classifier.weight", "classifier.bias"}


def test_imagenet_weights_come_from_the_cache_without_the_network(cache):
    cache.mkdir(parents=True)
    state = of_torchvision("resnet18").state_dict()
    save(state, cache / "resnet18-f37072fd.pth")
    assert differing(build_backbone("resnet18", weights="imagenet"), state) == {"fc.weight", "fc.bias"}


def test_offline_the_error_names_the_file_its_address_and_where_to_put_it(cache):
    with pytest.raises(WeightsError) as caught:
        build_backbone("resnet18", weights="imagenet")
    message = str(caught.value)
    for part in (
        f"resnet18-f37072fd.pth is not in {cache}",
        "Temporary failure in name resolution",
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "model.weights=/path/to/resnet18-f37072fd.pth",
    ):
        assert part in message
    assert caught.value.exit_status == 1


def test_a_download_with_a_wrong_checksum_is_refused_and_not_kept(cache, monkeypatch):
    def tampered(*args, **kwargs):
        answer = io.BytesIO(b"not the published weights")
        answer.info = lambda: types.SimpleNamespace(get_all=lambda name: None)
        return answer

    monkeypatch.setattr(torch.hub, "urlopen", tampered)
    with pytest.raises(WeightsError, match="invalid hash value"):
        build_backbone("resnet18", weights="imagenet")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "stem", "way_out"),
    [("lenet", "imagenet", "Train from scratch"), ("resnet18", "cifar", "Use model.stem=imagenet, or train")],
)
def test_imagenet_weights_that_nobody_published_are_a_mistake_in_the_request(cache, name, stem, way_out):
    with pytest.raises(UsageError, match=f"{name} with its {stem} stem has no ImageNet.* {way_out}") as caught:
        build_backbone(name, stem=stem, weights="imagenet")
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize("write", [torch.save, lambda stored, path: path.write_bytes(pickle.dumps(stored))])
def test_a_malicious_file_is_refused_and_does_nothing(tmp_path, write):
    write({"state_dict": Payload(tmp_path / "harm")}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="holds more than tensors and was not opened"):
        build_backbone("lenet", weights=tmp_path / "weights.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("size", [0, 3, 100, 50_000])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, size):
    path = save(build_backbone("lenet").state_dict(), tmp_path / "weights.pth")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        build_backbone("lenet", weights=path)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"\x80\x02garbage", bytes(range(256)) * 40])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_something_else_is_an_error(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        build_backbone("lenet", weights=path)


def test_a_missing_file_and_one_without_a_state_dict_are_errors(tmp_path):
    with pytest.raises(WeightsError, match="there is no such file"):
        build_backbone("lenet", weights=tmp_path / "nowhere.pth")
    for nothing in ([1, 2], {"epoch": 3}, torch.zeros(3)):
        with pytest.raises(WeightsError, match="it holds no state dict"):
            build_backbone("lenet", weights=save(nothing, tmp_path / "weights.pth"))


def test_another_networks_file_names_the_first_differences(tmp_path):
    path = save(of_torchvision("resnet34").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError) as caught:
        build_backbone("resnet18", weights=path)
    assert re.search(
        r"not those of resnet18 .* not in the network \(layer1\.2\.bn1\.bias, .*, \.\.\.\)", str(caught.value)
    )
    assert "missing (" not in str(caught.value)
    assert "of another shape" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"missing \(layer1\.2"):
        build_backbone("resnet34", weights=save(of_torchvision("resnet18").state_dict(), path))


def test_a_file_for_the_imagenet_stem_says_so_under_the_cifar_stem(tmp_path):
    path = save(of_torchvision("resnet18").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"1 of another shape \(conv1.weight\).*fit model.stem=imagenet"):
        build_backbone("resnet18", stem="cifar", weights=path)


def test_a_failed_load_leaves_the_network_as_it_was(tmp_path):
    from cnn_compare.backbones.weights import load_weights

    network = build_backbone("resnet18")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    path = save(of_torchvision("resnet34").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError):
        load_weights(network, path, "resnet18", "imagenet", 10, None)
    assert differing(network, before) == set()


def test_safetensors_files_are_read_where_the_package_is_there(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is optional")
    state = build_backbone("lenet").state_dict()
    safetensors.save_file(state, tmp_path / "weights.safetensors")
    assert differing(build_backbone("lenet", weights=tmp_path / "weights.safetensors"), state) == set()


def test_a_safetensors_file_without_the_package_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="pip install safetensors"):
        build_backbone("lenet", weights=tmp_path / "weights.safetensors")


def test_timm_gives_its_own_weights_with_a_fresh_head(monkeypatch):
    """A stand-in for timm, whose weights need the network."""

    def create_model(name, num_classes=1000, pretrained=False):
        network = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, num_classes))
        if pretrained:
            if name == "unlucky":
                raise ConnectionError("no hub")
            nn.init.ones_(network[0].weight)
        return network

    facts = {
        "input_size": (3, 8, 8),
        "fixed_input_size": False,
        "min_input_size": None,
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
    }
    known = {"is_model": lambda name: True, "get_pretrained_cfg": lambda name: types.SimpleNamespace(**facts)}
    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model, **known))
    monkeypatch.setattr(registry.metadata, "distribution", lambda name: None)  # It is installed.
    network = build_backbone("timm/lucky", 7, weights="imagenet")
    assert bool((network[0].weight == 1).all())
    assert network[1].weight.shape == (7, 8)
    with pytest.raises(WeightsError, match=r"timm/unlucky: timm could not load them .*no hub"):
        build_backbone("timm/unlucky", weights="imagenet")
