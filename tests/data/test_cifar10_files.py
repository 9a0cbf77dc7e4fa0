"""CIFAR-10's files: what is there is verified and used, what is missing or damaged downloaded and never opened."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import pickle
import socket
import tarfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from cnn_compare import CIFAR10DataModule
from cnn_compare.data import torchvision_data
from cnn_compare.errors import DataUnavailableError

# urllib leaves the socket of an answer that is no file to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)

FILES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]


class Payload:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def network_is_forbidden(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was touched: {args}")

    for owner, name in ((socket.socket, "connect"), (socket, "getaddrinfo"), (urllib.request, "urlopen")):
        monkeypatch.setattr(owner, name, refuse)


@pytest.fixture
def empty_dir(published_tiny_cifar10, tmp_path) -> Path:
    return tmp_path / "downloads"


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tiny_archive(tiny_cifar10_files):
    return archive_of(tiny_cifar10_files)


class Host:
    """The host of CIFAR-10, on this machine; ``answer`` is what it does with a request."""

    def __init__(self, archive):
        self.archive, self.requests, self.answer, self.hung_up = archive, 0, Host.whole, threading.Event()
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
        self.url = f"http://127.0.0.1:{self.server.server_port}/cifar-10-python.tar.gz"

    def send(self, handler, body, **headers):
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(body)

    def whole(self, handler):
        self.send(handler, self.archive, Content_Length=len(self.archive))

    def cut_short(self, handler):
        self.send(handler, self.archive[:5000], Content_Length=len(self.archive))

    def cut_short_in_a_chunk(self, handler):
        self.send(handler, b"FFFF\r\n" + self.archive[:5000], Transfer_Encoding="chunked")

    def another_file(self, handler):
        self.send(handler, b"<html>Log in to this hotel's network</html>", Content_Length=43)

    def silent(self, handler):
        self.send(handler, self.archive[:5000], Content_Length=len(self.archive))
        handler.wfile.flush()
        self.hung_up.wait()

    def too_long(self, handler):
        self.send(handler, self.archive, Content_Length=len(self.archive) - 100)

    def redirected(self, handler):
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()

    def not_found(self, handler):
        handler.send_error(404)

    def down(self, handler):
        handler.send_error(503)


@pytest.fixture
def host(published_tiny_cifar10, tiny_archive, monkeypatch):
    host = Host(tiny_archive)
    thread = threading.Thread(target=host.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(CIFAR10, "url", host.url)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(tiny_archive).hexdigest())
    monkeypatch.setattr(torchvision_data, "SILENCE_S", 0.2)
    yield host
    host.hung_up.set()
    host.server.shutdown()
    thread.join()
    host.server.server_close()
    gc.collect()


def assert_holds_the_tiny_images(data, files):
    for split, names in (("train", FILES[:5]), ("test", FILES[5:6])):
        batches = [pickle.loads(files[name]) for name in names]
        images, labels = data.load(split)
        green = np.vstack([batch["data"][:, 1024:2048] for batch in batches])
        # A row of a batch file: 1,024 red values, row by row, then the green, then the blue ones.
        np.testing.assert_array_equal(images[..., 1].reshape(-1, 1024), green)
        assert images.shape == (40 * len(names), 32, 32, 3)
        assert labels.tolist() == [label for batch in batches for label in batch["labels"]]


# All there


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


# Damaged or missing


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


# All missing


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
        if handler.path == "/elsewhere":
            return host.whole(handler)
        return host.redirected(handler)

    host.answer = moved
    assert_holds_the_tiny_images(CIFAR10DataModule(str(empty_dir)), tiny_cifar10_files)


def test_an_archive_with_another_checksum_is_not_unpacked(empty_dir, tiny_cifar10_files, host, tmp_path):
    harm = tmp_path / "harm"
    host.archive = archive_of({**tiny_cifar10_files, "data_batch_2": pickle.dumps(Payload(harm))})
    with pytest.raises(DataUnavailableError):
        CIFAR10DataModule(str(empty_dir)).load("train")
    assert not (empty_dir / CIFAR10.base_folder).exists()
    assert not harm.exists()


def test_an_archive_put_there_by_hand_is_unpacked_without_the_network(
    empty_dir, tiny_archive, tiny_cifar10_files, host, network_is_forbidden
):
    empty_dir.mkdir()
    (empty_dir / CIFAR10.filename).write_bytes(tiny_archive)
    assert_holds_the_tiny_images(CIFAR10DataModule(str(empty_dir)), tiny_cifar10_files)


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(empty_dir, host):
    empty_dir.write_text("a file where the folder should be")
    with pytest.raises(DataUnavailableError, match=f"no CIFAR10 in {empty_dir}"):
        CIFAR10DataModule(str(empty_dir)).prepare_data()
