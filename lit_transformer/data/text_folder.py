"""Folders of `SPLIT.LANG` text files with one sentence per line. Line N of one file translates line N of the other.

Lines end at a line feed and nowhere else: U+0085, U+2028 and a lone carriage return belong to their line. Files are
read block by block without a Python object per line, so a corpus of any size needs little memory.
"""

import codecs
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from lit_transformer.data.cache import LARGE_FILE_BYTES, cached_file, version_of
from lit_transformer.data.text import PAIR_SCHEMA, Text, cached_text, split_names
from lit_transformer.errors import UserError
from lit_transformer.files import check_regular

BLOCK_BYTES = 8 * 2**20
_LONGEST_LINE_BYTES = 2**30  # an Arrow string array holds less than 2**31 bytes


def is_text_folder(folder: Path, languages: tuple[str, str]) -> bool:
    """Whether a folder has text files of one of these languages, in any split."""
    return any(_split_and_language(name)[1] in languages for name in _names(folder))


def find_text_folder(folder: Path, *, split: str, source: str, target: str, cache_dir: Path) -> Text:
    """Find the sentence pairs of one split. The cache knows them by the content of their files.

    Raises:
        UserError: A file is missing or cannot be read.
    """
    source_path, target_path = _find_files(folder, split, source, target)
    # Change `person` if the same files are to give other sentences, so that old cache entries are not used.
    digest = hashlib.blake2b(digest_size=16, person=b"text 1")
    for path in (source_path, target_path):
        digest.update(_digest(path, cache_dir))
    return cached_text(
        cache_dir / "text" / f"{digest.hexdigest()}.arrow", lambda: pair_batches(source_path, target_path)
    )


def _digest(path: Path, cache_dir: Path) -> bytes:
    """Return a digest of a file's content. A large file is read again only if the file system reports a change."""
    with _readable(path), path.open("rb") as file:
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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what can go wrong with a file or folder of the user into a `UserError` that names it."""
    check_regular(path)
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} is not a complete gzip file ({error}): copy or compress it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _names(folder: Path) -> list[str]:
    with _readable(folder):
        return sorted(path.name for path in folder.iterdir())


def _split_and_language(name: str) -> tuple[str, str]:
    """`train.en.gz` -> (`train`, `en`)."""
    split, _, language = name.removesuffix(".gz").rpartition(".")
    return split, language


def _find_files(folder: Path, split: str, source: str, target: str) -> tuple[Path, Path]:
    names = _names(folder)
    for alias in split_names(split):
        found = [
            next((name for name in (f"{alias}.{language}", f"{alias}.{language}.gz") if name in names), None)
            for language in (source, target)
        ]
        if found[0] is not None and found[1] is not None:
            return folder / found[0], folder / found[1]
    raise UserError(_missing([_split_and_language(name) for name in names], folder, split, source, target))


def _missing(found: list[tuple[str, str]], folder: Path, split: str, source: str, target: str) -> str:
    """Say which file is missing, and what could be read instead."""
    languages = sorted({language for name, language in found if name in split_names(split)})
    if languages:
        missing = next((language for language in (source, target) if language not in languages), target)
        return (
            f"{folder} has no file {split}.{missing}: split {split!r} exists in {', '.join(languages)}; "
            "add the file, or choose source and target among these"
        )
    splits = sorted({name for name, language in found if {(name, source), (name, target)} <= set(found)})
    return (
        f"{folder} has no split {split!r} in {source} and {target}: it has {', '.join(splits) or 'none'}; add the "
        f"files {split}.{source} and {split}.{target} (plain or .gz)"
    )


def pair_batches(source_path: Path, target_path: Path) -> Iterator[pa.RecordBatch]:
    """Read the lines of two files, plain or `.gz`, side by side.

    Yields:
        Record batches in the columns of `PAIR_SCHEMA`.

    Raises:
        UserError: A file cannot be read or is empty, or the files differ in their number of lines.
    """
    nothing = pa.array([], pa.string())
    source_blocks, target_blocks = _line_blocks(source_path), _line_blocks(target_path)
    sources = targets = nothing
    num_pairs = 0
    while True:
        # The blocks of the two files need not end at the same line.
        sources = sources if len(sources) else next(source_blocks, nothing)
        targets = targets if len(targets) else next(target_blocks, nothing)
        size = min(len(sources), len(targets))
        if size == 0:
            break
        yield pa.record_batch([sources[:size], targets[:size]], schema=PAIR_SCHEMA)
        sources, targets = sources[size:], targets[size:]
        num_pairs += size
    num_sources = num_pairs + len(sources) + sum(map(len, source_blocks))
    num_targets = num_pairs + len(targets) + sum(map(len, target_blocks))
    for path, num_lines in ((source_path, num_sources), (target_path, num_targets)):
        if num_lines == 0:
            raise UserError(f"{path} is empty: it must hold one sentence per line")
    if num_sources != num_targets:
        raise UserError(
            f"{source_path} has {num_sources:,} lines but {target_path} has {num_targets:,}: "
            "line N of one must be the translation of line N of the other"
        )


def _line_blocks(path: Path) -> Iterator[pa.StringArray]:
    num_lines = 0
    rest = b""
    with _readable(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        block = file.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8)
        while block:
            lines, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield (array := _line_array(lines + newline, path, num_lines + 1))
                num_lines += len(array)
            if len(rest) > _LONGEST_LINE_BYTES:
                raise UserError(f"{path}:{num_lines + 1}: the line is longer than {_LONGEST_LINE_BYTES:,} bytes")
            block = file.read(BLOCK_BYTES)
    if rest:
        yield _line_array(rest + b"\n", path, num_lines + 1)


def _line_array(text: bytes, path: Path, first_line: int) -> pa.StringArray:
    """Turn lines that each end with a line feed into strings without it."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = first_line + text.count(b"\n", 0, error.start)
        raise UserError(
            f"{path}:{line}: invalid UTF-8 (byte 0x{text[error.start]:02x}); convert the file to UTF-8, "
            "for example with `iconv -f latin1 -t utf-8`"
        ) from error
    text = text.replace(b"\r\n", b"\n")
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    # Strings of an Arrow array lie end to end: each end moves back by the line feeds before it.
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends - np.arange(len(ends))
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(text.replace(b"\n", b"")))
