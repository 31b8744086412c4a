"""Files of a corpus: opened, read in blocks of whole lines, and known to the cache by their content.

Lines end at a line feed and nowhere else: U+0085, U+2028 and a lone carriage return belong to their line. Files are
read block by block without a Python object per line, so a file of any size needs little memory.
"""

import codecs
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa

from lit_transformer.batch import IntArray
from lit_transformer.data.cache import LARGE_FILE_BYTES, cached_file, version_of
from lit_transformer.data.compression import open_text, readable
from lit_transformer.data.encodings import describe_invalid_utf8, describe_other_format
from lit_transformer.data.text import PAIR_SCHEMA, Text, cached_text
from lit_transformer.errors import UserError

BLOCK_BYTES = 8 * 2**20
LF = ord("\n")
_BEGINNING_BYTES = 2**16
_LONGEST_LINE_BYTES = 2**30  # an Arrow string array holds less than 2**31 bytes


class Block(NamedTuple):
    """Whole lines of a file."""

    text: bytes
    """Valid UTF-8. Each line ends with a line feed. The carriage return before it and a mark at the beginning of the
    file are removed."""
    first_line: int
    """The number of the first line, counted from 1."""

    def line_of(self, position: int) -> int:
        """Return the number of the line in which a byte is."""
        return self.first_line + self.text.count(b"\n", 0, position)


def text_of_files(
    paths: Iterable[Path],
    *,
    reader: str,
    columns: str = "",
    cache_dir: Path,
    batches: Callable[[], Iterable[pa.RecordBatch]],
    schema: pa.Schema = PAIR_SCHEMA,
) -> Text:
    """Text that is read from files. The cache knows it by their content.

    Args:
        paths: The files.
        reader: Name and version of the reader, at most 16 bytes. Change it if the same files are to give other
            sentences, so that old cache entries are not used.
        columns: What is read from the files, if they hold more.
        cache_dir: Folder of the cache.
        batches: Reads the sentence pairs or lines.
        schema: Their columns.

    Raises:
        UserError: A file cannot be read.
    """
    digest = hashlib.blake2b(columns.encode(), digest_size=16, person=reader.encode())
    for path in paths:
        digest.update(_digest(path, cache_dir))
    return cached_text(cache_dir / "text" / f"{digest.hexdigest()}.arrow", batches, schema=schema)


def _digest(path: Path, cache_dir: Path) -> bytes:
    """Return a digest of a file's content. A large file is read again only if the file system reports a change."""
    with readable(path), path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size < LARGE_FILE_BYTES:
            return hashlib.file_digest(file, "blake2b").digest()
        version = (str(path.resolve()), *version_of(status))
        name = hashlib.blake2b(repr(version).encode(), digest_size=16).hexdigest()
        known = cached_file(
            cache_dir / "text" / f"{name}.digest",
            lambda unfinished: unfinished.write_bytes(hashlib.file_digest(file, "blake2b").digest()),
        )
        return known.read_bytes()


def read_blocks(path: Path) -> Iterator[Block]:
    """Read a text file.

    Raises:
        UserError: The file cannot be read, or it is no text file in UTF-8 whose lines end with line feeds.
    """
    next_line = 1
    rest = b""
    with open_text(path) as file:
        _check_line_ends(file, path)
        block = file.read(BLOCK_BYTES)
        if problem := describe_other_format(path, block[:_BEGINNING_BYTES]):
            raise UserError(problem)
        block = block.removeprefix(codecs.BOM_UTF8)
        while block:
            lines, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield _checked_block(lines + newline, path, next_line)
                next_line += lines.count(b"\n") + 1
            if len(rest) > _LONGEST_LINE_BYTES:
                raise UserError(f"{path}:{next_line}: the line is longer than {_LONGEST_LINE_BYTES:,} bytes")
            block = file.read(BLOCK_BYTES)
    if rest:
        yield _checked_block(rest + b"\n", path, next_line)


def _check_line_ends(file: BinaryIO, path: Path) -> None:
    """Refuse a file of the old Mac, whose lines would be one line."""
    beginning = cast(io.BufferedReader, file).peek(1)
    num_lines = beginning.count(b"\n")
    num_others = beginning.rstrip(b"\r").count(b"\r") - beginning.count(b"\r\n")
    if num_others > num_lines:
        raise UserError(
            f"{path} has {num_others:,} lone carriage returns and {num_lines:,} line feeds in its first "
            f"{len(beginning):,} bytes, but lines must end with a line feed: convert it, for example with "
            "`tr '\\r' '\\n'`"
        )


def _checked_block(text: bytes, path: Path, first_line: int) -> Block:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = first_line + text.count(b"\n", 0, error.start)
        raise UserError(describe_invalid_utf8(path, line, text, error.start)) from error
    return Block(text.replace(b"\r\n", b"\n"), first_line)


def string_array(content: bytes, ends: IntArray) -> pa.StringArray:
    """Return strings that lie end to end.

    Args:
        content: The strings, in UTF-8.
        ends: Where each of them ends.
    """
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(content))
