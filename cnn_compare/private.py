"""Private parts of other packages that this one uses, each with the reason: there is no public way.

One more is in `cnn_compare.callbacks.checkpoints`: Lightning has no hook around the writing of a checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import multiprocessing
import operator
import typing
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

# jsonargparse takes actions of this class, and no others of a user's, for no setting: they are not in a configuration.
HelpAction = argparse._HelpAction


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser, for help and completion. argparse only formats this list.

    jsonargparse's own completion looks through every subclass of the class of a setting: of torch's, for minutes.
    """
    return parser._actions


def imports_main() -> bool:
    """Whether this is a new process that imports the user's script; multiprocessing itself refuses to start one then.

    Its public names say only that there is a parent, which is so for every run.
    """
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def forget_order_of_types() -> None:
    """Clear Python's cache of types.

    Where another package, such as sklearn.datasets, has written `float | int`, the cache returns that for `int | float`
    too, and `val_size=20` would be read as 20.0: a share, and no number of images.
    """
    for clear in getattr(typing, "_cleanups", ()):
        clear()


def put_int_before_float(function: Callable[..., Any]) -> None:
    """Mend a function's annotations that were made while the cache held `float | int`: see `forget_order_of_types`.

    Lightning's were, where it was imported after sklearn.datasets, and `limit_train_batches=1` would be all batches.
    """
    annotations = inspect.unwrap(function).__annotations__
    for name, hint in annotations.items():
        if {int, float} <= {*typing.get_args(hint)}:
            annotations[name] = reduce(operator.or_, sorted(typing.get_args(hint), key=lambda kind: kind is not int))


def read_file_into(parser: Any, config: Any, name: str, path: str) -> None:
    """Put a file's settings over those that a parser has read so far, as for ``--config``, which takes no defaults."""
    from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

    ActionConfigFile.apply_config(parser, config, name, path)


def logs_graph(logger: Any) -> bool:
    """Whether a logger is a `TensorBoardLogger(log_graph=True)`, which keeps that to itself."""
    return bool(getattr(logger, "_log_graph", False))


def trainer_of(module: Any) -> Any:
    """The trainer of a LightningModule; None without one, where its public property raises an error."""
    return module._trainer


def copy_of_loader(loader: Any) -> Any:
    """A `DataLoader` for a second pass over the same data.

    A pass over the same object would draw from its generator, and with persistent workers take those of the iterator
    that a training has open; that iterator is what only the private name can leave out of a copy.
    """
    return copy.deepcopy(loader, {id(loader.dataset): loader.dataset, id(loader._iterator): None})


def before_transfer(module: Any, batch: Any) -> Any:
    """A batch as the hook of that name leaves it, which can be the module's, or its data module's."""
    return module._on_before_batch_transfer(batch)


def parts_of_schedule(schedule: Any) -> list[Any]:
    """The schedules that torch's `SequentialLR` and `ChainedScheduler` consist of; it tells nobody."""
    return list(getattr(schedule, "_schedulers", []))


def milestones_of(schedule: Any) -> list[int]:
    """The steps after which a `SequentialLR` goes over to its next part; empty for other schedules."""
    return list(getattr(schedule, "_milestones", []))


def without_parser(make: Any) -> Any:
    """A factory that ``torch.save`` can store: jsonargparse's is a function of its own that holds the parser."""
    if isinstance(make, partial) and make.func.__module__.startswith("jsonargparse."):
        *_, cls = make.args
        return partial(cls, **make.keywords)
    return make
