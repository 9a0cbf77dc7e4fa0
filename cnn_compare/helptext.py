"""``--help`` of commands with hundreds of options: their own come first, the settings of a topic when asked for."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cnn_compare.private import HelpAction, actions_of

if TYPE_CHECKING:
    _Parser = argparse.ArgumentParser
else:
    _Parser = object

TOPICS = ("trainer", "model", "data")
"""Sections of a configuration, whose settings have the section's name in front."""
FIRST = ("path", "name", "backbones", "seeds", "recipe", "config")
"""Options that most uses of a command need."""
SCREEN, NAMES, WIDEST, NARROW = 50, 24, 120, 60


ASK = "--give_parser"
"""The only argument with which a command hands out its parser."""


def asks_for_help(arguments: Iterable[str]) -> bool:
    """Whether a command's arguments only ask what it takes."""
    return any(argument.partition("=")[0] in ("-h", "--help", ASK) for argument in arguments)


class ParserAsked(Exception):  # noqa: N818, it is no error
    """Hands a command's parser to whoever asked for it with `ASK`."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


class GiveParser(HelpAction):
    """The action of `ASK`; as for ``--help``, nothing else is parsed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Raise `ParserAsked`."""
        raise ParserAsked(parser)


class _Help(HelpAction):
    """``--help``, ``--help=TOPIC``, ``--help=all``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.nargs, self.choices = "?", ["all", *TOPICS]

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        print(parser.help_on(values))
        parser.exit()


class TopicHelp(_Parser):
    """A parser whose help fits a screen; for jsonargparse. The epilog holds examples, which come first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        add_help = options.pop("add_help", True)
        options["add_help"] = False
        super().__init__(*args, **options)
        if add_help:
            self.add_argument("-h", "--help", action=_Help, help="This list.")

    def help_on(self, topic: str | None) -> str:
        """The text: of a topic, of everything (``all``), or None for the command's own options, a line each."""
        width = min(shutil.get_terminal_size().columns, WIDEST)
        if topic in TOPICS:
            return "\n\n".join(_section(*section, width) for section in self.topic_sections(topic))
        own = [action for action in actions_of(self) if _topic(action) is None and action.help != argparse.SUPPRESS]
        own.sort(key=lambda action: FIRST.index(action.dest) if action.dest in FIRST else len(FIRST))
        if topic == "all":
            sections = [("options", own), *(section for name in TOPICS for section in self.topic_sections(name))]
            return "\n\n".join(_section(*section, width) for section in sections if section[1])
        head = [f"usage: {self.prog.replace(' [options]', '')} [options]", self.description, self.epilog]
        topics = [f"--help={name}" for name in TOPICS if name in map(_topic, actions_of(self))]
        more = [f"{', '.join(topics)}: the settings of these.", "--help=all: everything, in full."][not topics :]
        # Whole sentences if that fits a screen.
        for shorten in (False, True):
            options = "\n".join(_brief(action, width, shorten) for action in own)
            text = "\n\n".join(filter(None, [*head, f"options:\n{options}", textwrap.fill(" ".join(more), width)]))
            if text.count("\n") < SCREEN:
                break
        return text

    def topic_sections(self, topic: str) -> list[tuple[str, Sequence[argparse.Action]]]:
        """Headings and options of a topic; a subclass may add those of classes that a setting can name."""
        return [(topic, [action for action in actions_of(self) if _topic(action) == topic])]


def _topic(action: argparse.Action) -> str | None:
    name = action.dest.partition(".")[0]
    return name if name in TOPICS else None


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All that a parser takes and lists, with those of classes that a setting can name."""
    actions = list(actions_of(parser))
    if isinstance(parser, TopicHelp):
        actions += [action for topic in TOPICS for _, found in parser.topic_sections(topic) for action in found]
    return [action for action in actions if action.help != argparse.SUPPRESS]


def names_of(action: argparse.Action) -> list[str]:
    """``-c`` and ``--config``, without jsonargparse's ``--name+`` for appending; empty: it is positional."""
    return [name for name in action.option_strings if not name.endswith("+")]


def _title(action: argparse.Action) -> str:
    return ", ".join(names_of(action)) or action.dest


def text_of(action: argparse.Action) -> str:
    """Its help, without markup."""
    return " ".join((action.help or "").replace("``", "").replace("%%", "%").split())


def choices_of(action: argparse.Action) -> list[str]:
    """The words of an option that takes a few; empty: it takes others."""
    listed = re.fullmatch(r"\{(.*)\}", str(action.metavar or ""))
    return listed[1].split(",") if listed else [str(choice) for choice in action.choices or ()]


def _brief(action: argparse.Action, width: int, shorten: bool) -> str:
    """An option and the first sentence about it; ``shorten``: in one line, if the terminal is not narrow."""
    sentence = re.split(r"[.;](?:\s|$)", text_of(action))[0]
    names = f"  {_title(action)}"
    if width < NARROW:
        return names + "\n" + textwrap.fill(sentence, width, initial_indent="    ", subsequent_indent="    ")
    names = f"{names:<{NAMES - 1}} "
    if shorten:
        return names + textwrap.shorten(sentence, width - len(names), placeholder=" …")
    return textwrap.fill(sentence, width, initial_indent=names, subsequent_indent=" " * NAMES)


def _section(heading: str, actions: Sequence[argparse.Action], width: int) -> str:
    """Options with the whole text about each, what they take, and their default."""
    lines = [f"{heading}:"]
    for action in actions:
        if action.help == argparse.SUPPRESS or isinstance(action, HelpAction):
            continue
        value = getattr(action.default, "class_path", action.default)
        default = "" if value in (None, argparse.SUPPRESS, ()) else f"default: {value}"
        facts = "; ".join(filter(None, [" | ".join(choices_of(action)), default]))
        text = text_of(action) + (f" ({facts})" if facts else "")
        lines.append(f"  {_title(action)}")
        lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
