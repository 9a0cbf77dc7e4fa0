"""Pretrained weights: finding the file, reading it safely, loading it into a network."""

from __future__ import annotations

import importlib
import logging
import re
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnn_compare.errors import UsageError, WeightsError

log = logging.getLogger(__name__)

# Prefixes of the names in saved weights: DataParallel's, ClassifierModule's, torch.compile's.
_WRAPPERS = ("module.", "backbone.", "_orig_mod.")
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
# Torchvision's DenseNet files have names with dots (`denselayer1.norm.1`), which modules may no longer have.
_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def load_weights(
    network: nn.Module, weights: str | Path, backbone: str, stem: str, num_classes: int, imagenet_weights: str | None
) -> bool:
    """Replace a network's parameters by stored ones, in place.

    The head keeps its fresh parameters if the stored head has another number of classes. Auxiliary heads may be missing
    on either side. All other parameters must be present in the right shape.

    Args:
        network: Freshly built.
        weights: ``imagenet``, or a file: a state dict, a dict that holds one as ``state_dict``, or a checkpoint of
            `ClassifierModule`; written by ``torch.save`` or as ``.safetensors``.
        backbone: Its name, for messages.
        stem: Its stem.
        num_classes: The width of its head.
        imagenet_weights: Name of the weights that ``imagenet`` stands for, as in `BackboneEntry`.

    Returns:
        Whether the head is fresh.

    Raises:
        UsageError: If ``weights`` is ``imagenet`` and there are none for this backbone and stem.
        WeightsError: If the weights cannot be found, read, or fitted to the network.
    """
    if weights != "imagenet":
        stored = _read(Path(weights).expanduser())
    elif stem != "imagenet" or imagenet_weights is None:
        way_out = "Train" if imagenet_weights is None else "Use model.stem=imagenet, or train"
        raise UsageError(
            f"{backbone} with its {stem} stem has no ImageNet weights. {way_out} from scratch "
            "(model.pretrained=false), or name a file with model.weights=/path/to/file.",
            ("model.stem", "model.pretrained", "model.weights"),
        )
    elif imagenet_weights.startswith("timm/"):
        stored = _from_timm(imagenet_weights)
    else:
        stored = _read(_torchvision_file(imagenet_weights))
    return _fit(network, stored, weights, backbone, stem, num_classes)


def _torchvision_file(imagenet_weights: str) -> Path:
    """Torchvision's file in torch's cache, downloaded if missing."""
    from torchvision.models import get_weight

    url: str = get_weight(imagenet_weights).url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not path.is_file():
        digest = re.search(torch.hub.HASH_REGEX, path.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), digest and digest[1])
        # OSError covers a missing network; torch raises RuntimeError for a wrong checksum.
        except (OSError, HTTPException, RuntimeError) as error:
            raise WeightsError(
                f"{path.name} is not in {path.parent}, and downloading it failed ({error}). Fetch {url} on another "
                f"machine and put it there, or anywhere and name it with model.weights=/path/to/{path.name}.",
                ["model.weights"],
            ) from error
    return path


def _unreadable(source: str | Path, reason: str) -> WeightsError:
    way_out = "Give a state dict saved by torch.save or as .safetensors with model.weights=/path/to/file."
    return WeightsError(f"no weights from {source}: {reason}. {way_out}", ["model.weights"])


def _from_timm(name: str) -> dict[str, Tensor]:
    timm: Any = importlib.import_module("timm")
    try:
        state: dict[str, Tensor] = timm.create_model(name.removeprefix("timm/"), pretrained=True).state_dict()
    # timm downloads from several hubs, each with its own errors.
    except Exception as error:
        raise _unreadable(name, f"timm could not load them ({type(error).__name__}: {error})") from error
    return state


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, read as data: no code in it is executed."""
    if not path.is_file():
        raise _unreadable(path, "there is no such file")
    try:
        if path.suffix == ".safetensors":
            stored: Any = importlib.import_module("safetensors.torch").load_file(path)
        else:
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise _unreadable(path, "reading it needs safetensors: `pip install safetensors`") from error
    # A damaged or hostile file can make the parser raise nearly anything.
    except Exception as error:
        reason = f"it is damaged, or holds more than tensors and was not opened ({type(error).__name__})"
        raise _unreadable(path, reason) from error
    if isinstance(stored, dict) and isinstance(stored.get("state_dict"), dict):
        stored = stored["state_dict"]
    if not isinstance(stored, dict) or not any(isinstance(value, Tensor) for value in stored.values()):
        raise _unreadable(path, "it holds no state dict")
    return {str(key): value for key, value in stored.items() if isinstance(value, Tensor)}


def _fit(
    network: nn.Module, stored: dict[str, Tensor], source: str | Path, backbone: str, stem: str, num_classes: int
) -> bool:
    own = network.state_dict()
    stored = {_OLD_DENSENET_NAME.sub(r"\1\2", key): value for key, value in stored.items()}
    for wrapper in _WRAPPERS:
        inside = {key.removeprefix(wrapper): value for key, value in stored.items() if key.startswith(wrapper)}
        if inside and not any(key.startswith(wrapper) for key in own):
            stored = inside
    # Files from before PyTorch 0.4.1 lack batch norm's step counters; load_state_dict fills them in.
    missing = [
        key
        for key in own.keys() - stored.keys()
        if not key.startswith(_AUXILIARY_HEADS) and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in stored.keys() - own.keys() if not key.startswith(_AUXILIARY_HEADS)]
    shared = own.keys() & stored.keys()
    mismatched = {key for key in shared if own[key].shape != stored[key].shape}
    # Only the head: if an inner layer differed like this, the next layer's second dimension would differ as well.
    head = {
        key
        for key in mismatched
        if own[key].shape[:1] == (num_classes,) and own[key].shape[1:] == stored[key].shape[1:]
    }
    classes = {stored[key].shape[0] for key in head}
    if len(classes) > 1:
        head.clear()
    wrong = {"missing": missing, "not in the network": unexpected, "of another shape": mismatched - head}
    if any(wrong.values()):
        what = ", ".join(
            f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in wrong.items()
            if keys
        )
        hint = " ImageNet weights fit model.stem=imagenet." if stem == "cifar" else ""
        raise WeightsError(
            f"the weights in {source} are not those of {backbone} with its {stem} stem: {what}. "
            f"Use the backbone and stem that they were trained with.{hint}",
            ["model.stem"],
        )
    if head:
        log.info("%s is for %d classes, %s has %d: its head starts fresh.", source, *classes, backbone, num_classes)
    network.load_state_dict({key: stored[key] for key in shared - head}, strict=False)
    return bool(head)
