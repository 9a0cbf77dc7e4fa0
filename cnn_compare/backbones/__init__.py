"""The backbones, by name. Importing this package registers all of them."""

from cnn_compare.backbones import alexnet, cifar_resnet, densenet, googlenet, inception, lenet, mobilenet, resnet, vgg
from cnn_compare.backbones.costs import Costs, costs_of, count_macs, count_parameters, describe_backbones
from cnn_compare.backbones.fingerprint import code_fingerprint
from cnn_compare.backbones.head import find_head, train_head_alone
from cnn_compare.backbones.registry import (
    BackboneEntry,
    Stem,
    build_backbone,
    find_backbone,
    given_as_object,
    list_backbones,
    register_backbone,
)
from cnn_compare.backbones.torchvision_models import converts_input, set_input_conversion
from cnn_compare.backbones.weights import load_weights

__all__ = [
    "BackboneEntry",
    "Costs",
    "Stem",
    "alexnet",
    "build_backbone",
    "cifar_resnet",
    "code_fingerprint",
    "converts_input",
    "costs_of",
    "count_macs",
    "count_parameters",
    "densenet",
    "describe_backbones",
    "find_backbone",
    "find_head",
    "given_as_object",
    "googlenet",
    "inception",
    "lenet",
    "list_backbones",
    "load_weights",
    "mobilenet",
    "register_backbone",
    "resnet",
    "set_input_conversion",
    "train_head_alone",
    "vgg",
]
