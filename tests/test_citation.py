from pathlib import Path

import yaml

from cnn_compare import __version__


def test_the_citation_names_this_version_and_license():
    citation = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (__version__, "Apache-2.0")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
