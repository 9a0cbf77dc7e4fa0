"""Pictures are decoded once for all runs: what has changed is noticed, and half of an array is never used."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cnn_compare.data import cache
from cnn_compare.data.cache import cache_dir, clear_cache, decoded, mapped_arrays
from cnn_compare.data.decode import Decoding, Job, decode
from cnn_compare.errors import DataError, InvalidValueError, StorageError

SMALL = Decoding(6)
# Threads of the test's process are no concern of a fork that only writes a file.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def photos(tmp_path):
    """A folder with forty pictures of one colour each, in two subfolders."""
    folder = tmp_path / "photos of 고양이 🐈"
    for number in range(40):
        path = folder / f"class {number % 2}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10 + number, 12), (number, 100, 200)).save(path)
    return folder


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def decodings(monkeypatch):
    """A list that grows with every picture that this process decodes."""
    paths = []
    real = Job.decode
    monkeypatch.setattr(Job, "decode", lambda job, first, chunk: (paths.extend(chunk), real(job, first, chunk))[1])
    return paths


@pytest.fixture
def in_processes(monkeypatch):
    """After the first few pictures, even the shortest work is shared."""
    monkeypatch.setattr(cache, "SHORT_S", -1.0)
    monkeypatch.setattr(cache, "TRIAL_S", -1.0)


def test_rows_are_the_pictures_in_the_order_of_the_paths(photos, capfd):
    paths = files(photos)[::-1]
    result = decoded(photos, paths, SMALL)
    np.testing.assert_array_equal(result.images, [decode(photos / path, SMALL)[0] for path in paths])
    assert result.sizes.tolist() == [[10 + int(path[-6:-4]), 12] for path in paths]
    assert (result.bad, result.notes) == ({}, {})
    assert not result.images.flags.writeable
    assert capfd.readouterr() == ("", "")


def test_the_second_call_decodes_nothing(photos, decodings):
    first = decoded(photos, files(photos), SMALL)
    assert len(decodings) == 40
    second = decoded(photos, files(photos), SMALL)
    assert len(decodings) == 40
    np.testing.assert_array_equal(first.images, second.images)
    assert first.fingerprint == second.fingerprint


def change(path):
    Image.new("RGB", (10, 12), (9, 9, 9)).save(path)


def touch(path):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    "edit",
    [change, touch, lambda path: path.chmod(0o600), lambda path: path.unlink(), lambda path: change(f"{path}.new.png")],
    ids=["changed", "touched", "permissions", "removed", "added"],
)
def test_an_edited_folder_is_decoded_again(photos, decodings, edit):
    decoded(photos, files(photos), SMALL)
    edit(photos / "class 0" / "00.png")
    decodings.clear()
    result = decoded(photos, files(photos), SMALL)
    assert decodings == files(photos)
    assert len(result.images) == len(decodings)


@pytest.mark.parametrize("other", [Decoding(7), Decoding(6, "pad"), Decoding(6, background=(0, 0, 0))])
def test_another_decoding_is_another_array(photos, decodings, other):
    decoded(photos, files(photos), SMALL)
    assert decoded(photos, files(photos), other).images.shape[1] == other.side
    assert len(decodings) == 80


def test_another_decoder_decodes_again(photos, decodings, monkeypatch):
    first = decoded(photos, files(photos), SMALL)
    monkeypatch.setattr(cache, "decoder", lambda: "Pillow 99")
    assert decoded(photos, files(photos), SMALL).fingerprint != first.fingerprint
    assert len(decodings) == 80


def test_the_fingerprint_is_of_the_content_not_of_the_place(photos, tmp_path):
    first = decoded(photos, files(photos), SMALL).fingerprint
    copy = shutil.copytree(photos, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert decoded(copy, files(copy), SMALL).fingerprint == first
    assert decoded(copy, files(copy)[::-1], SMALL).fingerprint != first
    change(copy / "class 0" / "00.png")
    assert decoded(copy, files(copy), SMALL).fingerprint != first


def test_every_file_is_used_or_listed_and_none_is_touched(photos, capfd):
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("no picture")
    os.mkfifo(photos / "fifo.jpg")
    (photos / "loop.jpg").symlink_to("loop.jpg")
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    before = {path: path.lstat() for path in photos.rglob("*")}
    paths = [*files(photos), "missing.png", "nu\0ll.png", "\udcff.png"]
    result = decoded(photos, paths, SMALL)
    bad = {paths[row] for row in result.bad}
    assert bad == {"empty.jpg", "text.jpg", "fifo.jpg", "loop.jpg", "missing.png", "nu\0ll.png", "\udcff.png"}
    assert all(result.bad.values())
    assert {paths[row] for row in result.notes} == {"moving.gif"}
    assert not result.images[list(result.bad)].any()
    assert not result.sizes[list(result.bad)].any()
    assert capfd.readouterr() == ("", "")

    def lasting(status):
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    assert {path: lasting(path.lstat()) for path in photos.rglob("*")} == {
        path: lasting(status) for path, status in before.items()
    }


def test_no_paths_are_an_empty_array(tmp_path):
    assert decoded(tmp_path, [], SMALL).images.shape == (0, 6, 6, 3)


def test_processes_give_what_one_process_gives(photos, tmp_path, decodings, in_processes, monkeypatch, capfd):
    (photos / "text.jpg").write_text("no picture")
    monkeypatch.setattr("cnn_compare.progress.LINE_S", 0.0)
    shared = decoded(photos, files(photos), SMALL)
    assert len(decodings) < len(files(photos))
    monkeypatch.undo()
    monkeypatch.setenv("CNN_COMPARE_CACHE_DIR", str(tmp_path / "other"))
    alone = decoded(photos, files(photos), SMALL)
    np.testing.assert_array_equal(shared.images, alone.images)
    assert (shared.fingerprint, shared.bad) == (alone.fingerprint, alone.bad)
    assert "decoded 41 of 41 pictures" in capfd.readouterr().err


def test_a_decoding_process_that_dies_is_an_error(photos, in_processes, monkeypatch):
    real = cache._start_process

    def start_and_kill(job):
        process = real(job)
        process.kill()
        return process

    monkeypatch.setattr(cache, "_start_process", start_and_kill)
    with pytest.raises(DataError, match="signal 9"):
        decoded(photos, files(photos), SMALL)
    assert [path.name for path in cache_dir().rglob("*") if path.is_file()] == [".lock"]


def test_a_full_disk_is_an_error_before_anything_is_decoded(photos, decodings, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(StorageError, match=r"10 MiB are free; it needs 11 MiB.*CNN_COMPARE_CACHE_DIR"):
        decoded(photos, files(photos), Decoding(300))
    assert decodings == []


def test_a_disk_that_fills_up_meanwhile_is_an_error_and_leaves_nothing(photos, monkeypatch):
    def fill(job, first, paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Job, "decode", fill)
    with pytest.raises(StorageError, match=r"No space left.*it needs 1 MiB.*CNN_COMPARE_CACHE_DIR"):
        decoded(photos, files(photos), SMALL)
    assert [path.name for path in cache_dir().rglob("*") if path.is_file()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_an_error(photos, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNN_COMPARE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match=r"file/cache: Not a directory.*CNN_COMPARE_CACHE_DIR"):
        decoded(photos, files(photos), SMALL)


def test_what_make_cannot_read_is_not_blamed_on_the_cache(tmp_path):
    with pytest.raises(FileNotFoundError):
        mapped_arrays("data/key", lambda folder: (tmp_path / "missing").read_bytes())


def test_an_array_that_was_cut_off_is_made_anew(photos, decodings):
    decoded(photos, files(photos), SMALL)
    (array,) = cache_dir().rglob("images.npy")
    os.truncate(array, 500)
    assert decoded(photos, files(photos), SMALL).images[-1].any()
    assert len(decodings) == 80


def in_fork(target) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    return process


@forks
def test_a_killed_process_leaves_nothing_that_counts_and_nothing_that_stays():
    def die(folder):
        (folder / "half").write_bytes(bytes(9))
        os.kill(os.getpid(), signal.SIGKILL)

    killed = in_fork(lambda: mapped_arrays("data/key", die))
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert [path.name for path in cache_dir().rglob("half")] == ["half"]
    # Whatever is asked of the same source next.
    folder = mapped_arrays("data/other", lambda folder: (folder / "whole").write_bytes(bytes(9)))
    assert not [*cache_dir().rglob("half")]
    assert folder == cache_dir() / "data" / "other"
    assert (folder / "whole").is_file()


@forks
def test_of_two_processes_one_decodes_and_the_other_waits(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(cache, "SHORT_S", 0.01)
    context = multiprocessing.get_context("fork")
    begun, go_on = context.Event(), context.Event()

    def make(folder):
        begun.set()
        go_on.wait()
        (folder / "maker").write_text(str(os.getpid()))

    first = in_fork(lambda: mapped_arrays("data/key", make))
    begun.wait()
    second = in_fork(lambda: mapped_arrays("data/key", make))
    waits = ""
    while "waiting" not in waits:
        waits += capfd.readouterr().err
        assert second.is_alive()
    go_on.set()
    for process in (first, second):
        process.join()
        assert process.exitcode == 0
    assert (cache_dir() / "data" / "key" / "maker").read_text() == str(first.pid)


def test_clear_cache_frees_all_of_one_folder(photos, tmp_path):
    copy = shutil.copytree(photos, tmp_path / "elsewhere")
    for folder in (photos, copy):
        decoded(folder, files(folder), SMALL)
        mapped = decoded(folder, files(folder), Decoding(20))

    def stored() -> int:
        return sum(path.stat().st_size for path in cache_dir().rglob("*") if path.is_file())

    before = stored()
    assert clear_cache(copy) == before - stored() > mapped.images.nbytes
    assert mapped.images.any()
    assert len([*cache_dir().rglob("images.npy")]) == 2
    assert clear_cache(copy) == 0
    assert clear_cache(tmp_path / "never seen") == 0


def made(key: str, size: int) -> bool:
    """Whether something of so many bytes had to be made."""
    calls = []
    mapped_arrays(key, lambda folder: calls.append((folder / "x").write_bytes(bytes(size))), needed_bytes=size)
    return bool(calls)


def test_all_arrays_together_have_one_limit_and_the_least_recently_used_make_room(monkeypatch):
    monkeypatch.setenv("CNN_COMPARE_CACHE_GB", "10e-6")
    for minute, key in enumerate(("a/1", "a/2", "b/1", "c/1")):
        assert made(key, 2000)
        os.utime(cache_dir() / key, (60 * minute, 60 * minute))
    assert not made("a/1", 2000)  # Now the most recently used.
    with cache._locked(cache_dir() / "b"):
        assert made("d/1", 4000)
    left = {str(path.parent.relative_to(cache_dir())) for path in cache_dir().glob("*/*/x")}
    assert left == {"a/1", "b/1", "d/1"}
    assert made("e/1", 50_000)
    assert [path.parent.name for path in cache_dir().glob("*/*/x")] == ["1"]
    monkeypatch.setenv("CNN_COMPARE_CACHE_GB", "much")
    with pytest.raises(
        InvalidValueError, match="CNN_COMPARE_CACHE_GB must be a number of gigabytes above 0, and is 'much'"
    ):
        made("f/1", 1)


def test_arrays_make_room_on_a_full_disk_if_that_is_enough(monkeypatch):
    assert made("a/1", 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(StorageError):
        made("b/1", 9000)
    assert not made("a/1", 5000)
    with pytest.raises(StorageError):  # The made-up disk does not grow; what it had room for is gone.
        made("b/1", 4000)
    monkeypatch.undo()
    assert [*cache_dir().glob("*/*/x")] == []


def test_files_that_change_places_at_equal_size_and_time_are_noticed(tmp_path):
    def shades(root):
        return decoded(root, files(root), SMALL).images[:, 0, 0, 0].tolist()

    root = tmp_path / "photos"
    for shade, name in ((10, "a"), (200, "b")):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(root / name / "0.bmp")
        os.utime(root / name / "0.bmp", (1e9, 1e9))
    assert shades(root) == [10, 200]
    (root / "a").rename(root / "c")
    (root / "b").rename(root / "a")
    (root / "c").rename(root / "b")
    assert shades(root) == [200, 10]
    Image.new("RGB", (8, 8), (99, 0, 0)).save(root / "a" / "0.bmp")
    os.utime(root / "a" / "0.bmp", (1e9, 1e9))
    assert shades(root) == [99, 10]


PLUGIN = """
from PIL import Image, ImageFile

class Dots(ImageFile.ImageFile):
    format = "DOTS"

    def _open(self):
        self._mode, self._size, self.tile = "RGB", (4, 4), []
        self.fp.read(4)
        self._shade = self.fp.read(1)[0]

    def load(self):
        if getattr(self, "_im", None) is None:
            self.im = Image.core.fill("RGB", self.size, (self._shade, 0, 0))
        return super().load()

Image.register_open(Dots.format, Dots, lambda prefix: prefix.startswith(b"DOTS")) if LAMBDA else (
    Image.register_open(Dots.format, Dots))
Image.register_extension(Dots.format, ".dots")
"""


@pytest.mark.parametrize("importable", [True, False])
def test_a_plugin_of_the_user_s_reads_few_pictures_and_many_alike(
    tmp_path, monkeypatch, in_processes, importable, decodings
):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"dots_{importable}".lower()
    (tmp_path / f"{name}.py").write_text(f"LAMBDA = {not importable}\n{PLUGIN}")
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    __import__(name)
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(100):
        (root / f"{number:03}.dots").write_bytes(b"DOTS" + bytes([number]))
    result = decoded(root, files(root), SMALL)
    assert result.bad == {}
    assert result.images[:, 0, 0, 0].tolist() == [*range(100)]
    assert len(decodings) == (cache.CHUNK if importable else 100)
    Image.OPEN.pop("DOTS")
    Image.ID.remove("DOTS")
    assert len(decoded(root, files(root), SMALL).bad) == 100


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CNN_COMPARE_CACHE_DIR", "~/disk")
    assert cache_dir() == tmp_path / "disk"
    monkeypatch.delenv("CNN_COMPARE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir().parts[-1] == "cnn_compare"
