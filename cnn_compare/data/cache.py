"""Arrays that are made once and then mapped from the disk by every run and process; pictures are decoded into them.

The files lie in `cache_dir`: a folder for what is made, inside of one for its source, which has the lock. All together
take no more than `limit_bytes`: what was not used for the longest time makes room. A folder that is there is complete:
it is written under another name, beginning with a dot, and renamed at the end. What begins with a dot while nobody
holds the lock was left by a process that was killed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import shutil
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from cnn_compare.data import decode
from cnn_compare.data.decode import Decoding, Facts, Job, decoder, plugins
from cnn_compare.errors import DataError, InvalidValueError, StorageError
from cnn_compare.files import read_json, write_json
from cnn_compare.progress import Display

# Pictures that a process decodes before it writes them and reports.
CHUNK = 16
# Chunks that are begun for each process before the first of them is asked for.
AHEAD = 2
# Work that is expected to take less is done at once, by this process and without a progress bar.
SHORT_S, TRIAL_S = 1.0, 0.1
# What the cache takes, at most, where the environment does not say.
LIMIT_GB = 50.0

_LOCK = ".lock"
_CONTENTS = "contents.json"


def cache_dir() -> Path:
    """``$CNN_COMPARE_CACHE_DIR``, else ``cnn_compare`` in the user's cache folder."""
    named = os.environ.get("CNN_COMPARE_CACHE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    return Path(user_cache_dir("cnn_compare"))


def limit_bytes() -> float:
    """What the cache takes, at most: ``$CNN_COMPARE_CACHE_GB`` times 10⁹, else `LIMIT_GB`.

    Raises:
        InvalidValueError: If that is not a number above 0.
    """
    given = os.environ.get("CNN_COMPARE_CACHE_GB") or LIMIT_GB
    with suppress(ValueError):
        if (limit := float(given)) > 0:
            return limit * 1e9
    raise InvalidValueError("CNN_COMPARE_CACHE_GB", given, "a number of gigabytes above 0")


def mapped_arrays(key: str, make: Callable[[Path], None], needed_bytes: int = 0) -> Path:
    """A folder of files that is made once: by whoever asks first, while others wait.

    A file whose size or time of change is no longer what it was makes the folder be made anew. That costs nothing, and
    notices files that were cut off or written to; damage by the disk itself is not noticed.

    Args:
        key: ``source/content``. Names what is in the files: other content needs another key.
        make: Called with an empty folder, writes the files into it.
        needed_bytes: What it will write; refused beforehand where the disk has less. 0: not known.

    Returns:
        The complete folder. Its files are to be read only.

    Raises:
        StorageError: If the files cannot be written.
    """
    folder = cache_dir() / key
    if _is_complete(folder):
        with suppress(OSError):  # A cache that may only be read is used all the same.
            os.utime(folder)
        return folder
    try:
        with _locked(folder.parent):
            if not _is_complete(folder):
                _remove([*folder.parent.glob(".*.tmp"), folder])
                _make_room(folder.parent, needed_bytes)
                _make(folder, make, needed_bytes)
    except OSError as error:
        path = Path(error.filename or cache_dir())
        if not (path.is_relative_to(cache_dir()) or cache_dir().is_relative_to(path)):
            raise  # What `make` reads is at fault, not what it writes.
        needed = f"; it needs {-(-needed_bytes // 2**20):,} MiB" if needed_bytes else ""
        raise StorageError(
            f"decoded images cannot be stored in {cache_dir()}: {error.strerror or error}{needed}. Make room there, or "
            "name another folder with the environment variable CNN_COMPARE_CACHE_DIR."
        ) from error
    return folder


def _make_room(locked: Path, needed_bytes: int) -> None:
    """Delete what was not used for the longest time, as far as the limit and the disk ask for; ``locked`` is held."""
    found = {}
    for folder in cache_dir().glob("*/*"):
        with suppress(OSError):  # Another process deletes it.
            if folder.is_dir():
                found[folder] = folder.stat().st_mtime, sum(path.stat().st_size for path in folder.iterdir())
    used = sum(size for _, size in found.values())
    room = used + shutil.disk_usage(locked).free
    if needed_bytes > room:
        return  # Nothing that is deleted would be enough.
    excess = used + needed_bytes - min(limit_bytes(), room)
    for folder, (_, size) in sorted(found.items(), key=lambda item: item[1]):
        if excess <= 0:
            return
        # What another process is making or clearing is in use.
        with (
            nullcontext(True) if folder.parent == locked else _locked(folder.parent, wait=False) as free,
            suppress(OSError),
        ):
            if free:
                _remove([folder])
                excess -= size


def _make(folder: Path, make: Callable[[Path], None], needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder.parent).free
    if free_bytes < needed_bytes:
        raise OSError(errno.ENOSPC, f"{free_bytes // 2**20:,} MiB are free")
    unfinished = folder.with_name(f".{folder.name}.tmp")
    unfinished.mkdir()
    try:
        make(unfinished)
        contents = {}
        for path in unfinished.iterdir():
            with path.open("r+b") as file:
                os.fsync(file.fileno())  # Else a folder could outlive a power cut that its content does not.
            contents[path.name] = _identity(path)
        write_json(unfinished / _CONTENTS, contents)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _identity(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _is_complete(folder: Path) -> bool:
    try:
        return all(_identity(folder / name) == found for name, found in read_json(folder / _CONTENTS).items())
    except (OSError, ValueError):
        return False


def _remove(folders: Iterable[Path]) -> None:
    """Delete folders; one that is complete loses its name first, so that no part of it is ever taken for the whole."""
    for folder in folders:
        if folder.exists():
            hidden = folder if folder.name.startswith(".") else folder.rename(folder.with_name(f".{folder.name}.tmp"))
            shutil.rmtree(hidden)


@contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a folder's lock. The system releases it when the process ends, even if it is killed.

    Yields:
        Whether it is held: without ``wait``, another process may hold it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=SHORT_S if wait else 0)
    except Timeout:
        if not wait:
            yield False
            return
        print("Another process decodes the same images; waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield True
    finally:
        lock.release()


@dataclass(frozen=True)
class Decoded:
    """The pictures of a folder as one array.

    Args:
        images: ``(N, side, side, 3)`` RGB, a read-only memory map; zeros where a picture is bad.
        sizes: ``(N, 2)`` width and height of the upright picture; zeros where it is bad.
        bad: Row -> why its file cannot be used.
        notes: Row -> what was decided about its picture, such as that only its first frame is used.
        fingerprint: Digest of the pixels, the decoder and the decoding; the same on every machine.
    """

    images: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    bad: dict[int, str]
    notes: dict[int, str]
    fingerprint: str


def decoded(root: Path, paths: Sequence[str], decoding: Decoding) -> Decoded:
    """Pictures as one memory-mapped array: decoded on all processors by the first call, found by all further ones.

    A file that has another size, time or permission than before is noticed, one that has taken another's place, and
    paths that are added, removed or reordered: all pictures are then decoded again. Memory stays bounded, however large
    the array is.

    Args:
        root: The folder of the pictures; nothing is written to it.
        paths: Paths of the pictures, relative to ``root``, one for each row of the result.
        decoding: How they are decoded.

    Raises:
        StorageError: If the array cannot be stored; beforehand, where the disk is known to be too small.
    """
    shape = (len(paths), decoding.side, decoding.side, 3)
    how = hashlib.blake2b(json.dumps([asdict(decoding), decoder(), plugins()]).encode(), digest_size=4).hexdigest()
    folder = mapped_arrays(
        f"{_source(root)}/{how}-{_files_digest(root, paths)}",
        lambda folder: _decode_into(folder, root, paths, decoding),
        # The array, and what is stored of each picture.
        needed_bytes=int(np.prod(shape)) + 200 * len(paths),
    )
    facts = read_json(folder / "pictures.json")
    return Decoded(
        np.load(folder / "images.npy", mmap_mode="r").view(np.ndarray),
        np.load(folder / "sizes.npy"),
        {int(row): reason for row, reason in facts["bad"].items()},
        {int(row): note for row, note in facts["notes"].items()},
        facts["fingerprint"],
    )


def clear_cache(root: Path) -> int:
    """Delete every array of the pictures in a folder, and return how many bytes that frees.

    Waits for a process that is decoding them. Processes that have mapped an array keep it.
    """
    folder = cache_dir() / _source(root)
    if not folder.is_dir():
        return 0
    with _locked(folder):
        arrays = sorted(path for path in folder.iterdir() if path.is_dir())
        freed = sum(file.stat().st_size for path in arrays for file in path.iterdir())
        _remove(arrays)
    return freed


def _source(root: Path) -> str:
    return "pictures_" + hashlib.blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()


def _files_digest(root: Path, paths: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        try:
            status = (root / path).stat()
            # The last two tell files apart that have exchanged places, or were written to and given back their time.
            found = f"{status.st_size} {status.st_mtime_ns} {status.st_mode} {status.st_ino} {status.st_ctime_ns}"
            if status.st_ino == 0 and stat.S_ISREG(status.st_mode):  # A file system without numbers.
                found += hashlib.blake2b((root / path).read_bytes()).hexdigest()
        except (OSError, ValueError) as error:  # ValueError: a path with a null character.
            found = str(error)
        digest.update(f"{path}\0{found}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _decode_into(folder: Path, root: Path, paths: Sequence[str], decoding: Decoding) -> None:
    """Write ``images.npy``, ``sizes.npy`` and ``pictures.json``."""
    file, shape = folder / "images.npy", (len(paths), decoding.side, decoding.side, 3)
    offset = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape).offset
    job = Job(str(root.absolute()), decoding, str(file), offset)
    digest = hashlib.blake2b(json.dumps([decoder(), asdict(decoding)]).encode(), digest_size=8)
    sizes, bad, notes, done = np.zeros((len(paths), 2), np.int32), dict[int, str](), dict[int, str](), 0
    with progress("decoded", len(paths)) as show:
        for _, chunk in _decode_chunks(job, paths, places=len(paths)):
            for row, found in enumerate(chunk, start=done):
                sizes[row] = found.size
                digest.update(bytes.fromhex(found.digest))
                if found.bad:
                    bad[row] = found.bad
                if found.notes:
                    notes[row] = found.notes
            done += len(chunk)
            show(done)
    np.save(folder / "sizes.npy", sizes)
    facts = {"root": str(root), "bad": bad, "notes": notes, "fingerprint": digest.hexdigest()}
    write_json(folder / "pictures.json", facts)


def decoded_in_parts(paths: Sequence[str], decoding: Decoding) -> Iterator[tuple[NDArray[np.uint8], list[Facts]]]:
    """Decode pictures on all processors, some at a time and in bounded memory; nothing is kept.

    Args:
        paths: Paths of the pictures, absolute or relative to the working folder.
        decoding: How they are decoded.

    Yields:
        The next few pictures, in order: pixels ``(n, side, side, 3)`` RGB, zeros for a bad one, and what was found.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "pixels"
        file.touch()
        job, size = Job(str(Path.cwd()), decoding, str(file), 0), decoding.side**2 * 3
        for place, rows in _decode_chunks(job, paths, places=CHUNK * (AHEAD * _cores() + 1)):
            pixels = np.fromfile(file, np.uint8, len(rows) * size, offset=place * size)
            yield pixels.reshape(len(rows), decoding.side, decoding.side, 3), rows


def _decode_chunks(job: Job, paths: Sequence[str], places: int) -> Iterator[tuple[int, list[Facts]]]:
    """Decode pictures into the array of a job, in chunks.

    Args:
        job: The job, whose array has so many places.
        paths: Paths of the pictures.
        places: A multiple of `CHUNK`, above `AHEAD` chunks for each processor, or as many as there are pictures. If
            there are fewer than pictures, they are used again as soon as the chunk after the next one is asked for.

    Yields:
        The place of each chunk's first picture, and what was found.
    """
    done, elapsed_s = 0, 0.0
    while done < len(paths):
        begin = time.monotonic()
        rows = job.decode(done % places, paths[done : done + CHUNK])
        # Not what the caller does meanwhile.
        elapsed_s += time.monotonic() - begin
        yield done % places, rows
        done += CHUNK
        # Plugins that are defined in the user's script work in this process alone.
        if plugins() is not None and elapsed_s > TRIAL_S and elapsed_s / done * (len(paths) - done) > SHORT_S:
            yield from _decode_in_processes(job, paths, done, places)
            return


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode_in_processes(job: Job, paths: Sequence[str], first: int, places: int) -> Iterator[tuple[int, list[Facts]]]:
    """`_decode_chunks` from picture ``first`` on, on all processors.

    Processes, because much of Pillow's work on small pictures holds Python's lock. Not multiprocessing's: those import
    the user's script, and what it imports.
    """
    starts = iter(range(first, len(paths), CHUNK))
    processes = [_start_process(job) for _ in range(min(_cores(), -(-(len(paths) - first) // CHUNK)))]
    idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
    for process in processes:
        idle.put(process)

    def decode_chunk(start: int) -> tuple[int, list[Facts]]:
        process = idle.get()
        try:
            return start % places, _ask(process, start % places, paths[start : start + CHUNK])
        finally:
            idle.put(process)

    with ThreadPoolExecutor(len(processes)) as pool:
        try:
            begun = deque(pool.submit(decode_chunk, start) for start in islice(starts, AHEAD * len(processes)))
            while begun:
                yield begun.popleft().result()
                begun.extend(pool.submit(decode_chunk, start) for start in islice(starts, 1))
        finally:
            # Also if the user interrupts.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
                process.communicate()


def _start_process(job: Job) -> subprocess.Popen[str]:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", decode.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # An interrupt in the terminal reaches this process alone, which then ends its own.
        start_new_session=True,
    )
    _send(process, {**asdict(job), "plugins": plugins()})
    return process


def _send(process: subprocess.Popen[str], value: Any) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # `_ask` then finds that the process has ended.
        process.stdin.write(json.dumps(value) + "\n")
        process.stdin.flush()


def _ask(process: subprocess.Popen[str], start: int, paths: Sequence[str]) -> list[Facts]:
    _send(process, [start, paths])
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        status = process.wait()
        what = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        raise DataError(
            f"a process that decodes pictures {what}, at one of those from {paths[0]} to {paths[-1]}. Signal 9 usually "
            "means that memory ran out: close other programs, or leave out very large pictures with data.max_pixels.",
            ["data.max_pixels"],
        )
    answer = json.loads(line)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["strerror"])
    return [Facts(**facts) for facts in answer["found"]]


@contextmanager
def progress(verb: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many pictures are done, once that takes a while: a bar in a terminal, else a line every few seconds.

    Args:
        verb: What has been done with them, such as ``decoded``.
        total: Number of pictures.

    Yields:
        A function that takes the number of those done.
    """
    with Display(verb, after_s=SHORT_S) as display:
        yield lambda done: display.show(done, total, "", f"{verb} {done:,} of {total:,} pictures")
