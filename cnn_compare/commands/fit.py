"""``fit``, ``validate``, ``test``: LightningCLI's own."""

from __future__ import annotations

import sys

from lightning.pytorch.utilities.exceptions import SIGTERMException

from cnn_compare.commands import FIT_COMMANDS, about
from cnn_compare.experiment import ExperimentCLI


def run(arguments: list[str]) -> None:
    """Run one of the three."""
    try:
        parsers = {command: about(command) for command in FIT_COMMANDS}
        ExperimentCLI(args=arguments, parser_kwargs={"prog": "cnn-compare", **parsers})
    except SystemExit as end:
        # Lightning ends with status 0 after SIGTERM, and with 1 after an interrupt from the keyboard.
        terminated = isinstance(end, SIGTERMException)
        if not terminated and not isinstance(end.__context__, KeyboardInterrupt):
            raise
        sys.exit(143 if terminated else 130)
