"""The documentation site: `make docs` builds it into docs/_build/html."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

from cnn_compare import __version__

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "cnn_compare"
author = "The authors of cnn_compare"
copyright = f"{author}, Apache-2.0"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "runs", "drawings"]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = f"cnn_compare {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Pages that are read in the repository too link to files outside of this folder: they are copied beside the page.
suppress_warnings = ["myst.xref_missing"]

# `name` in a docstring is an object where there is one of that name, and code everywhere else.
default_role = "py:obj"
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"


def without_marks(app: Sphinx, page: str, source: list[str]) -> None:
    """Take out the marks of `tools/reference.py`: a line that begins with one would end its paragraph."""
    source[0] = re.sub(r"<!-- (?:table|variants|growth|pairs|figure|end)\b.*?-->", "", source[0])


def setup(app: Sphinx) -> None:
    """Connect what is defined here."""
    app.connect("source-read", without_marks)
