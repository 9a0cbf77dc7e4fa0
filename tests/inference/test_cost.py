from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import run_command

from cnn_compare.errors import NoTrainedNetworkError
from cnn_compare.inference import cost


def test_what_the_predictions_of_a_checkpoint_take_is_stored_and_shown(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cost, "take_turns", lambda bursts, limit_s: {name: [0.002, 0.0025] for name in bursts})
    status, shown, errors = run_command(["profile", str(trained[2]), f"--output={tmp_path / 'p.json'}"], capsys)
    assert status == 0, errors
    (stored,) = json.loads((tmp_path / "p.json").read_text())
    assert stored["file_bytes"] == trained[2].stat().st_size
    assert (stored["side"], stored["runtime"]) == (40, f"torch {torch.__version__}")
    assert stored["predict_ms"] == [2.0, 2.5]
    assert "2.24" in shown  # The geometric mean.


def test_files_take_turns_with_the_networks_own_probabilities(trained, tmp_path):
    (measured,) = cost.time_predictions([str(trained[2])], str(tmp_path / "p.json"), seconds_a_file=0.01)
    assert len(measured.predict_ms) >= 3
    assert min(measured.predict_ms) > 0


def test_onnx_files_are_run_by_onnxruntime_with_as_many_threads_as_torch(tmp_path, monkeypatch):
    taken = SimpleNamespace(name="pixels", type="tensor(uint8)", shape=["batch", 40, 40, 3])
    shapes = set()

    class Session:
        def __init__(self, path, options, providers):
            assert options.intra_op_num_threads == torch.get_num_threads()

        def run(self, names, inputs):
            shapes.add((inputs["pixels"].shape, inputs["pixels"].dtype.name))
            return [np.full((len(inputs["pixels"]), 3), 1 / 3, np.float32)]

        def get_inputs(self):
            return [taken]

    fake = SimpleNamespace(InferenceSession=Session, SessionOptions=SimpleNamespace, __version__="9.9")
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(cost.importlib.util, "find_spec", lambda name, *rest: fake)
    (tmp_path / "net.onnx").write_bytes(b"1234")
    (measured,) = cost.time_predictions([str(tmp_path / "net.onnx")], str(tmp_path / "p.json"), seconds_a_file=0.01)
    assert (measured.runtime, measured.side, measured.file_bytes) == ("onnxruntime 9.9", 40, 4)
    assert shapes == {((1, 40, 40, 3), "uint8")}
    taken.type = "tensor(float)"
    with pytest.raises(NoTrainedNetworkError, match="and not uint8 pixels"):
        cost.time_predictions([str(tmp_path / "net.onnx")], str(tmp_path / "p.json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.onnx"], "no trained network in missing.onnx: there is no such file"),
        (["missing.ckpt"], "no trained network in missing.ckpt: there is no such file or folder"),
        (["{}", "--stem=cifar"], "--stem must be left out where files are given"),
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
