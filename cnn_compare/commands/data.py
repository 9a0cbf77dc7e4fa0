"""``data``: looks at pictures."""

from __future__ import annotations

import textwrap
from pathlib import Path
from pydoc import locate

from cnn_compare.commands import about
from cnn_compare.configs import as_list, merge_config
from cnn_compare.data import FolderDataModule
from cnn_compare.data.cache import clear_cache
from cnn_compare.data_report import report_on_data
from cnn_compare.errors import InvalidValueError
from cnn_compare.experiment import RecipeFile, class_path, experiment_parser, plain_config
from cnn_compare.formatting import print_table


def run(arguments: list[str]) -> None:
    """Print and store what is wrong with pictures, and what they can show; or delete what is stored of them."""
    parser = experiment_parser(**about("data"))
    parser.set_defaults({"data": {"class_path": class_path(FolderDataModule)}})
    parser.add_argument("path", nargs="?", help="a folder of pictures or a CSV file of labels; or --data names others")
    parser.add_argument("--recipe", action=RecipeFile, help="A recipe, for image size and epochs.")
    parser.add_argument(
        "--backbones", type=list[str] | str, default=[], help="Whose costs are measured, such as '[resnet18]'."
    )
    parser.add_argument("--output", type=str | None, default=None, help="Folder for the report; data_report/NAME.")
    parser.add_argument("--clear_cache", action="store_true", help="Only delete what is stored of decoded pictures.")
    parsed = parser.parse_args(arguments[1:])
    options = plain_config(parser, parsed)
    settings, path = options["data"]["init_args"], options["path"]
    cls = locate(options["data"]["class_path"])
    pictures = isinstance(cls, type) and issubclass(cls, FolderDataModule)
    if path is not None:
        setting = "labels" if Path(path).is_file() or path.lower().endswith((".csv", ".tsv")) else "data_dir"
        given = {"data": "" if pictures else options["data"]["class_path"], f"data.{setting}": settings.get(setting)}
        if field := next((field for field, value in given.items() if value), None):
            raise InvalidValueError(field, given[field], "left out where a path is given")
        options = merge_config(options, {"data": {"init_args": {setting: path}}})
        settings = options["data"]["init_args"]
    root = None
    if pictures and (place := settings["data_dir"] or settings["labels"]):
        root = Path(place).expanduser().absolute()
        root = root if settings["data_dir"] else root.parent
    if options["clear_cache"]:
        if root is None:
            raise InvalidValueError("clear_cache", True, "given with a folder of pictures, or a CSV file of labels")
        print(f"{clear_cache(root) / 2**20:,.1f} MiB freed")
        return
    name = root.name if root else str(settings.get("name") or options["data"]["class_path"].rpartition(".")[2])
    output = Path(options["output"] or Path("data_report") / name)
    for part in report_on_data(options, as_list(options["backbones"]), output, name):
        print(f"\n{part.heading}")
        for sentence in part.sentences:
            print(textwrap.fill(sentence, 79, initial_indent="- ", subsequent_indent="  "))
        if part.rows:
            print_table(part.rows, 1)
    print(f"report: {output / 'data.html'}")
