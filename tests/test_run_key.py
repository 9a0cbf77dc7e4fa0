"""How runs and their folders are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnn_compare.results import RunFolder, run_folders
from cnn_compare.run_key import RunKey, comparison_of, network_paths

KEYS = {
    RunKey("lenet"): ("lenet/0", "lenet/seed_0", "lenet"),
    RunKey("lenet", "flat", 500, 3): ("lenet+flat/train_500/3", "lenet+flat/train_500/seed_3", "lenet (flat)"),
    RunKey("lenet", seed=1, fold=2): ("lenet/1/2", "lenet/seed_1/fold_2", "lenet"),
    RunKey("timm/resnet26", seed=7): ("timm/resnet26/7", "timm_resnet26/seed_7", "timm/resnet26"),
    RunKey("my.nets:Net", "own"): ("my.nets:Net+own/0", "my.nets_Net+own/seed_0", "my.nets:Net (own)"),
}


@pytest.mark.parametrize(("key", "names"), KEYS.items())
def test_a_key_gives_its_label_folder_and_network_and_comes_back_from_its_label(key, names):
    assert (key.label, key.path.as_posix(), key.network) == names
    assert RunKey.parse(key.label) == key


@pytest.mark.parametrize("label", ["lenet", "lenet/", "lenet/one", "/0"])
def test_what_is_no_label_is_refused(label):
    with pytest.raises(ValueError, match="backbone/seed"):
        RunKey.parse(label)


def test_every_folder_of_a_run_is_found_again_with_its_comparison_and_its_network(tmp_path):
    for key in KEYS:
        folder = tmp_path / key.path
        folder.mkdir(parents=True)
        (folder / RunFolder.RESULT).touch()
    found = {run.path for run in run_folders(tmp_path, RunFolder.RESULT)}
    assert found == {tmp_path / key.path for key in KEYS}
    assert {comparison_of(path) for path in found} == {tmp_path}
    assert comparison_of(Path("lightning_logs/version_0")) is None
    assert {path.name for path in network_paths(tmp_path, "lenet")} == {"lenet", "lenet+flat"}
