from __future__ import annotations

import copy
import inspect
import pickle
import typing
from collections.abc import Mapping
from pathlib import Path

import pytest

from cnn_compare import errors

EXAMPLES = {int: 7, float: 0.5, bool: True, Path: Path("folder/file"), OSError: OSError(28, "No space left", "a/file")}


def example(hint):
    """A value of an annotation's type, or of the first type of a union; text for everything else."""
    chosen = [*typing.get_args(hint), hint][0] if "|" in str(hint) else hint
    if typing.get_origin(chosen) is Mapping:
        return {"one": "two"}
    if typing.get_origin(chosen) is not None:
        return ["one", "two"]
    return EXAMPLES.get(chosen, "resnet18")


def example_of(error):
    if not inspect.isfunction(error.__init__):
        return error("something happened")
    hints = typing.get_type_hints(error.__init__)
    return error(**{name: example(hint) for name, hint in hints.items() if name != "return"})


ALL = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.CnnCompareError)
]


@pytest.mark.parametrize("error", ALL)
@pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.deepcopy])
def test_an_error_keeps_message_and_attributes_in_another_process(error, copied):
    original = example_of(error)
    arrived = copied(original)
    assert type(arrived) is error
    assert str(arrived) == str(original)
    assert repr(vars(arrived)) == repr(vars(original))
