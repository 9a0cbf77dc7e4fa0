from __future__ import annotations

import copy
import inspect
import pickle
from pathlib import Path

import pytest

from cnn_compare import errors

ALL = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.CnnCompareError)
]


def example_of(error):
    """An error of this class: with a message, settings and facts, or with what its constructor asks for."""
    if "message" in (parameters := inspect.signature(error).parameters):
        return error("something happened", ["data.group"], parts={"one": 2}, path=Path("folder/file"))
    return error(**{name: ["one"] if name in ("known", "mentioned", "fields") else name for name in parameters})


@pytest.mark.parametrize("error", ALL)
@pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.deepcopy])
def test_an_error_keeps_message_and_attributes_in_another_process(error, copied):
    original = example_of(error)
    arrived = copied(original)
    assert type(arrived) is error
    assert str(arrived) == str(original)
    assert vars(arrived) == vars(original)
