"""Errors of parsers in one line: a parser's own message is its usage, and the names of Python's types."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from cnn_compare.configs import flatten
from cnn_compare.errors import ConfigurationError, own_error
from cnn_compare.helptext import ASK, GiveParser
from cnn_compare.private import actions_of

if TYPE_CHECKING:
    _Parser = argparse.ArgumentParser
else:
    _Parser = object

# What a parser's message says, of jsonargparse's and argparse's: theirs are nested, one line a level.
FACTS = re.compile(
    r"""
    Parser\ key\ "(?P<key>[^"]+)"
    | class_path[ =]'(?P<cls>[\w.]+)'
    | unrecognized\ arguments:\ (?P<unexpected>[^\s=]+)
    | Group\ '(?P<group>[^']+)'
    | option\ '(?P<unknown>[^']+)'
    | Expected\ (?:a\ )?<class\ '(?P<type>[^']+)'>
    | typing\.Literal\[(?P<words>[^\]]*)\](?=\.|$)
    | (?:(?:Got|Given)\ value|dot\ import\ path\ string):\ (?=(?P<value>.*?)(?:\.\ Got\ value.*)?$)
    | Unable\ to\ load\ config\ '(?P<unloadable>[^']*)'
    | argument\ (?:-\w/)?-*(?P<argument>\S+):
    | invalid\ (?P<kind>\w+)(?:\ value)?:\ '(?P<given>.*?)'
    | choose\ from\ (?P<choices>.*)\)
    | (?P<empty>expected\ one\ argument)
    | required:\ (?P<missing>.*)
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "dict": "settings such as {name: value}",
    "list": "a list",
    "tuple": "a list",
    "collections.abc.Sequence": "a list",
    "collections.abc.Iterable": "a list",
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
        if (own := own_error(ex)) is not None:  # Of a file's settings, for example.
            raise own
        # jsonargparse notes here that the mistake is among the options of a subcommand.
        parser: OneLineErrors = getattr(ex, "subcommand_parser", None) or self
        raise parser._with_file(
            one_line(message, [name for action in actions_of(parser) for name in action.option_strings])
        )

    def parse_path(self, path: Any, *args: Any, **options: Any) -> Any:
        """Parse a file as jsonargparse does, and say what is wrong with it together with its name."""
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
        message: The message of argparse or jsonargparse.
        options: The parser's options, for "did you mean".
    """
    found: dict[str, list[str]] = {}
    for match in FACTS.finditer(message):
        for name, text in match.groupdict().items():
            # After the value come the types that the class around the setting could have.
            if text is not None and not (name in ("type", "words") and "value" in found):
                found.setdefault(name, []).append(text)
    first = {name: texts[0] for name, texts in found.items()}
    section = ".".join(found.get("key", []))
    unknown = first.get("unknown", first.get("unexpected", ""))
    if "unknown" in found or unknown.startswith("--"):
        known = {option.lstrip("-") for option in options}
        known |= {f"{section}.{name}" for cls in found.get("cls", [])[-1:] for name in _arguments(cls)}
        return _unknown(".".join(filter(None, [section, first.get("group"), unknown.lstrip("-")])), known)
    if "unexpected" in found:
        return ConfigurationError(f"nothing was expected in place of {first['unexpected']!r}")
    if "empty" in found:
        return ConfigurationError(f"{first['argument']} needs a value", (first["argument"],))
    if "choices" in found:
        return _wrong_value(first["argument"], _words(first["choices"]), first["given"])
    if "given" in found:
        return _wrong_value(first["argument"], [TYPES.get(first["kind"], first["kind"])], first["given"])
    if "unloadable" in found:
        return _wrong_value(first["key"], [TYPES["dict"]], first["unloadable"])
    if section and "value" in found:
        words = [word for listed in found.get("words", []) for word in _words(listed)]
        allowed = dict.fromkeys([*words, *(TYPES.get(kind, kind) for kind in found.get("type", []))])
        return _wrong_value(section, [*allowed] or ["the name of a class, such as torch.optim.SGD"], first["value"])
    if "missing" in found:
        return ConfigurationError(f"{first['missing']} {'are' if ', ' in first['missing'] else 'is'} missing")
    return ConfigurationError(message.removeprefix(f'Parser key "{section}":'))


def _wrong_value(name: str, allowed: Sequence[str], given: str) -> ConfigurationError:
    either = " or ".join(filter(None, [", ".join(allowed[:-1]), allowed[-1]]))
    return ConfigurationError(f"{name} must be {either}, and is {given!r}", (name,))


def _unknown(name: str, known: Iterable[str]) -> ConfigurationError:
    """The error for a setting that does not exist, with the nearest one: by its whole name, or by the last part."""
    names = {option.rpartition(".")[2]: option for option in sorted(known)}
    whole = get_close_matches(name, known, n=1, cutoff=0.75)
    last = get_close_matches(name.rpartition(".")[2], names, n=1, cutoff=0.75)
    close = whole or [names[match] for match in last]
    hint = f"; did you mean {close[0]}?" if close else ""
    return ConfigurationError(f"there is no setting {name}{hint}", (name, *close))


def _words(listed: str) -> list[str]:
    return listed.replace("'", "").split(", ")


def _arguments(class_path: str) -> set[str]:
    """The arguments of a class and its bases."""
    bases = getattr(locate(class_path), "__mro__", ())
    return {parameter for base in bases if base is not object for parameter in inspect.signature(base).parameters}
