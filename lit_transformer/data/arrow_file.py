"""Arrow files: written batch by batch, and memory-mapped for reading. It does not know what the columns mean."""

from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pyarrow as pa
from datasets import Dataset
from datasets.table import MemoryMappedTable


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches to `path`, each as soon as it is made."""
    with path.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def open_arrow(path: Path, *, fingerprint: str) -> Dataset:
    """Open a file of `write_arrow` without reading it into memory.

    Args:
        path: The file.
        fingerprint: Identifies the rows. `datasets` names what it computes from them after it.
    """
    table = pa.ipc.open_stream(map_file(path)).read_all()
    return Dataset(MemoryMappedTable(table, str(path)), fingerprint=fingerprint)


def map_file(path: Path) -> pa.Buffer:
    """Map a file into memory. A byte is read when it is used.

    `pyarrow.memory_map` and `datasets` make the system read ahead of each record batch that they open.
    """
    with path.open("rb") as file:
        return pa.py_buffer(mmap(file.fileno(), 0, access=ACCESS_READ))
