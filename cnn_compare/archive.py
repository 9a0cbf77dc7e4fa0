"""A comparison's runs in one file beside its report: read as if they lay in the folder."""

from __future__ import annotations

import atexit
import io
import shutil
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from cnn_compare.files import write_bytes

ARCHIVE = "runs.tar.xz"
KEPT_BESIDE = ("manifest.json", "report.md", "results.csv", "results.json")
"""What people read without unpacking anything."""


def pack(comparison: Path) -> None:
    """Move everything but `KEPT_BESIDE` into the comparison's archive. The same files give the same bytes."""
    buffer = io.BytesIO()
    moved = [path for path in sorted(comparison.iterdir()) if path.name not in (*KEPT_BESIDE, ARCHIVE)]
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=9) as archive:
        for path in moved:
            for file in sorted(each for each in (path, *path.rglob("*")) if each.is_file()):
                member = tarfile.TarInfo(file.relative_to(comparison).as_posix())
                member.size = file.stat().st_size
                with file.open("rb") as content:
                    archive.addfile(member, content)
    write_bytes(comparison / ARCHIVE, buffer.getbuffer())
    for path in moved:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def unpack(comparison: Path) -> None:
    """Put the archived runs back into the comparison's folder, if there are any; the archive stays."""
    if (archive := comparison / ARCHIVE).exists():
        with tarfile.open(archive) as files:
            files.extractall(comparison, filter="data")


def archived_runs(folder: Path) -> dict[Path, Path]:
    """Folder of each archived comparison at or below ``folder`` -> a copy of its files, deleted with the process."""
    return {archive.parent: _read_copy(archive, archive.stat().st_mtime_ns) for archive in folder.rglob(ARCHIVE)}


@cache
def _read_copy(archive: Path, changed_ns: int) -> Path:
    copy = Path(tempfile.mkdtemp(prefix="cnn_compare_runs_"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    shutil.copy(archive, copy)
    unpack(copy)
    return copy
