"""The cache of prepared data. One process makes a file while others wait, writes it whole or not at all, and seals it.

The seal is a checksum beside the file. A file is used only if it agrees with its seal.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Thread

from filelock import FileLock, Timeout

from lit_transformer.errors import UserError
from lit_transformer.files import remove_unfinished, whole_file
from lit_transformer.notes import print_note

LARGE_FILE_BYTES = 2**26
"""Size of the smallest large file. It takes longer to read than a tick of the file system's clock."""
SILENT_SECONDS = 2.0
"""A process that waits longer than this for another one prints a note."""
BLOCK_BYTES = 1 << 18  # fits into a processor's cache

Version = tuple[int, int, int, int]


class CacheNotWritable(UserError):
    """The folder of the cache cannot be written."""


def make_once(path: Path, *, is_ready: Callable[[], bool], make: Callable[[], None]) -> None:
    """Make the cache entry `path` unless it is ready. Other processes that need it wait.

    The lock holds on all machines and in all containers that share the disk. The system releases it when the process
    ends, even if it is killed.

    Args:
        path: The file of the entry, or one of its files. The lock and unfinished files are named after it.
        is_ready: Whether the entry exists and is whole.
        make: Makes it.

    Raises:
        UserError: The cache cannot be written.
    """
    if is_ready():
        return
    with _writable(path.parent), _lock(path):
        if not is_ready():
            remove_unfinished(path.parent, f"{path.stem}.")
            make()


def cached_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Return `path`. If the file is missing or damaged, `write` makes it first, at the path that it is given.

    Raises:
        UserError: The cache cannot be written.
    """

    def make() -> None:
        with sealed_file(path) as unfinished:
            write(unfinished)

    make_once(path, is_ready=lambda: is_whole(path), make=make)
    return path


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    # All users who share the folder must be able to open the lock file.
    lock = FileLock(f"{path}.lock", mode=0o666)
    try:
        lock.acquire(timeout=SILENT_SECONDS)
    except Timeout:
        print_note(f"waiting for another process that makes {path}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Make a folder of the cache, and turn an error of the file system into a `UserError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CacheNotWritable(
            f"cannot write the cache {folder}: {error.strerror or error}; free some space or choose another cache_dir"
        ) from error


@contextmanager
def sealed_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, as `whole_file` does, and seal the finished file."""
    with whole_file(path) as unfinished:
        yield unfinished
    version = version_of(path.stat())
    _seal(path, checksum(path, version), version)


def is_whole(path: Path) -> bool:
    """Whether a file exists and agrees with its seal. If it is damaged, a note is printed."""
    try:
        version = version_of(path.stat())
        expected, sealed_version = _read_seal(path)
    except (OSError, ValueError):  # the file is written anew, and an error of the disk is reported then
        return False
    if checksum(path, version) != expected:
        print_note(f"the cache file {path} is damaged and will be made again")
        with suppress(OSError):  # a file without a seal is not read
            _seal_of(path).unlink()
        return False
    if _is_large(version) and version != sealed_version:
        with suppress(OSError):  # in a read-only cache the file is read again next time
            _seal(path, expected, version)
    return True


def seems_whole(path: Path) -> bool:
    """Like `is_whole`, but trusts a large file that was not changed since it was sealed: `LateCheck` reads it later."""
    try:
        version = version_of(path.stat())
        _, sealed_version = _read_seal(path)
    except (OSError, ValueError):
        return False
    return (_is_large(version) and version == sealed_version) or is_whole(path)


def version_of(status: os.stat_result) -> Version:
    """Return numbers that identify a version of a file. Any change alters one: on Linux, ctime cannot be set back."""
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


class LateCheck:
    """Checks a large file in the background while it is in use. Bit rot changes neither size nor timestamps.

    A file that has replaced it meanwhile is not checked.
    """

    def __init__(self, path: Path) -> None:
        self.damaged = False
        """Whether the file was found to be damaged."""
        self.thread = Thread(target=self._read, daemon=True)
        """Reads the file."""
        self._path = path
        self._version = version_of(path.stat())
        self._is_unsealed = False

    def start(self) -> None:
        """Start reading, once. `seems_whole` has already read a file that is not large."""
        if self.thread.ident is None and _is_large(self._version):
            self.thread.start()

    def raise_if_damaged(self) -> None:
        """Raise UserError if the file was found to be damaged."""
        if self.damaged:
            by_hand = "" if self._is_unsealed else "remove it or choose another cache_dir, and "
            raise UserError(f"the cache file {self._path} is damaged: {by_hand}resume the run, which makes it again")

    def _read(self) -> None:
        try:
            expected, sealed_version = _read_seal(self._path)
            if sealed_version != self._version or checksum(self._path, self._version) == expected:
                return
        except (FileNotFoundError, ValueError):
            return
        except OSError:
            pass  # the disk is failing
        with suppress(OSError):
            if version_of(self._path.stat()) != self._version:
                return
            _seal_of(self._path).unlink(missing_ok=True)
            self._is_unsealed = True
        self.damaged = True


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.crc32")


def _seal(path: Path, content: str, version: Version) -> None:
    """Write the checksum of a file's content beside it, and for a large file also its version."""
    with whole_file(_seal_of(path)) as unfinished:
        words = [content, *version] if _is_large(version) else [content]
        unfinished.write_text(" ".join(map(str, words)), encoding="ascii")


def _read_seal(path: Path) -> tuple[str, tuple[int, ...]]:
    content, *version = _seal_of(path).read_text(encoding="ascii").split()
    return content, tuple(map(int, version))


def _is_large(version: Version) -> bool:
    return version[0] >= LARGE_FILE_BYTES


@lru_cache(maxsize=64)
def checksum(path: Path, version: Version) -> str:  # noqa: ARG001 # a key of the cache
    """Compute the CRC-32 of a file, once per process for a file that was not changed."""
    crc = 0
    block = memoryview(bytearray(BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            crc = zlib.crc32(block[:size], crc)
    return f"{crc:08x}"
