from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import run_command
from PIL import Image

from cnn_compare import Classifier
from cnn_compare.inference import cost


def test_what_the_predictions_of_a_checkpoint_cost_is_stored_and_shown(trained, pictures, tmp_path, capsys):
    output, picture = tmp_path / "costs.json", pictures / "grün" / "01.jpg"
    arguments = ["profile", str(trained[2]), f"--picture={picture}", f"--output={output}"]
    status, shown, errors = run_command(arguments, capsys)
    assert status == 0, errors
    (stored,) = json.loads(output.read_text())
    assert stored["file_bytes"] == trained[2].stat().st_size
    assert (stored["side"], stored["runtime"]) == (40, f"torch {torch.__version__}")
    assert 0 < stored["p50_ms"] <= stored["p95_ms"]
    assert 0 < stored["decode_p50_ms"] < stored["p50_ms"]
    assert stored["images_per_s"].keys() == {"1", "8", "64"}
    assert min(*stored["images_per_s"].values(), stored["bf16_images_per_s"]) > 0
    assert "ms a picture, p95" in shown
    assert "bf16 pays here in inference for" in shown


def test_onnx_files_are_run_by_onnxruntime_with_as_many_threads_as_torch(trained, tmp_path, monkeypatch):
    taken = SimpleNamespace(name="pixels", type="tensor(uint8)", shape=["batch", 40, 40, 3])

    class Session:
        def __init__(self, path, options, providers):
            assert options.intra_op_num_threads == torch.get_num_threads()
            self.run = lambda names, inputs: [np.full((len(inputs["pixels"]), 3), 1 / 3, np.float32)]

        def get_inputs(self):
            return [taken]

        def get_modelmeta(self):
            return SimpleNamespace(custom_metadata_map={"fit": '"pad"'})

    fake = SimpleNamespace(InferenceSession=Session, SessionOptions=SimpleNamespace, __version__="9.9")
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(cost, "LATENCIES", 5)
    (tmp_path / "net.onnx").write_bytes(b"1234")
    measured = cost.measure(str(tmp_path / "net.onnx"), str(cost.made_up_picture(tmp_path)))
    assert (measured.runtime, measured.side, measured.file_bytes) == ("onnxruntime 9.9", 40, 4)
    assert measured.bf16_images_per_s is None
    taken.type = "tensor(float)"
    with pytest.raises(cost.NoTrainedNetworkError, match="and not uint8 pixels"):
        cost.measure(str(tmp_path / "net.onnx"), "")


def test_the_made_up_picture_is_classified_like_any_other(trained, tmp_path):
    path = cost.made_up_picture(tmp_path)
    with Image.open(path) as image:
        assert image.size == (1024, 768)
    assert len(Classifier.load(trained[2])(path)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.onnx"], "no trained network in missing.onnx: there is no such file"),
        (["missing.ckpt"], "no trained network in missing.ckpt: there is no such file or folder"),
        (["{}", "--stem=cifar"], "--stem must be left out where files are given"),
        (["{}", "--picture=missing.png"], "missing.png cannot be decoded: No such file or directory"),
        (["--backbones=lenet", "--picture=a.png"], "--picture must be given with files of trained networks"),
        ([], "--backbones must be at least one name where no files are given"),
        (["net.onnx"], "needs `pip install 'cnn-compare[onnx]'`"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(trained, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").touch()
    find_spec = cost.importlib.util.find_spec
    monkeypatch.setattr(
        cost.importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else find_spec(name, *rest)
    )
    status, output, errors = run_command(["profile", *(argument.format(trained[2]) for argument in arguments)], capsys)
    assert (status != 0, output) == (True, "")
    assert said in errors.splitlines()[-1]
