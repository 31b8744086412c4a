"""Files of the cache: written whole or not at all, checked when they are used again, read memory-mapped.

It does not know what the columns mean.
"""

import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from threading import Thread

import pyarrow as pa
from datasets import Dataset
from datasets.table import MemoryMappedTable

from lit_transformer.errors import UserError
from lit_transformer.files import whole_file

LARGE_FILE_BYTES = 2**26
"""A file of this size takes longer to read than a file system's clock to tick."""
_BLOCK_BYTES = 1 << 18  # what a processor's cache holds


@contextmanager
def cache_folder(folder: Path) -> Iterator[None]:
    """Make a folder of the cache, and turn what the disk refuses to write there into a `UserError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the cache {folder}: {error.strerror or error}; "
            "make room or choose another folder with --data.cache_dir"
        ) from error


@contextmanager
def sealed_file(path: Path) -> Iterator[Path]:
    """A `whole_file` whose checksum is written down beside it, for `is_whole`."""
    with whole_file(path) as unfinished:
        yield unfinished
    version = version_of(path.stat())
    _seal(path, _checksum(path, version), version)


def is_whole(path: Path) -> bool:
    """Whether a file of the cache is there with every byte that it was sealed with; says so if it is damaged."""
    try:
        version = version_of(path.stat())
        expected, *sealed_version = _seal_of(path).read_text(encoding="ascii").split()
    except (OSError, ValueError):  # what cannot be read will be written, which says why it cannot
        return False
    if _checksum(path, version) != expected:
        print(f"note: the cache file {path} is damaged and is made anew", file=sys.stderr)
        return False
    if tuple(sealed_version) != version:
        with suppress(OSError):  # nobody may write there: it is read again next time
            _seal(path, expected, version)
    return True


def seems_whole(path: Path) -> bool:
    """`is_whole` without reading a large file that has not been changed since it was sealed: see `LateCheck`."""
    try:
        status = path.stat()
        _, *sealed_version = _seal_of(path).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    unchanged = status.st_size >= LARGE_FILE_BYTES and tuple(sealed_version) == version_of(status)
    return unchanged or is_whole(path)


def version_of(status: os.stat_result) -> tuple[str, ...]:
    """What differs after every change of a file; the time of the last one (ctime) cannot be set back."""
    return tuple(map(str, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)))


class LateCheck:
    """Reads a large file, which `seems_whole`, while it is used already: bits that flip on a disk leave no date."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._damaged = False
        if path.stat().st_size >= LARGE_FILE_BYTES:
            Thread(target=self._read, daemon=True).start()

    def raise_if_damaged(self) -> None:
        """Raises as soon as it is known; the next start makes the file anew."""
        if self._damaged:
            raise UserError(
                f"the cache file {self._path} is damaged: run the same command again, which makes it anew; "
                "go on from a checkpoint with --ckpt_path auto"
            )

    def _read(self) -> None:
        try:
            expected = _seal_of(self._path).read_text(encoding="ascii").split()[0]
            if _checksum(self._path, version_of(self._path.stat())) != expected:
                self._damaged = True
                _seal_of(self._path).unlink()
        except OSError:
            pass  # taken away meanwhile; who has it open still has it


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.crc32")


def _seal(path: Path, checksum: str, version: tuple[str, ...]) -> None:
    with whole_file(_seal_of(path)) as unfinished:
        unfinished.write_text(" ".join([checksum, *version]), encoding="ascii")


@lru_cache(maxsize=64)
def _checksum(path: Path, version: tuple[str, ...]) -> str:
    """Computed once a process for a file that was not changed."""
    checksum = 0
    block = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            checksum = zlib.crc32(block[:size], checksum)
    return f"{checksum:08x}"


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches to `path` as they come."""
    with (
        cache_folder(path.parent),
        sealed_file(path) as unfinished,
        unfinished.open("wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


def open_arrow(path: Path, *, fingerprint: str) -> Dataset:
    """Open a file of `write_arrow` without reading it into memory.

    Args:
        path: The file.
        fingerprint: What `datasets` names results after that are computed from these rows.
    """
    table = pa.ipc.open_stream(mapped(path)).read_all()
    return Dataset(MemoryMappedTable(table, str(path)), fingerprint=fingerprint)


def mapped(path: Path) -> pa.Buffer:
    """The bytes of a file, none of which is read before it is asked for.

    `pyarrow.memory_map` and `datasets` have the system read all of it at once, which takes a minute where the memory
    does not hold it.
    """
    with path.open("rb") as file:
        return pa.py_buffer(mmap(file.fileno(), 0, access=ACCESS_READ))
