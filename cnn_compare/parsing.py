"""What a parser refuses, in one line: a parser's own message is its usage, and the names of Python's types."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from cnn_compare.configs import flatten
from cnn_compare.errors import ConfigurationError
from cnn_compare.helptext import ASK, GiveParser
from cnn_compare.private import actions_of

if TYPE_CHECKING:
    _Parser = argparse.ArgumentParser
else:
    _Parser = object

TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'NoneType'>": "null",
    "<class 'list'>": "a list",
    "<class 'tuple'>": "a list",
    "<class 'collections.abc.Sequence'>": "a list",
    "<class 'collections.abc.Iterable'>": "a list",
    "dot import path string": "the name of a class, such as torch.optim.SGD",
}


class OneLineErrors(_Parser):
    """A parser that raises `ConfigurationError` where it would print its usage and exit; for argparse and jsonargparse.

    Options have to be written out: an abbreviation may be a mistake.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})
        self.files: list[Path] = []  # The configuration files that were read.
        self.add_argument(ASK, action=GiveParser, help=argparse.SUPPRESS)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Refuse, in one line; a parser made with ``exit_on_error=False`` does as its base class."""
        if not self.exit_on_error:
            super().error(message, *([ex] if ex else []))  # Raises: only then does jsonargparse call with `ex`.
        # jsonargparse notes here that the mistake is among the options of a subcommand.
        parser: OneLineErrors = getattr(ex, "subcommand_parser", None) or self
        raise parser._with_file(
            one_line(message, [name for action in actions_of(parser) for name in action.option_strings])
        )

    def parse_path(self, path: Any, *args: Any, **options: Any) -> Any:
        """As jsonargparse's; what is wrong with the file is said with its name."""
        self.files.append(Path(path))
        try:
            return super().parse_path(path, *args, **options)  # type: ignore[misc]
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{path} is not a YAML file: it holds bytes that are no text") from error
        except (ConfigurationError, argparse.ArgumentError) as error:
            problem = getattr(error, "problem", str(error))
            if str(path) in problem:
                raise
            raise ConfigurationError(f"{path} cannot be read as settings: {problem}") from error

    def _with_file(self, error: ConfigurationError) -> ConfigurationError:
        """The error, with the configuration file that holds the refused setting."""
        for path in self.files:
            try:
                settings = flatten(yaml.safe_load(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, AttributeError, yaml.YAMLError):
                continue
            names = {name.replace("init_args.", "") for name in settings}
            if error.fields and any(f"{name}.".startswith(f"{error.fields[0]}.") for name in names):
                return ConfigurationError(f"{path}: {error.problem}")
        return error


class Parser(OneLineErrors, argparse.ArgumentParser):
    """argparse's parser; what it refuses is a `ConfigurationError`, and its examples keep their lines."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})


def one_line(message: str, options: Iterable[str]) -> ConfigurationError:
    """A parser's message as an error of one line.

    Args:
        message: What argparse or jsonargparse says; theirs are nested, one line a level.
        options: The parser's options, for "did you mean".
    """
    section = ".".join(re.findall(r"Parser key \"([^\"]+)\"", message))
    known = {option.lstrip("-") for option in options} | {f"{section}.{name}" for name in _arguments(message)}
    if unknown := re.match(r"unrecognized arguments: (--)?([^\s=]+)(.*)", message, re.DOTALL):
        dashes, name, _ = unknown.groups()
        return _unknown(name, known) if dashes else ConfigurationError(f"nothing was expected in place of {name!r}")
    if unknown := re.search(r"(?:Group '([^']+)'.*|[Oo]ption )'([^']+)'(?: is not accepted)?", message):
        group, name = unknown.groups()
        return _unknown(".".join(filter(None, [section, group, name])), known)
    if section and (expected := re.findall(r"Expected a (.+?)(?:\. Got value.*|: .*)?$", message, re.MULTILINE)):
        kinds = [kind for kind in expected if not kind.startswith("path ")]
        words = list(dict.fromkeys(word for kind in kinds for word in _in_words(kind)))
        value = re.search(r"(?:Got|Given) value: (.*?)(?:\. Got value.*)?$|Expected .* string: (.*)$", message, re.M)
        given = next((text for text in value.groups() if text is not None), "") if value else ""
        return ConfigurationError(f"{section} must be {_either(words)}, and is {given!r}", (section,))
    if choice := re.match(r"argument (?:-\w/)?-*(\S+): invalid choice: '(.*)' \(choose from (.*)\)", message):
        name, given, known_values = choice[1], choice[2], choice[3].replace("'", "").split(", ")
        return ConfigurationError(f"{name} must be {_either(known_values)}, and is {given!r}", (name,))
    if required := re.match(r"the following arguments are required: (.*)", message):
        return ConfigurationError(f"{required[1]} is missing")
    return ConfigurationError(re.sub(r"^Parser key \"[^\"]+\": ?", "", message))


def _unknown(name: str, known: Iterable[str]) -> ConfigurationError:
    """The error for a setting that does not exist, with the nearest one: by its whole name, or by the last part."""
    names = {option.rpartition(".")[2]: option for option in sorted(known)}
    whole = get_close_matches(name, known, n=1, cutoff=0.75)
    last = get_close_matches(name.rpartition(".")[2], names, n=1, cutoff=0.75)
    close = whole or [names[match] for match in last]
    hint = f"; did you mean {close[0]}?" if close else ""
    return ConfigurationError(f"there is no setting {name}{hint}", (name, *close))


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _in_words(kind: str) -> list[str]:
    literal = re.fullmatch(r"typing.Literal\[(.*)\]", kind)
    return re.sub(r"['\"]", "", literal[1]).split(", ") if literal else [TYPES.get(kind, kind)]


def _arguments(message: str) -> set[str]:
    """The arguments of the class that a message is about."""
    path = re.search(r"class_path[ =]'([\w.]+)'", message)
    if not path:
        return set()
    module, _, name = path[1].rpartition(".")
    bases = getattr(import_module(module), name).__mro__
    return {parameter for base in bases if base is not object for parameter in inspect.signature(base).parameters}
