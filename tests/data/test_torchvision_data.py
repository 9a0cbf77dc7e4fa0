"""torchvision's data sets, of tiny files in their formats: what is there is verified, and what is not is downloaded.

A host on this machine has the files. What a host or a disk can do wrong is tried with CIFAR-10.
"""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import pickle
import shutil
import socket
import struct
import tarfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from helpers import Payload, run_command
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets import CIFAR10

from cnn_compare import CIFAR10DataModule, TorchvisionDataModule
from cnn_compare.data import torchvision_data
from cnn_compare.errors import DataUnavailableError, InvalidValueError

# urllib leaves the socket of an answer that is no file to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)

COUNTS = {"train": 40, "test": 20}
FILES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def archive(folder: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
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
    whole = archive("cifar-100-python", files)
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
    whole = archive("stl10_binary", files)
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


class Host:
    """The host of all data sets, by name of the file; ``answer`` is what it does with a request."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.requests, self.answer, self.hung_up = 0, Host.whole, threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                host.requests += 1
                self.close_connection = True
                host.answer(host, self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def file(self, handler):
        return self.files.get(handler.path[1:], b"")

    def send(self, handler, body, **headers):
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(body)

    def whole(self, handler):
        self.send(handler, self.file(handler), Content_Length=len(self.file(handler)))

    def cut_short(self, handler):
        self.send(handler, self.file(handler)[:5000], Content_Length=len(self.file(handler)))

    def cut_short_in_a_chunk(self, handler):
        self.send(handler, b"FFFF\r\n" + self.file(handler)[:5000], Transfer_Encoding="chunked")

    def another_file(self, handler):
        self.send(handler, b"<html>Log in to this hotel's network</html>", Content_Length=43)

    def silent(self, handler):
        self.send(handler, self.file(handler)[:5000], Content_Length=len(self.file(handler)))
        handler.wfile.flush()
        self.hung_up.wait()

    def too_long(self, handler):
        self.send(handler, self.file(handler), Content_Length=len(self.file(handler)) - 100)

    def redirected(self, handler):
        handler.send_response(302)
        handler.send_header("Location", f"/moved{handler.path}")
        handler.end_headers()

    def not_found(self, handler):
        handler.send_error(404)

    def down(self, handler):
        handler.send_error(503)


@pytest.fixture(scope="module")
def published(tiny_cifar10_files):
    """The files of all data sets by name, and what torchvision is to know of them."""
    known, files = [], {CIFAR10.filename: archive(CIFAR10.base_folder, tiny_cifar10_files)}
    for make in DATA_SETS.values():
        files |= make(lambda *fact: known.append(fact))
    gc.freeze()  # Collecting after each test looks at what came since then, and not at all of torch.
    yield files, [*known, (CIFAR10, "tgz_md5", md5(files[CIFAR10.filename]))]
    gc.unfreeze()


@pytest.fixture
def host(published_tiny_cifar10, published, monkeypatch):
    host = Host()
    thread = threading.Thread(target=host.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    files, known = published
    host.files = {**files}
    for fact in known:
        monkeypatch.setattr(*fact)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [host.url])
    for cls in (CIFAR10, datasets.CIFAR100, datasets.STL10):
        monkeypatch.setattr(cls, "url", host.url + cls.filename)
    for entry in datasets.SVHN.split_list.values():
        entry[0] = host.url + entry[1]
    monkeypatch.setattr(torchvision_data, "SILENCE_S", 0.2)
    yield host
    host.hung_up.set()
    host.server.shutdown()
    thread.join()
    host.server.server_close()
    gc.collect()


@pytest.fixture
def network_is_forbidden(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was touched: {args}")

    for owner, name in ((socket.socket, "connect"), (socket, "getaddrinfo"), (urllib.request, "urlopen")):
        monkeypatch.setattr(owner, name, refuse)


@pytest.fixture
def empty_dir(published_tiny_cifar10, tmp_path) -> Path:
    return tmp_path / "downloads"


# All data sets


@pytest.mark.parametrize("name", DATA_SETS)
def test_images_and_labels_are_those_of_torchvision_and_are_stored_once(name, host, tmp_path):
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
    requests = host.requests
    shutil.rmtree(tmp_path / "data")
    again = TorchvisionDataModule(name, str(tmp_path / "data"), batch_size=4)
    again.setup("fit")
    assert again.fingerprint() == data.fingerprint()
    assert host.requests == requests > 0


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_download_that_fails_is_repeated_twice_and_the_error_says_what_to_do(name, host, tmp_path):
    host.answer = Host.another_file
    with pytest.raises(DataUnavailableError) as caught:
        TorchvisionDataModule(name, str(tmp_path / "data")).prepare_data()
    assert f"no {name} in {tmp_path / 'data'}, and downloading it from {host.url}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert host.requests >= 3


def test_a_name_that_is_no_data_set_is_refused():
    with pytest.raises(InvalidValueError, match=r"data\.name must be one of CIFAR10, .*, and is 'ImageNet'"):
        TorchvisionDataModule("ImageNet")


def test_the_command_takes_the_name_and_learns_the_number_of_classes(host, tmp_path, capsys):
    options = ["--data=TorchvisionDataModule", "--data.name=CIFAR100", f"--data.data_dir={tmp_path / 'data'}"]
    trainer = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
    fit = ["fit", "--model.backbone=lenet", "--data.val_size=10", *options, *trainer]
    status, output, error = run_command([*fit, f"--trainer.default_root_dir={tmp_path}"], capsys)
    assert status == 0, error
    assert "best epoch: 1 of 1" in output
    error = run_command([*fit, "--data.name=Cifar"], capsys)[2]
    assert "--data.name must be CIFAR10, CIFAR100, FashionMNIST, " in error


def assert_holds_the_tiny_images(data, files):
    for split, names in (("train", FILES[:5]), ("test", FILES[5:6])):
        batches = [pickle.loads(files[name]) for name in names]
        images, labels = data.load(split)
        green = np.vstack([batch["data"][:, 1024:2048] for batch in batches])
        # A row of a batch file: 1,024 red values, row by row, then the green, then the blue ones.
        np.testing.assert_array_equal(images[..., 1].reshape(-1, 1024), green)
        assert images.shape == (40 * len(names), 32, 32, 3)
        assert labels.tolist() == [label for batch in batches for label in batch["labels"]]


# CIFAR-10: all there


def test_files_that_are_there_are_used_without_the_network(tiny_cifar10, tiny_cifar10_files, network_is_forbidden):
    data = CIFAR10DataModule(str(tiny_cifar10))
    data.prepare_data()
    assert_holds_the_tiny_images(data, tiny_cifar10_files)
    assert {path.name for path in tiny_cifar10.rglob("*")} == {CIFAR10.base_folder, *FILES}


def test_the_folder_comes_from_the_argument_else_the_environment_else_is_data(monkeypatch, tiny_cifar10):
    monkeypatch.setenv("CNN_COMPARE_DATA_DIR", str(tiny_cifar10))
    assert CIFAR10DataModule().load("test")[0].shape == (40, 32, 32, 3)
    assert CIFAR10DataModule("elsewhere").data_dir == Path("elsewhere")
    monkeypatch.setenv("CNN_COMPARE_DATA_DIR", "")
    assert CIFAR10DataModule().data_dir == Path("data")
    monkeypatch.delenv("CNN_COMPARE_DATA_DIR")
    assert CIFAR10DataModule().data_dir == Path("data")


def test_a_tilde_in_the_folder_means_home(monkeypatch, tiny_cifar10, network_is_forbidden):
    """No shell expands the one in ``--data.data_dir=~/data``, nor in a configuration file."""
    monkeypatch.setenv("HOME", str(tiny_cifar10.parent))
    CIFAR10DataModule(f"~/{tiny_cifar10.name}").prepare_data()


# CIFAR-10: damaged or missing


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: None,
    ],
    ids=["one bit", "truncated", "empty", "missing"],
)
def test_a_damaged_or_missing_file_offline_is_an_error_and_online_is_downloaded(
    tiny_cifar10, tiny_cifar10_files, host, monkeypatch, name, damage
):
    path = tiny_cifar10 / CIFAR10.base_folder / name
    content = damage(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with monkeypatch.context() as offline:
        offline.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
        with pytest.raises(DataUnavailableError):
            CIFAR10DataModule(str(tiny_cifar10)).prepare_data()
    assert_holds_the_tiny_images(CIFAR10DataModule(str(tiny_cifar10)), tiny_cifar10_files)
    assert path.read_bytes() == tiny_cifar10_files[name]
    assert host.requests > 0


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_malicious_file_is_never_opened(tiny_cifar10, tmp_path, name):
    path, harm = tiny_cifar10 / CIFAR10.base_folder / name, tmp_path / "harm"
    path.write_bytes(pickle.dumps(Payload(harm)))
    for use in (CIFAR10DataModule.prepare_data, lambda data: data.setup("fit"), lambda data: data.setup("test")):
        with pytest.raises(DataUnavailableError):
            use(CIFAR10DataModule(str(tiny_cifar10)))
    assert not harm.exists()
    pickle.loads(path.read_bytes())
    assert harm.exists(), "the payload works, so that its absence above means something"


# CIFAR-10: all missing


def test_missing_and_offline_the_error_says_what_to_do(empty_dir, monkeypatch):
    monkeypatch.chdir(empty_dir.parent)
    with pytest.raises(DataUnavailableError) as caught:
        CIFAR10DataModule(empty_dir.name).prepare_data()
    message = str(caught.value)
    for part in (
        f"no CIFAR10 in {empty_dir}, ",
        "downloading it from http://127.0.0.1:9/cifar-10-python.tar.gz failed (",
        "refused",
        "put the files that torchvision.datasets.CIFAR10 expects there by hand",
        "data.data_dir or CNN_COMPARE_DATA_DIR",
        "data=DigitsDataModule needs no network",
    ):
        assert part in message
    assert (caught.value.folder, caught.value.url) == (empty_dir, CIFAR10.url)
    assert caught.value.exit_status == 1


def test_a_download_is_verified_unpacked_and_done_once(empty_dir, tiny_cifar10_files, host):
    first = CIFAR10DataModule(str(empty_dir))
    first.prepare_data()
    assert_holds_the_tiny_images(first, tiny_cifar10_files)
    requests = host.requests
    assert requests > 0
    first.prepare_data()
    CIFAR10DataModule(str(empty_dir)).prepare_data()
    assert host.requests == requests


@pytest.mark.parametrize(
    "answer",
    [
        Host.cut_short,
        Host.cut_short_in_a_chunk,
        Host.another_file,
        Host.too_long,
        Host.silent,
        Host.redirected,
        Host.not_found,
        Host.down,
    ],
    ids=lambda answer: answer.__name__,
)
def test_a_failed_download_is_an_error_and_a_second_try_succeeds(empty_dir, tiny_cifar10_files, host, answer):
    host.answer = answer
    data = CIFAR10DataModule(str(empty_dir))
    with pytest.raises(DataUnavailableError) as caught:
        data.prepare_data()
    assert host.url in str(caught.value)
    assert host.requests >= 3
    assert not (empty_dir / CIFAR10.base_folder).exists()
    host.answer = Host.whole
    assert_holds_the_tiny_images(data, tiny_cifar10_files)


def test_a_download_that_is_cut_off_once_is_begun_again(empty_dir, tiny_cifar10_files, host):
    def first_cut_then_whole(host, handler):
        # torchvision asks once before, to follow redirections.
        (Host.cut_short if host.requests <= 2 else Host.whole)(host, handler)

    host.answer = first_cut_then_whole
    assert_holds_the_tiny_images(CIFAR10DataModule(str(empty_dir)), tiny_cifar10_files)
    assert host.requests > 2
    assert {path.name for path in empty_dir.iterdir()} == {CIFAR10.filename, CIFAR10.base_folder}


def test_a_redirected_download_arrives(empty_dir, tiny_cifar10_files, host):
    def moved(host, handler):
        if not handler.path.startswith("/moved/"):
            return host.redirected(handler)
        handler.path = handler.path.removeprefix("/moved")
        return host.whole(handler)

    host.answer = moved
    assert_holds_the_tiny_images(CIFAR10DataModule(str(empty_dir)), tiny_cifar10_files)


def test_an_archive_with_another_checksum_is_not_unpacked(empty_dir, tiny_cifar10_files, host, tmp_path):
    harm = tmp_path / "harm"
    files = {**tiny_cifar10_files, "data_batch_2": pickle.dumps(Payload(harm))}
    host.files[CIFAR10.filename] = archive(CIFAR10.base_folder, files)
    with pytest.raises(DataUnavailableError):
        CIFAR10DataModule(str(empty_dir)).load("train")
    assert not (empty_dir / CIFAR10.base_folder).exists()
    assert not harm.exists()


def test_an_archive_put_there_by_hand_is_unpacked_without_the_network(
    empty_dir, tiny_cifar10_files, host, network_is_forbidden
):
    empty_dir.mkdir()
    (empty_dir / CIFAR10.filename).write_bytes(host.files[CIFAR10.filename])
    assert_holds_the_tiny_images(CIFAR10DataModule(str(empty_dir)), tiny_cifar10_files)


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(empty_dir, host):
    empty_dir.write_text("a file where the folder should be")
    with pytest.raises(DataUnavailableError, match=f"no CIFAR10 in {empty_dir}"):
        CIFAR10DataModule(str(empty_dir)).prepare_data()
