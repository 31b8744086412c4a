"""Files of the cache: made by one process at a time, written whole or not at all, checked when used again, read
memory-mapped.

It does not know what the columns mean.
"""

import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from threading import Thread

import pyarrow as pa
from datasets import Dataset
from datasets.table import MemoryMappedTable
from filelock import FileLock, Timeout

from lit_transformer.errors import UserError
from lit_transformer.files import remove_unfinished, whole_file

LARGE_FILE_BYTES = 2**26
"""A file of this size takes longer to read than a file system's clock to tick."""
Version = tuple[int, int, int, int]
_BLOCK_BYTES = 1 << 18  # what a processor's cache holds
_SILENT_SECONDS = 2.0


def make_once(path: Path, *, is_ready: Callable[[], bool], make: Callable[[], None]) -> None:
    """Make the cache entry `path` unless it is ready; other processes that need it wait meanwhile.

    The lock holds on all machines and in all containers that share the disk. The system releases it when its process
    ends, however that happens.
    """
    if is_ready():
        return
    with cache_folder(path.parent), _only_maker(path):
        if not is_ready():
            remove_unfinished(path.parent, f"{path.stem}.")
            make()


def cached(path: Path, write: Callable[[Path], object]) -> Path:
    """A file of the cache. If it is missing or damaged, `write` makes it at the path that it gets."""

    def make() -> None:
        with sealed_file(path) as unfinished:
            write(unfinished)

    make_once(path, is_ready=lambda: is_whole(path), make=make)
    return path


@contextmanager
def _only_maker(path: Path) -> Iterator[None]:
    # Users who share the folder must be able to open each other's lock files.
    lock = FileLock(f"{path}.lock", mode=0o666)
    try:
        lock.acquire(timeout=_SILENT_SECONDS)
    except Timeout:
        print(f"note: another process makes {path}; waiting for it", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
        expected, sealed_version = _read_seal(path)
    except (OSError, ValueError):  # what cannot be read will be written, which says why it cannot
        return False
    if _checksum(path, version) != expected:
        print(f"note: the cache file {path} is damaged and is made anew", file=sys.stderr)
        with suppress(OSError):  # without its seal it is not read again only to be found damaged again
            _seal_of(path).unlink()
        return False
    if _is_large(version) and version != sealed_version:
        with suppress(OSError):  # nobody may write there: it is read again next time
            _seal(path, expected, version)
    return True


def seems_whole(path: Path) -> bool:
    """`is_whole` without reading a large file that has not been changed since it was sealed: see `LateCheck`."""
    try:
        version = version_of(path.stat())
        _, sealed_version = _read_seal(path)
    except (OSError, ValueError):
        return False
    return (_is_large(version) and version == sealed_version) or is_whole(path)


def version_of(status: os.stat_result) -> Version:
    """What differs after every change of a file; on Linux the time of the last one (ctime) cannot be set back."""
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


class LateCheck:
    """Checks a large file in the background while it is in use: bit rot changes neither size nor timestamps.

    It does not check a file that has replaced it.
    """

    def __init__(self, path: Path) -> None:
        self.damaged = False
        self._path = path
        self._version = version_of(path.stat())
        self._is_removed = False
        self._thread = Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Start reading, once. `seems_whole` has read a file that is not large."""
        if self._thread.ident is None and _is_large(self._version):
            self._thread.start()

    def raise_if_damaged(self) -> None:
        """Raises as soon as it is known, which `damaged` says, too."""
        if self.damaged:
            anew = "run the same command again, which makes it anew"
            by_hand = "remove it, or choose another folder with --data.cache_dir"
            raise UserError(
                f"the cache file {self._path} is damaged: {anew if self._is_removed else by_hand}; "
                "go on from a checkpoint with --ckpt_path auto"
            )

    def _read(self) -> None:
        try:
            expected, sealed_version = _read_seal(self._path)
            if sealed_version != self._version or _checksum(self._path, self._version) == expected:
                return
        except (FileNotFoundError, ValueError):
            return
        except OSError:
            pass  # the disk is failing
        with suppress(OSError):
            if version_of(self._path.stat()) != self._version:
                return
            _seal_of(self._path).unlink(missing_ok=True)
            self._is_removed = True
        self.damaged = True


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.crc32")


def _seal(path: Path, checksum: str, version: Version) -> None:
    """Write down a file's checksum, and of a large one the version that has it."""
    with whole_file(_seal_of(path)) as unfinished:
        words = [checksum, *version] if _is_large(version) else [checksum]
        unfinished.write_text(" ".join(map(str, words)), encoding="ascii")


def _read_seal(path: Path) -> tuple[str, tuple[int, ...]]:
    checksum, *version = _seal_of(path).read_text(encoding="ascii").split()
    return checksum, tuple(map(int, version))


def _is_large(version: Version) -> bool:
    return version[0] >= LARGE_FILE_BYTES


@lru_cache(maxsize=64)
def _checksum(path: Path, version: Version) -> str:
    """Computed once a process for a file that was not changed."""
    checksum = 0
    block = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            checksum = zlib.crc32(block[:size], checksum)
    return f"{checksum:08x}"


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches to `path` as they come."""
    with path.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
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
    """The bytes of a file; nothing is read before it is looked at.

    `pyarrow.memory_map` and `datasets` have the system read ahead of each record batch that they open.
    """
    with path.open("rb") as file:
        return pa.py_buffer(mmap(file.fileno(), 0, access=ACCESS_READ))
