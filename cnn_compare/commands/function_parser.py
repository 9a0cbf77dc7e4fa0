"""The parser of commands whose options come from the signatures of functions."""

from jsonargparse import ArgumentParser

from cnn_compare.helptext import TopicHelp
from cnn_compare.parsing import OneLineErrors


class FunctionParser(TopicHelp, OneLineErrors, ArgumentParser):
    """jsonargparse's parser; what it refuses is a `ConfigurationError`, and its help fits a screen."""
