"""Backbones by name: registering, finding, building and listing them. Knows no architecture."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from cnn_compare.backbones.pooling import make_repeatable
from cnn_compare.backbones.weights import load_weights
from cnn_compare.errors import CnnCompareError, InvalidValueError, UnknownBackboneError, UsageError

log = logging.getLogger(__name__)

Stem = Literal["imagenet", "cifar"]
"""An adaptation of a whole backbone to an image size: ``imagenet`` is the published graph; ``cifar`` adapts the first
layers, and where needed the head, to 32x32 images."""

Builder = Callable[[int, Stem], nn.Module]
_OBJECT = "object of "
ENTRY_POINTS = "cnn_compare.backbones"
"""The group of entry points by which an installed package adds backbones: ``name = "package.module:callable"``."""


def plain_sgd(lr: float) -> dict[str, Any]:
    """The own recipe of a network without normalisation layers: SGD with a lower learning rate than others take."""
    init_args = {"lr": lr, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005}
    return {"model": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": init_args}}}


@dataclass(frozen=True)
class BackboneEntry:
    """Facts about a backbone that are known before it is built.

    Args:
        name: Its name for `build_backbone`.
        build: Takes ``num_classes`` and ``stem``; returns the network with fresh weights.
        year: The paper's year; None for a network from outside the registry.
        venue: Where the paper appeared.
        paper: Its identifier, such as ``arXiv:1512.03385``.
        key_idea: The network's contribution, in one line.
        min_image_size: Smallest image, in pixels, that passes through the imagenet stem; 1 where nothing sets a limit.
        image_size: The image size of the paper, with the imagenet stem.
        only_image_size: Whether the network takes images of that size only.
        mean_std: Mean and standard deviation of the images behind the ImageNet weights, three numbers each, for pixels
            from 0 to 1; None: not known, or settled by the stem.
        depth: Layers with weights on the longest path; None where that is not known.
        imagenet_weights: Their name for ``torchvision.models.get_weight``, or ``timm/<name>``; None: there are none.
        recipe_changes: The settings of the backbone's own recipe that differ from ``recipes/modern.yaml``; in the form
            of a recipe.
        stuck_adam_lr: The learning rate of Adam from which on the network is known to stay at guessing, from random
            weights and with the imagenet stem; None: no such rate is known.
        module: Name of the module that defines it.
    """

    name: str
    build: Builder
    year: int | None = None
    venue: str = ""
    paper: str = ""
    key_idea: str = ""
    min_image_size: int = 1
    image_size: int = 224
    only_image_size: bool = False
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    depth: int | None = None
    imagenet_weights: str | None = None
    recipe_changes: Mapping[str, Any] = field(default_factory=dict)
    stuck_adam_lr: float | None = None
    module: str = ""

    @property
    def architecture(self) -> dict[str, Any]:
        """The facts that a report shows of it; empty where nothing is known."""
        known = ("year", "venue", "paper", "key_idea", "depth")
        return {name: getattr(self, name) for name in known if getattr(self, name)}

    def min_size(self, stem: Stem) -> int:
        """Smallest image, in pixels, that ``stem`` takes: at most 32 for every cifar stem."""
        return min(self.min_image_size, 32) if stem == "cifar" else self.min_image_size

    def require_image_size(
        self, stem: Stem, image_size: int, size_field: str = "data.image_size", stem_field: str = "model.stem"
    ) -> None:
        """Refuse images that are too small.

        Args:
            stem: The stem.
            image_size: Height and width, in pixels.
            size_field: The setting of the image size, for the message.
            stem_field: The setting of the stem, for the message.

        Raises:
            UsageError: If ``image_size`` is below `min_size`.
            InvalidValueError: If the network takes images of one other size only.
        """
        if self.only_image_size and image_size != self.image_size:
            raise InvalidValueError(size_field, image_size, f"{self.image_size}, the only size that {self.name} takes")
        if image_size < (min_size := self.min_size(stem)):
            way_out = f"Use {size_field}={1 << (min_size - 1).bit_length()}"
            if stem == "imagenet" and image_size >= 32:
                way_out += f" or {stem_field}=cifar"
            raise UsageError(
                f"{self.name} with its {stem} stem needs images of at least {min_size}x{min_size}, "
                f"and gets {image_size}x{image_size}. {way_out}.",
                # With its value, because `stem` alone is an ordinary word of the message as well.
                (size_field, f"{stem_field}=cifar"),
            )


_entries: dict[str, BackboneEntry] = {}


def register_backbone(
    *, year: int, venue: str, paper: str, min_image_size: int, **facts: Any
) -> Callable[[Builder], Builder]:
    """Register a function as a backbone under the function's name; its docstring begins with ``Name: key idea``.

    The arguments, and further ``facts``, are those of `BackboneEntry`.

    Raises:
        UsageError: If the name is registered already; the first backbone keeps it. Also if the function cannot be
            called with ``num_classes`` and ``stem``.
    """
    facts |= {"year": year, "venue": venue, "paper": paper, "min_image_size": min_image_size}

    def register(build: Builder) -> Builder:
        name = build.__name__
        if name in _entries:
            owner = _owner(_entries[name])
            raise UsageError(f"the name {name!r} is taken by {owner}. Register the new backbone under another name.")
        try:
            inspect.signature(build).bind(10, "imagenet")
        except TypeError as error:
            raise UsageError(f"{name} cannot be called as {name}(num_classes, stem): {error}.") from error
        first_line = _first_line(build)
        key_idea = (first_line.partition(": ")[2] or first_line).removesuffix(".")
        _entries[name] = BackboneEntry(name, build, key_idea=key_idea, module=build.__module__, **facts)
        return build

    return register


def _first_line(documented: object) -> str:
    """The first line of an object's docstring; a class without one has none, and not that of torch.nn.Module."""
    return inspect.cleandoc(documented.__doc__ or "").partition("\n")[0]


def _owner(entry: BackboneEntry) -> str:
    return f"{entry.build.__module__}.{entry.build.__qualname__}"


def list_backbones(pattern: str = "*") -> list[BackboneEntry]:
    """The registered backbones whose name matches a shell pattern; resnet18 comes before resnet101.

    A backbone of another package that cannot be used is left out, and a warning says why.
    """
    entries = []
    for name in dict.fromkeys([*_entries, *_installed()]):
        if fnmatchcase(name, pattern):
            try:
                entries.append(_named_entry(name))
            except CnnCompareError as error:
                log.warning(str(error))
    return sorted(
        entries,
        key=lambda entry: [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", entry.name)],
    )


def find_backbone(name: str | nn.Module) -> BackboneEntry:
    """The entry of a name: registered, an importable callable (``my_pkg.nets:tiny_net``), or ``timm/<name>``.

    A network is its own backbone, and its entry builds that very object.

    Raises:
        UnknownBackboneError: If there is no such backbone; the message says what was tried.
        UsageError: If an installed package adds a backbone of that name, and there is another one.
        InvalidValueError: If ``name`` is neither a name nor a network.
    """
    if isinstance(name, nn.Module):
        return _object_entry(name)
    if not isinstance(name, str):
        raise InvalidValueError("backbone", name, "a backbone's name or a torch.nn.Module object, such as MyNet()")
    if given_as_object(name):
        return _lost_object_entry(name)
    if name.startswith("timm/"):
        return _timm_entry(name)
    if ":" in name:
        return _importable_entry(name)
    return _named_entry(name)


def build_backbone(
    name: str | nn.Module, num_classes: int = 10, stem: Stem = "imagenet", weights: str | Path | None = None
) -> nn.Module:
    """Build a network that turns ``(N, 3, H, W)`` images into ``(N, num_classes)`` logits.

    Fresh parameters are drawn from torch's global generator alone. A network with auxiliary heads has an
    ``aux_loss_weight``, and in training returns a named tuple: ``logits`` and the auxiliary logits.

    Args:
        name: One that `find_backbone` takes.
        num_classes: Width of the last layer.
        stem: ``imagenet``: the published graph; ``cifar``: the graph adapted to 32x32 images.
        weights: ``imagenet`` for the published ones, a file, or None for fresh ones.

    Raises:
        UnknownBackboneError: If there is no such backbone.
        InvalidValueError: If ``num_classes`` or ``stem`` is outside what it accepts.
        UsageError: If ``weights`` is ``imagenet`` and there are none for this backbone and stem.
        WeightsError: If the weights cannot be found, read, or fitted to the network.
    """
    if num_classes < 1:
        raise InvalidValueError("num_classes", num_classes, "at least 1")
    if stem not in get_args(Stem):
        raise InvalidValueError("stem", stem, "'imagenet' or 'cifar'")
    entry = find_backbone(name)
    network = entry.build(num_classes, stem)
    make_repeatable(network)
    if weights is not None:
        load_weights(network, weights, entry.name, stem, num_classes, entry.imagenet_weights)
    return network


@cache
def _installed() -> dict[str, list[metadata.EntryPoint]]:
    """The backbones that installed packages add, by name; nothing is imported."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        found.setdefault(point.name, []).append(point)
    return found


def _named_entry(name: str) -> BackboneEntry:
    """The entry of a registered name, or of one that an installed package adds, which is imported for it."""
    points, registered = _installed().get(name, []), _entries.get(name)
    if registered and all(point.module == registered.module for point in points):
        return registered
    known = [*_entries, *_installed()]
    if not points:
        raise UnknownBackboneError(name, known)
    owners = [f"{point.dist.name} {point.dist.version} ({point.value})" for point in points if point.dist]
    if registered:
        owners.insert(0, _owner(registered))
    if len(owners) > 1:
        also = f"{' and '.join(owners[1:])} adds it too"
        way_out = "Uninstall one, or name a callable: package.module:callable."
        raise UsageError(f"the name {name!r} is taken by {owners[0]}, and {also}. {way_out}")
    try:
        entry = _importable_entry(points[0].value)
    except UnknownBackboneError as error:
        raise UnknownBackboneError(name, known, f"{owners[0]} adds it. {error.reason}") from error
    # The module may have registered it, with facts.
    return _entries.get(name) or replace(entry, name=name)


def _object_entry(network: nn.Module) -> BackboneEntry:
    name = f"{_OBJECT}{type(network).__module__}.{type(network).__qualname__}"

    def build(num_classes: int, stem: Stem) -> nn.Module:
        if stem != "imagenet":
            raise InvalidValueError("stem", stem, "'imagenet' for a network given as an object: it keeps its own stem")
        return network

    return BackboneEntry(name, build, key_idea=_first_line(network))


def _lost_object_entry(name: str) -> BackboneEntry:
    """The entry of the name that a checkpoint has, which holds the object's weights only."""

    def build(num_classes: int, stem: Stem) -> nn.Module:
        reason = (
            "It was given to ClassifierModule as an object, and its checkpoint holds the weights only. Give the object "
            "again, ClassifierModule.load_from_checkpoint(path, backbone=MyNet()), or a name such as my_nets:MyNet."
        )
        raise UnknownBackboneError(name, _entries, reason)

    return BackboneEntry(name, build)


def given_as_object(backbone: str | nn.Module) -> bool:
    """Whether this is a network, or the name that one has in its checkpoint."""
    return isinstance(backbone, nn.Module) or backbone.startswith(_OBJECT)


def _importable_entry(name: str) -> BackboneEntry:
    module_name, _, attribute = name.partition(":")
    try:
        function: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            function = getattr(function, part)
    # Importing runs the user's code, which can raise anything.
    except Exception as error:
        reason = f"Importing it failed ({type(error).__name__}: {error})."
        raise UnknownBackboneError(name, _entries, reason) from error
    if not callable(function):
        raise UnknownBackboneError(name, _entries, f"It is a {type(function).__name__}, which cannot be called.")

    def build(num_classes: int, stem: Stem) -> nn.Module:
        signature = inspect.signature(function)
        arguments: dict[str, Any] = {"num_classes": num_classes}
        # Only to a parameter of that name: torchvision's builders would accept `stem` in **kwargs and fail later.
        if "stem" in signature.parameters:
            arguments["stem"] = stem
        try:
            signature.bind(**arguments)
        except TypeError as error:
            call = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise UnknownBackboneError(name, _entries, f"It cannot be called with ({call}): {error}.") from error
        network = function(**arguments)
        if not isinstance(network, nn.Module):
            reason = f"Calling it gave a {type(network).__name__}, and not a torch.nn.Module."
            raise UnknownBackboneError(name, _entries, reason)
        return network

    module = getattr(function, "__module__", None) or module_name
    return BackboneEntry(name, build, key_idea=_first_line(function), module=module)


def _timm_entry(name: str) -> BackboneEntry:
    model_name = name.removeprefix("timm/")
    try:
        metadata.distribution("timm")  # A file timm.py in the working folder is another one.
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise UnknownBackboneError(name, _entries, "It needs `pip install 'cnn-compare[timm]'`.") from error
    if not timm.is_model(model_name):
        raise UnknownBackboneError(name, [*_entries, *(f"timm/{model}" for model in timm.list_models())])

    def build(num_classes: int, stem: Stem) -> nn.Module:
        if stem != "imagenet":
            raise InvalidValueError("stem", stem, f"'imagenet' for {name}: timm's networks keep their own stem")
        network: nn.Module = timm.create_model(model_name, num_classes=num_classes)
        return network

    facts: Any = timm.get_pretrained_cfg(model_name)
    if facts is None:
        return BackboneEntry(name, build, key_idea="from timm")
    image_size = facts.input_size[-1]
    return BackboneEntry(
        name,
        build,
        key_idea="from timm",
        min_image_size=image_size if facts.fixed_input_size else (facts.min_input_size or (3, 1, 1))[-1],
        image_size=image_size,
        only_image_size=facts.fixed_input_size,
        mean_std=(tuple(facts.mean), tuple(facts.std)),
        imagenet_weights=name,
    )
