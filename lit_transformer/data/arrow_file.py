"""Files of the cache: written whole or not at all, checked when they are used again, read memory-mapped.

It does not know what the columns mean.
"""

import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from datasets import Dataset
from datasets.table import MemoryMappedTable

from lit_transformer.errors import UserError
from lit_transformer.files import whole_file

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
    with whole_file(_seal_of(path)) as unfinished:
        unfinished.write_text(_checksum(path, *_version(path)), encoding="ascii")


def is_whole(path: Path) -> bool:
    """Whether a file of the cache is there with every byte that it was sealed with; says so if it is damaged."""
    try:
        version = _version(path)
        expected = _seal_of(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):  # what cannot be read will be written, which says why it cannot
        return False
    if _checksum(path, *version) == expected:
        return True
    print(f"note: the cache file {path} is damaged and is made anew", file=sys.stderr)
    return False


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.crc32")


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=64)
def _checksum(path: Path, file_size: int, time_ns: int) -> str:
    """Computed once a process for a file that is as large and as old as it was."""
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
    return Dataset(MemoryMappedTable.from_file(str(path)), fingerprint=fingerprint)
