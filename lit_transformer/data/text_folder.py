"""Folders of `SPLIT.LANG` text files with one sentence per line.

In a corpus of two languages, line N of one file translates line N of the other.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from lit_transformer.data.compression import COMPRESSIONS, plain_or_compressed, readable, uncompressed
from lit_transformer.data.places import files_by_language
from lit_transformer.data.tables import table_suffix
from lit_transformer.data.text import LINE_SCHEMA, PAIR_SCHEMA, MissingSplit, Text, split_names
from lit_transformer.data.text_file import LF, read_blocks, string_array, text_of_files
from lit_transformer.errors import UserError


def is_text_folder(folder: Path, source: str, target: str) -> bool:
    """Whether a folder has a pair of text files in these languages, of any split."""
    found = _found(folder)
    return any((split, target) in found for split, language in found if language == source)


def find_text_folder(folder: Path, *, split: str, source: str, target: str, cache_dir: Path) -> Text:
    """Find the sentence pairs of one split.

    Raises:
        UserError: A file is missing or cannot be read.
    """
    return find_text_files(*_find_files(folder, split, source, target), cache_dir=cache_dir)


def find_text_files(source_path: Path, target_path: Path, *, cache_dir: Path) -> Text:
    """Find the sentence pairs of two text files. The cache knows them by the content of the files.

    Raises:
        UserError: A file cannot be read.
    """
    return text_of_files(
        (source_path, target_path),
        reader="text 1",
        cache_dir=cache_dir,
        batches=lambda: pair_batches(source_path, target_path),
    )


def find_line_folder(folder: Path, *, split: str, language: str, cache_dir: Path) -> Text:
    """Find the lines of one split in one language: those of `SPLIT.LANG`, or else of `SPLIT.PAIR.LANG`.

    Raises:
        UserError: The file is missing or cannot be read, or there are several.
    """
    names, found = split_names(split), sorted(_found(folder))
    stems = [name for name in names if (name, language) in found][:1] or [
        stem for stem, each in found if each == language and stem.rpartition(".")[0] in names
    ]
    paths = [path for stem in stems if (path := plain_or_compressed(folder / f"{stem}.{language}"))]
    if len(paths) > 1:
        files = " and ".join(path.name for path in paths)
        raise UserError(f"{folder} has the split {split!r} more than once ({files}): remove all but one")
    if not paths:
        others = ", ".join(f"{stem}.{each}" for stem, each in found) or "no text files"
        raise MissingSplit(
            f"{folder} has no file {split}.{language}: it has {others}; add the file, or choose another language"
        )
    return find_line_file(paths[0], cache_dir=cache_dir)


def find_line_file(path: Path, *, cache_dir: Path) -> Text:
    """Find the lines of a text file. The cache knows it by its content.

    Raises:
        UserError: The file cannot be read.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        num_lines = 0
        for lines in _line_arrays(path):
            num_lines += len(lines)
            yield pa.record_batch([lines], schema=LINE_SCHEMA)
        if num_lines == 0:
            raise UserError(f"{path} is empty: it must hold one sentence per line")

    return text_of_files((path,), reader="lines 1", cache_dir=cache_dir, batches=batches, schema=LINE_SCHEMA)


def _found(folder: Path) -> set[tuple[str, str]]:
    """The splits and languages of the text files in a folder: (`train`, `en`) for `train.en.gz`."""
    with readable(folder):
        names = [path.name for path in folder.iterdir() if table_suffix(path.name) is None]
    parts = [uncompressed(name).rpartition(".") for name in names]
    return {(split, language) for split, _, language in parts}


def _find_files(folder: Path, split: str, source: str, target: str) -> tuple[Path, Path]:
    """Return the files `SPLIT.LANG`, or else the files `SPLIT.PAIR.LANG`, such as `train.de-en.en`."""
    names = split_names(split)
    with_pair = [f"{name}.{pair}" for name in names for pair in (f"{source}-{target}", f"{target}-{source}")]
    with readable(folder):
        found = _find_pairs(folder, names, source, target)[:1] or _find_pairs(folder, with_pair, source, target)
    if len(found) > 1:
        files = " and ".join(path.name for path, _ in found)
        raise UserError(f"{folder} has the split {split!r} more than once ({files}): remove all but one")
    if not found:
        raise MissingSplit(_missing(_found(folder), folder, split, source, target))
    return found[0]


def _find_pairs(folder: Path, stems: Iterable[str], source: str, target: str) -> list[tuple[Path, Path]]:
    found = [files_by_language(folder / stem, source, target) for stem in stems]
    return [(source_path, target_path) for source_path, target_path in found if source_path and target_path]


def _missing(found: set[tuple[str, str]], folder: Path, split: str, source: str, target: str) -> str:
    """Say which file is missing, and what could be read instead."""
    languages = sorted({language for name, language in found if name in split_names(split)})
    if languages:
        missing = next((language for language in (source, target) if language not in languages), target)
        return (
            f"{folder} has no file {split}.{missing}: split {split!r} exists in {', '.join(languages)}; "
            "add the file, or choose source and target among these"
        )
    splits = sorted({name for name, language in found if {(name, source), (name, target)} <= found})
    return (
        f"{folder} has no split {split!r} in {source} and {target}: it has {', '.join(splits) or 'none'}; add the "
        f"files {split}.{source} and {split}.{target} (plain or {', '.join(COMPRESSIONS)})"
    )


def pair_batches(source_path: Path, target_path: Path) -> Iterator[pa.RecordBatch]:
    """Read the lines of two files, plain or compressed, side by side.

    Yields:
        Record batches in the columns of `PAIR_SCHEMA`.

    Raises:
        UserError: A file cannot be read or is empty, or the files differ in their number of lines.
    """
    nothing = pa.array([], pa.string())
    source_blocks, target_blocks = _line_arrays(source_path), _line_arrays(target_path)
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


def _line_arrays(path: Path) -> Iterator[pa.StringArray]:
    for block in read_blocks(path):
        ends = np.flatnonzero(np.frombuffer(block.text, np.uint8) == LF)
        # Each end moves back by the line feeds before it.
        yield string_array(block.text.replace(b"\n", b""), ends - np.arange(len(ends)))
