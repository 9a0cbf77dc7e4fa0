"""The commands: what each is for, and a module for each that carries it out.

A command's module is imported when that command runs. Its function ``run`` takes the command line, which begins with
the command's name. What takes seconds to import is imported inside of it if a usage error, or another use of the
command, does without.
"""

import argparse
from typing import Any

FIT_COMMANDS = {
    "fit": "train a backbone",
    "validate": "evaluate on the validation images",
    "test": "evaluate on the test images",
}
OWN_COMMANDS = {
    "compare": "train several backbones under one recipe, and report",
    "report": "report on stored runs",
    "predict": "classify pictures with a trained network",
    "export": "write a trained network as a file for other programs",
    "explain": "show which parts of the hardest test images the answers came from",
    "data": "look at pictures: what is wrong with them, and what they can show",
    "recipes": "list the recipes and comparisons that are installed",
    "backbones": "list the backbones",
    "profile": "measure what backbones and predictions cost on this machine, without training",
}
COMMANDS = FIT_COMMANDS | OWN_COMMANDS
EXAMPLES = {
    "fit": """
cnn-compare fit --model.backbone=googlenet
cnn-compare fit --recipe modern --model.backbone=resnet18 --trainer.max_epochs=20
cnn-compare fit --data=FolderDataModule --data.data_dir=photos/ --model.backbone=my_nets:MyNet
""",
    "validate": "cnn-compare validate --ckpt_path=best",
    "test": "cnn-compare test --ckpt_path=best",
    "predict": """
cnn-compare predict lightning_logs/mine photos/
cnn-compare predict best.ckpt 'photos/*.jpg' --top_k 5 --output predictions.csv
""",
    "compare": """
cnn-compare compare --config quickstart
cnn-compare compare --recipe modern --name mine --backbones '[lenet,resnet18]' --seeds '[0,1,2]'
cnn-compare compare --config mine.yaml --data.data_dir=photos/ --trainer.max_epochs=5 --dry_run
""",
    "report": "cnn-compare report lightning_logs/mine --baseline resnet18 --margin 1",
    "explain": "cnn-compare explain lightning_logs/mine",
    "export": "cnn-compare export lightning_logs/mine --format onnx --output classifier.onnx",
    "data": """
cnn-compare data photos/
cnn-compare data photos/labels.csv --data.group=person --backbones '[resnet18]'
""",
    "recipes": "cnn-compare recipes",
    "backbones": "cnn-compare backbones --filter 'resnet*'",
    "profile": "cnn-compare profile --backbones '[googlenet,resnet18]' --image_size 64",
}


def examples(*commands: str) -> str:
    """The first example of each of several commands, or all of one."""
    lines = [EXAMPLES[command].strip().splitlines() for command in commands]
    shown = lines[0] if len(lines) == 1 else [first for first, *_ in lines]
    return "\n".join(["example:" if len(shown) == 1 else "examples:", *(f"  {line}" for line in shown)])


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option by which the user allows code that a file names; `run` hands it to `trusted.trust`."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of your own that the stored files may name, such as my_nets: its code is run",
    )


def about(command: str) -> dict[str, Any]:
    """Name, description and examples of a command, for its parser."""
    return {"prog": f"cnn-compare {command}", "description": COMMANDS[command], "epilog": examples(command)}
