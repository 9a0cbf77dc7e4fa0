"""torchvision's data sets by name, from tiny files in their formats that a server on this machine has."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import shutil
import struct
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from helpers import run_command
from scipy.io import savemat
from torchvision import datasets

from cnn_compare import TorchvisionDataModule
from cnn_compare.errors import DataUnavailableError, InvalidValueError

COUNTS = {"train": 40, "test": 20}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def mnist(patch):
    """Grey, in the format idx, compressed."""
    files = {}
    for word, count in (("train", 40), ("t10k", 20)):
        images = struct.pack(">4i", 2051, count, 28, 28) + pixels(count, 28, 28).tobytes()
        labels = struct.pack(">2i", 2049, count) + bytes(n % 10 for n in range(count))
        files[f"{word}-images-idx3-ubyte.gz"] = gzip.compress(images)
        files[f"{word}-labels-idx1-ubyte.gz"] = gzip.compress(labels)
    patch(datasets.FashionMNIST, "resources", [(name, md5(content)) for name, content in files.items()])
    patch(datasets.FashionMNIST, "mirrors", [""])
    return files


def cifar100(patch):
    """Pickles in an archive."""
    files = {
        name: pickle.dumps({"data": pixels(count, 3072), "fine_labels": [n % 5 for n in range(count)]})
        for name, count in COUNTS.items()
    }
    files["meta"] = pickle.dumps({"fine_label_names": [f"class {n}" for n in range(5)]})
    whole = archive({f"cifar-100-python/{name}": content for name, content in files.items()})
    patch(datasets.CIFAR100, "train_list", [["train", md5(files["train"])]])
    patch(datasets.CIFAR100, "test_list", [["test", md5(files["test"])]])
    patch(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": md5(files["meta"])})
    patch(datasets.CIFAR100, "tgz_md5", md5(whole))
    return {"cifar-100-python.tar.gz": whole}


def stl10(patch):
    """Bytes of columns, not of lines."""
    files = {"class_names.txt": b"a\nb\nc\nd\ne\n", "fold_indices.txt": b"", "unlabeled_X.bin": b""}
    for name, count in COUNTS.items():
        files[f"{name}_X.bin"] = pixels(count, 3, 96, 96).tobytes()
        files[f"{name}_y.bin"] = bytes(1 + n % 5 for n in range(count))
    whole = archive({f"stl10_binary/{name}": content for name, content in files.items()})
    for kind in ("train_list", "test_list"):
        patch(datasets.STL10, kind, [[name, md5(files[name])] for name, _ in getattr(datasets.STL10, kind)])
    patch(datasets.STL10, "tgz_md5", md5(whole))
    return {"stl10_binary.tar.gz": whole}


def svhn(patch):
    """MATLAB's format; the digit 0 has the label 10."""
    files = {}
    for name, count in COUNTS.items():
        buffer = io.BytesIO()
        labels = np.array([n % 10 or 10 for n in range(count)], np.uint8)[:, None]
        savemat(buffer, {"X": pixels(32, 32, 3, count), "y": labels})
        files[f"{name}_32x32.mat"] = buffer.getvalue()
    split_list = {name: ["", f"{name}_32x32.mat", md5(files[f"{name}_32x32.mat"])] for name in COUNTS}
    patch(datasets.SVHN, "split_list", split_list)
    return files


DATA_SETS = {"FashionMNIST": mnist, "CIFAR100": cifar100, "STL10": stl10, "SVHN": svhn}


class Server:
    """Serves the files of a folder and counts the requests."""

    def __init__(self, folder):
        self.requests, server = 0, self

        class Handler(SimpleHTTPRequestHandler):
            def send_head(self):
                server.requests += 1
                return super().send_head()

            def log_message(self, *args):
                pass

        folder.mkdir()
        self.folder = folder
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The hosts of all data sets."""
    server = Server(tmp_path / "host")
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "*")
    for make in DATA_SETS.values():
        for name, content in make(monkeypatch.setattr).items():
            (server.folder / name).write_bytes(content)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [server.url])
    for cls in (datasets.CIFAR100, datasets.STL10):
        monkeypatch.setattr(cls, "url", server.url + cls.filename)
    for entry in datasets.SVHN.split_list.values():
        entry[0] = server.url + entry[1]
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.mark.parametrize("name", DATA_SETS)
def test_images_and_labels_are_those_of_torchvision_and_are_stored_once(name, server, tmp_path):
    data = TorchvisionDataModule(name, str(tmp_path / "data"), batch_size=4)
    data.prepare_data()
    of_torchvision = getattr(datasets, name)
    for split, count in COUNTS.items():
        images, labels = data.load(split)
        which = {"train": split == "train"} if name in ("FashionMNIST", "CIFAR100") else {"split": split}
        expected = [*of_torchvision(tmp_path / "data", **which)]
        assert len(images) == len(expected) == count
        assert labels.tolist() == [label for _, label in expected]
        for image, (picture, _) in zip(images, expected, strict=True):
            np.testing.assert_array_equal(image, np.asarray(picture.convert("RGB")))
    assert len(data.class_names) == (10 if name in ("FashionMNIST", "SVHN") else 5)
    requests = server.requests
    shutil.rmtree(tmp_path / "data")
    again = TorchvisionDataModule(name, str(tmp_path / "data"), batch_size=4)
    again.setup("fit")
    assert again.fingerprint() == data.fingerprint()
    assert server.requests == requests > 0


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_download_that_fails_is_repeated_twice_and_the_error_says_what_to_do(name, server, tmp_path):
    for path in server.folder.iterdir():
        path.write_bytes(b"<html>Log in to this hotel's network</html>")
    with pytest.raises(DataUnavailableError) as caught:
        TorchvisionDataModule(name, str(tmp_path / "data")).prepare_data()
    assert f"no {name} in {tmp_path / 'data'}, and downloading it from {server.url}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.requests >= 3


def test_a_name_that_is_no_data_set_is_refused():
    with pytest.raises(InvalidValueError, match=r"data\.name must be one of CIFAR10, .*, and is 'ImageNet'"):
        TorchvisionDataModule("ImageNet")


def test_the_command_takes_the_name_and_learns_the_number_of_classes(server, tmp_path, capsys):
    options = ["--data=TorchvisionDataModule", "--data.name=CIFAR100", f"--data.data_dir={tmp_path / 'data'}"]
    trainer = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
    fit = ["fit", "--model.backbone=lenet", "--data.val_size=10", *options, *trainer]
    status, output, error = run_command([*fit, f"--trainer.default_root_dir={tmp_path}"], capsys)
    assert status == 0, error
    assert "best epoch: 1 of 1" in output
    error = run_command([*fit, "--data.name=Cifar"], capsys)[2]
    assert "--data.name must be CIFAR10, CIFAR100, FashionMNIST, " in error
