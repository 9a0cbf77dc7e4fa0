"""Exported files: their answers, their bytes, what lies beside them, and what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import run_command
from PIL import Image
from safetensors import safe_open
from torch import nn

from cnn_compare import CIFAR10DataModule, Classifier, ClassifierModule, build_backbone, compare
from cnn_compare.comparison.local import LocalExecutor
from cnn_compare.data.augment import to_input
from cnn_compare.data.decode import Decoding
from cnn_compare.errors import MissingExtraError, NoTrainedNetworkError, RunError, UsageError
from cnn_compare.inference import export as exporting
from cnn_compare.inference.export import SUFFIXES, export
from cnn_compare.results import Metric, RunFolder

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def make_lively(classifier: Classifier) -> None:
    """Make a network's answers differ from image to image, as a trained one's do, and a fresh one's hardly."""
    module, pixels = classifier.module, torch.from_numpy(pixels_of(classifier.decoding.side, 16))
    images = to_input(pixels.permute(0, 3, 1, 2), classifier.mean_std, classifier.image_size)
    with torch.no_grad():
        for _ in range(20):
            module.train()(images)
        head = [part for part in module.backbone.modules() if isinstance(part, nn.Linear)][-1]
        head.bias.zero_()
        logits = module.eval()(images)
        scale = 2 / logits.std(0).mean()
        head.weight.mul_(scale)
        head.bias.copy_(-scale * logits.mean(0))


def a_classifier(backbone="lenet", image_size=32, side=32, classes=10, mean_std=HALF, **options) -> Classifier:
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(classes)]
    module = ClassifierModule(backbone, classes, **options)
    classifier = Classifier(module, names, Decoding(side), image_size, mean_std)
    make_lively(classifier)
    return classifier


def pixels_of(side: int, count: int = 7) -> np.ndarray:
    patches = np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(patch).resize((side, side))) for patch in patches])


def onnx_answers(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels})[0]


class Residual(nn.Module):
    """Batch norm, a shortcut, and pooling to one place, as most networks have them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, images):
        features = self.first(images).relu()
        return self.head((features + self.norm(self.second(features))).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("backbone", "image_size", "side", "flip_tta"),
    [(Residual, 32, 32, True), ("lenet", 32, 48, False), ("lenet_relu", 36, 32, False)],
)
def test_onnxruntime_gives_torchs_probabilities_for_any_number_of_images(
    tmp_path, backbone, image_size, side, flip_tta
):
    mean_std = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    backbone = backbone if isinstance(backbone, str) else backbone()
    classifier = a_classifier(backbone, image_size, side, mean_std=mean_std, flip_tta=flip_tta)
    path = export(classifier, output=tmp_path / "net.onnx").path
    pixels = pixels_of(side, 9)
    # Written out again: torch's own resize, and the formula of the normalisation.
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(mean_std[0]).view(3, 1, 1)) / torch.tensor(mean_std[1]).view(3, 1, 1)
    if side != image_size:
        images = nn.functional.interpolate(images, (image_size,) * 2, mode="bilinear", antialias=side > image_size)
    with torch.no_grad():
        views = [images, images.flip(3)] if flip_tta else [images]
        expected = torch.stack([classifier.module.backbone(view).softmax(1) for view in views]).mean(0).numpy()
    assert expected.std(0).max() > 0.01  # An export that looked at nothing would be found out.
    for count in (1, 3, 9):
        assert onnx_answers(path, pixels[:count]) == pytest.approx(expected[:count], rel=1e-3, abs=1e-6)


def test_formats_share_a_folder_and_an_export_gives_the_same_bytes_again_with_none_of_this_machines_paths(tmp_path):
    classifier = a_classifier()
    for format, suffix in SUFFIXES.items():
        first, second = (export(classifier, format, tmp_path / name / f"net{suffix}").path for name in "ab")
        content = first.read_bytes()
        assert content == second.read_bytes()
        for place in (Path(exporting.__file__).parents[2], Path(torch.__file__).parents[1], tmp_path):
            assert str(place).encode() not in content
    names = {"net.onnx", "net.pt2", "net.safetensors", "model_card.md", "predict_onnx.py"}
    assert {file.name for file in (tmp_path / "a").iterdir()} == names


def test_the_command_exports_a_valid_file_that_says_what_it_takes_to_use_it_and_prints_no_noise(
    trained_once, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    status, output, errors = run_command(["export", str(trained_once)], capfd)
    assert status == 0, errors
    (path,) = tmp_path.glob("exported/*/*.onnx")
    assert output.splitlines()[0].startswith(f"exported: {path.relative_to(tmp_path)}")
    assert "on 7 test images" in output
    assert len(output.splitlines()) == 3
    assert len(errors.splitlines()) == 2  # What starts, and which network it is.
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    stored = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert stored["class_names"] == list("0123456789")
    assert (stored["size"], stored["fit"], stored["background"]) == (32, "crop", [255, 255, 255])
    content = Classifier.load(trained_once).checkpoint.read_bytes()
    assert stored["checkpoint_sha256"] == hashlib.sha256(content).hexdigest()
    assert stored["trained_with"]["torch"] == torch.__version__.partition("+")[0]


def test_an_exported_program_of_torch_gives_the_same_answers_and_holds_the_metadata(tmp_path):
    classifier = a_classifier(Residual(), side=40)
    path = export(classifier, "torch_export", tmp_path / "net.pt2").path
    extra = {"metadata.json": ""}
    network = torch.export.load(path, extra_files=extra).module()
    pixels = pixels_of(40, 5)
    assert network(torch.from_numpy(pixels)).numpy() == pytest.approx(classifier.probabilities(pixels), rel=1e-4)
    assert json.loads(extra["metadata.json"])["size"] == 40


def test_exported_weights_load_as_the_weights_of_a_new_network(tmp_path):
    pytest.importorskip("safetensors")
    classifier = a_classifier("resnet20")
    path = export(classifier, "safetensors", tmp_path / "net.safetensors").path
    again = build_backbone("resnet20", weights=path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in classifier.module.backbone.state_dict().items())
    with safe_open(path, "np") as file:
        assert json.loads(file.metadata()["cnn_compare"])["backbone"] == "resnet20"


def test_a_file_that_answers_otherwise_than_torch_is_an_error_and_is_not_written(tmp_path, monkeypatch):
    write, load = exporting.FORMATS["onnx"]
    classifier, written = a_classifier(), []

    def write_once(*arguments):
        written[:] = written or [write(*arguments)]
        return written[0]

    for wrong in (
        lambda answers: answers[:, ::-1],
        lambda answers: answers[:2],  # A fixed number of images.
        lambda answers: answers * np.float32(1.02),
        lambda answers: answers * np.float32("nan"),
        lambda answers: answers.astype(np.float64),
    ):

        def load_wrong(content, classifier, wrong=wrong):
            right = load(content, classifier)
            return lambda pixels: wrong(right(pixels))

        monkeypatch.setitem(exporting.FORMATS, "onnx", (write_once, load_wrong))
        with pytest.raises(RunError, match="probabilities differ"):
            export(classifier, output=tmp_path / "new" / "net.onnx")
        assert not [*tmp_path.iterdir()]


def test_a_network_that_gives_no_numbers_is_not_exported(tmp_path):
    classifier = a_classifier()
    with torch.no_grad():
        next(classifier.module.parameters()).fill_(torch.nan)
    with pytest.raises(NoTrainedNetworkError, match="not finite numbers"):
        export(classifier, "safetensors", tmp_path / "net.safetensors")
    assert not [*tmp_path.iterdir()]


class Undecided(nn.Module):
    """Its path depends on what the image shows, which no exporter can trace."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, images):
        means = images.mean((2, 3))
        return self.head(means if means.sum() > 0 else -means)


def test_a_network_that_cannot_be_traced_is_an_error_of_one_line_and_its_weights_can_be_stored(tmp_path):
    classifier = a_classifier(Undecided())
    with pytest.raises(RunError, match=r"nothing is written.*format=safetensors stores the weights") as raised:
        export(classifier, output=tmp_path / "net.onnx")
    assert "\n" not in str(raised.value)
    assert not [*tmp_path.iterdir()]
    assert export(classifier, "safetensors", tmp_path / "net.safetensors").path.is_file()


def test_what_is_there_already_is_kept(tmp_path):
    classifier, path = a_classifier(), tmp_path / "net.safetensors"
    path.write_text("mine")
    with pytest.raises(UsageError):
        export(classifier, "safetensors", path)
    assert path.read_text() == "mine"
    path.unlink()
    (tmp_path / "model_card.md").write_text("my own words")
    with pytest.raises(UsageError, match=r"model_card\.md"):
        export(classifier, "safetensors", path)
    assert [file.name for file in tmp_path.iterdir()] == ["model_card.md"]
    assert (tmp_path / "model_card.md").read_text() == "my own words"


def test_without_onnx_the_error_names_the_extra(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'cnn-compare\[onnx\]'"):
        export(a_classifier(), output=tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format=tflite"], "format must be"),
        (["--output=net.pt2"], "ends in .onnx"),
        (["--formt=onnx"], "did you mean --format"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message, trained_once, capsys):
    status, _, errors = run_command(["export", str(trained_once), *options], capsys)
    assert (status, message in errors.splitlines()[-1]) == (2, True), errors


def test_without_its_data_a_network_is_checked_on_random_colours_and_the_command_says_so(
    tiny_cifar10, make_trainer, tmp_path
):
    data = CIFAR10DataModule(data_dir=str(tiny_cifar10), val_size=20)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(ClassifierModule("lenet"), data)
    trainer.save_checkpoint(tmp_path / "net.ckpt")
    classifier = Classifier.load(tmp_path / "net.ckpt")
    exported = export(classifier, "torch_export", tmp_path / "net.pt2")
    assert exported.checked_on == "7 images of random colours, because its test images are not at hand"


def test_the_model_card_has_the_results_of_these_weights_with_their_intervals(trained_once, tmp_path):
    classifier = Classifier.load(trained_once)
    export(classifier, "safetensors", tmp_path / "net.safetensors")
    card = (tmp_path / "model_card.md").read_text()
    result = json.loads((classifier.checkpoint.parents[1] / "result.json").read_text())
    assert f"right on {result['metrics']['test_acc_pct']['value']:.2f} % of 360 test images (95 %:" in card
    assert "Trained with 2 seeds" in card
    assert "Adam(lr=0.001" in card
    assert "one of 2 networks that were compared" in card
    assert str(Path.home()) not in card


def test_a_model_card_claims_no_results_for_weights_that_were_not_tested(trained_once, tmp_path):
    checkpoint = Classifier.load(trained_once).checkpoint
    export(Classifier.load(checkpoint.with_name("last.ckpt")), "safetensors", tmp_path / "net.safetensors")
    assert "No test of these weights is stored" in (tmp_path / "model_card.md").read_text()


@pytest.mark.parametrize(
    ("options", "run", "means"),
    [
        ({"folds": 2}, "seed_0/fold_1", ["Over the 2 runs of cross-validation, the network is right on "]),
        ({"train_subsets": [60, 120], "seeds": [0, 1]}, "train_60/seed_1", []),
        ({"train_subsets": [60, 120], "seeds": [0, 1]}, "train_120/seed_1", ["Trained with 2 seeds, the network is "]),
    ],
    ids=["fold", "smaller subset", "largest subset"],
)
def test_a_model_card_of_a_fold_or_a_subset_says_what_was_compared(
    trained_once, tmp_path, monkeypatch, options, run, means
):
    def store_result(self, spec, on_progress):
        metrics = {"test_acc_pct": Metric(50.0 + spec.key.seed + (spec.key.fold or 0), "%", True)}
        spec.folder.save_result(spec.result("finished", metrics=metrics, test_images=360))

    monkeypatch.setattr(LocalExecutor, "run", store_result)
    data = {"class_path": "DigitsDataModule", "init_args": {"val_size": 50, "batch_size": 40}}
    folder = compare("c", ["lenet", "lenet_relu"], data=data, log_dir=str(tmp_path), times="never", **options)
    run = RunFolder(folder / "lenet" / run)
    run.checkpoints.mkdir()
    shutil.copy(Classifier.load(trained_once).checkpoint, run.checkpoints)
    export(Classifier.load(run.path), "safetensors", tmp_path / "net.safetensors")
    card = (tmp_path / "model_card.md").read_text()
    assert "one of 2 networks that were compared" in card
    assert [line for line in means if line not in card] == []
    assert ("the network is right on" in card) == bool(means)


def write_pictures(folder: Path) -> list[Path]:
    """Pictures whose decoding differs between programs."""
    rng = np.random.default_rng(2)
    noise = np.kron(rng.integers(0, 256, (9, 13, 4)), np.ones((7, 7, 1))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb = Image.fromarray(noise[..., :3])
    rgb.save(folder / "rotated.jpg", exif=exif)
    Image.fromarray(noise).save(folder / "transparent.png")
    rgb.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png", transparency=3)
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("1").save(folder / "bits.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray((noise[..., 0].astype(np.uint16) << 8) + 77).save(folder / "16 bits.png")
    rgb.resize((20, 131)).save(folder / "ünï code.webp", lossless=True)
    rgb.save(folder / "several.gif", save_all=True, append_images=[rgb.rotate(180)])
    return sorted(folder.iterdir())


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_the_program_beside_an_onnx_file_decodes_as_training_did(tmp_path, fit):
    spec = importlib.util.spec_from_file_location("predict_onnx", Path(exporting.__file__).with_name("predict_onnx.py"))
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    background = (200, 30, 90)
    classifier = a_classifier()
    classifier.decoding = Decoding(33, fit, background)
    for path in write_pictures(tmp_path):
        assert np.array_equal(program.pixels(str(path), 33, fit, background), classifier.pixels(path)[0]), path.name


def test_the_program_beside_an_onnx_file_needs_nothing_of_this_package_and_goes_on_after_a_bad_picture(tmp_path):
    classifier = a_classifier(side=40)
    classifier.decoding = Decoding(40, "pad", (1, 2, 3))
    path = export(classifier, output=tmp_path / "out" / "net.onnx").path
    (tmp_path / "pictures").mkdir()
    pictures = write_pictures(tmp_path / "pictures")
    bad = tmp_path / "text.png"
    bad.write_text("no picture")
    block = "import sys, runpy\nfor name in ('torch', 'cnn_compare', 'onnx'): sys.modules[name] = None\n"
    command = [sys.executable, "-c", block + "runpy.run_path(sys.argv[1], run_name='__main__')"]
    # As the program is run: its name is the first argument.
    command[-1] = block + "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [*command, path.with_name("predict_onnx.py"), path, bad, *pictures], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{bad}: cannot identify image file")
    rows = [line.rsplit(",", 2) for line in done.stdout.splitlines()[1:]]
    expected = classifier(pictures, top_k=1)
    assert [row[:2] for row in rows] == [[*row] for row in zip(map(str, pictures), expected["label"], strict=True)]
    assert [float(row[2]) for row in rows] == pytest.approx(expected["probability"].tolist(), rel=1e-3)
