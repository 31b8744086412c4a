"""One Arrow stream file of the cache: written whole or not at all, read memory-mapped.

It does not know what the columns mean.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from datasets import Dataset
from datasets.table import MemoryMappedTable

from lit_transformer.errors import UserError


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
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; it becomes `path` when all went well, else the file is removed.

    A killed run leaves nothing that is taken for the whole, and two runs that write the same file at once do
    not disturb each other.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches to `path` as they come."""
    with (
        cache_folder(path.parent),
        whole_file(path) as unfinished,
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
