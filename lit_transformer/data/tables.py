"""Tables of sentence pairs in files: TSV, CSV, JSON, Parquet and Arrow."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa
from pyarrow import parquet

from lit_transformer.data.arrow_file import map_file
from lit_transformer.data.columns import check_languages, damage_to_user_error, plain_table
from lit_transformer.data.compression import uncompressed
from lit_transformer.data.delimited import delimited_batches
from lit_transformer.data.json_lines import json_batches
from lit_transformer.data.text import BATCH_SIZE, Text
from lit_transformer.data.text_file import text_of_files
from lit_transformer.errors import UserError


class _Reader(Protocol):
    def __call__(self, path: Path, *, source: str, target: str) -> Iterator[pa.RecordBatch]: ...


def table_suffix(name: str) -> str | None:
    """Return the part of a file's name that tells its format, as in `.tsv` and `.tsv.gz`. None if it is no table."""
    plain = uncompressed(name)
    suffix = Path(plain).suffix
    if suffix in _TEXT_READERS or (suffix in _READERS and plain == name):
        return suffix + name.removeprefix(plain)
    return None


def find_tables(paths: list[Path], *, source: str, target: str, cache_dir: Path) -> Text:
    """Find the sentence pairs of one or more tables of the same format. The cache knows them by their content.

    Args:
        paths: The files, in order.
        source: Name of the source language's field or column.
        target: Name of the target language's.
        cache_dir: Folder of the cache.

    Raises:
        UserError: A file cannot be read. Other errors of the files are raised when the text is loaded.
    """
    return text_of_files(
        paths,
        reader="table 1",
        columns=repr((Path(uncompressed(paths[0].name)).suffix, source, target)),
        cache_dir=cache_dir,
        batches=lambda: _table_batches(paths, source, target),
    )


def _table_batches(paths: list[Path], source: str, target: str) -> Iterator[pa.RecordBatch]:
    reader = _READERS[Path(uncompressed(paths[0].name)).suffix]
    num_pairs = 0
    for path in paths:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty: it must hold sentence pairs")
        for batch in reader(path, source=source, target=target):
            num_pairs += len(batch)
            yield batch
    if num_pairs == 0:
        raise UserError(f"{paths[0]} has no sentence pairs: add some, or remove the file")


def _parquet_batches(path: Path, *, source: str, target: str) -> Iterator[pa.RecordBatch]:
    with damage_to_user_error(str(path)), parquet.ParquetFile(path) as file:
        prefix = check_languages(file.schema_arrow, str(path), source=source, target=target)
        names = [prefix + source, prefix + target]
        for batch in file.iter_batches(BATCH_SIZE, columns=names):
            yield from _pairs(batch, names)


def _arrow_batches(path: Path, *, source: str, target: str) -> Iterator[pa.RecordBatch]:
    with damage_to_user_error(str(path)):
        buffer = map_file(path)
        try:
            batches: Iterable[pa.RecordBatch] = (reader := pa.ipc.open_stream(buffer))
        except pa.ArrowInvalid:  # the other of Arrow's two formats
            reader = pa.ipc.open_file(buffer)
            batches = map(reader.get_batch, range(reader.num_record_batches))
        prefix = check_languages(reader.schema, str(path), source=source, target=target)
        for batch in batches:
            for start in range(0, len(batch), BATCH_SIZE):
                yield from _pairs(batch.slice(start, BATCH_SIZE), [prefix + source, prefix + target])


def _pairs(batch: pa.RecordBatch, names: list[str]) -> list[pa.RecordBatch]:
    """Take two columns or fields of structs out of a batch."""
    table = pa.Table.from_batches([batch])
    return plain_table((table if set(names) <= set(table.column_names) else table.flatten()).select(names)).to_batches()


_TEXT_READERS: Mapping[str, _Reader] = {
    ".tsv": partial(delimited_batches, separator="\t"),
    ".csv": partial(delimited_batches, separator=","),
    ".jsonl": json_batches,
    ".json": json_batches,
}
_READERS: Mapping[str, _Reader] = {**_TEXT_READERS, ".parquet": _parquet_batches, ".arrow": _arrow_batches}
"""The reader of each format."""
