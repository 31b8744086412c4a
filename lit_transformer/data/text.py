"""The contract of every corpus source: sentence pairs, or lines of one language, that are found without reading them,
and read later.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from lit_transformer.characters import CONTENT
from lit_transformer.data.arrow_file import open_arrow, write_arrow
from lit_transformer.data.cache import cached_file
from lit_transformer.errors import UserError
from lit_transformer.notes import counted
from lit_transformer.progress import Advance, progress

PAIR_SCHEMA = pa.schema([("source", pa.string()), ("target", pa.string())])
"""The columns of every corpus of two languages."""
LINE_SCHEMA = pa.schema([("text", pa.string())])
"""The column of every corpus of one language."""
SIDES = ("source", "target")
"""The names of the columns of two languages."""
BATCH_SIZE = 10_000
"""Pairs that are in memory at a time."""
SAMPLED_PAIRS = 10_000
_VALIDATION_NAMES = ("valid", "validation", "val", "dev")


class MissingSplit(UserError):
    """The corpus has no such split in these languages."""


class Text(NamedTuple):
    """The sentence pairs, or the lines of one language, of one split of a corpus."""

    fingerprint: str
    """Identifies the content. What is computed from the text is cached under a name that is derived from it."""
    load: Callable[[], Dataset]
    """Returns them, memory-mapped, in the columns of `PAIR_SCHEMA` or `LINE_SCHEMA`."""


class PairCounts(NamedTuple):
    """What the sentence pairs of a text are like."""

    num_pairs: int
    num_empty: int
    """Pairs of which a side has no content."""
    num_multiline: int
    """Pairs of which a side has a line feed. In a CSV file, a quotation mark at the wrong place swallows lines."""

    def __str__(self) -> str:
        multiline = f", {self.num_multiline:,} with a line break in a sentence" if self.num_multiline else ""
        return f"{counted(self.num_pairs, 'pair')}, {self.num_empty:,} with an empty side{multiline}"


def cached_text(
    path: Path, batches: Callable[[], Iterable[pa.RecordBatch]], *, schema: pa.Schema = PAIR_SCHEMA
) -> Text:
    """Text that is written to the cache when it is loaded for the first time.

    Args:
        path: The cache file. Its stem is the fingerprint of the text.
        batches: Returns the sentence pairs or lines.
        schema: Their columns.
    """

    def write(unfinished: Path) -> None:
        with progress("reading text", None, "pair" if schema == PAIR_SCHEMA else "line") as advance:
            write_arrow(unfinished, schema, map(partial(_advanced, advance), batches()))

    return Text(path.stem, lambda: open_arrow(cached_file(path, write), fingerprint=path.stem))


def _advanced(advance: Advance, batch: pa.RecordBatch) -> pa.RecordBatch:
    advance(len(batch))
    return batch


@contextmanager
def bars_on_terminals() -> Iterator[None]:
    """Keep the bars of datasets out of logs, where they would be one line of a thousand carriage returns."""
    if sys.stderr.isatty() or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def tables(pairs: Dataset) -> Iterator[tuple[int, pa.Table]]:
    """Iterate over a text in Arrow tables. Each comes with the number of its first pair, counted from 0."""
    start = 0
    for table in pairs.with_format("arrow").iter(BATCH_SIZE):
        yield start, table
        start += len(table)


def sample(pairs: Dataset) -> dict[str, list[str]]:
    """Return the sentences of about 10,000 rows by column, evenly spread over the text, or those of all rows."""
    rows = pairs[:: -(-len(pairs) // SAMPLED_PAIRS) or 1]
    return {column: list(rows[column]) for column in pairs.column_names}


def count_pairs(pairs: Dataset) -> PairCounts:
    """Count the sentence pairs of a text."""
    num_empty = num_multiline = 0
    for _, table in tables(pairs):
        source, target = (table[side] for side in SIDES)
        both = pc.and_(*(pc.match_substring_regex(texts, CONTENT) for texts in (source, target)))
        num_empty += len(both) - pc.sum(both).as_py()
        num_multiline += pc.sum(pc.or_(*(pc.match_substring(texts, "\n") for texts in (source, target)))).as_py()
    return PairCounts(len(pairs), num_empty, num_multiline)


def sentences(pairs: Dataset, sides: Sequence[str] = SIDES) -> Iterator[str]:
    """Iterate over the sentences of a corpus, source and target in turn. A vocabulary is learned from them."""
    for batch in pairs.iter(batch_size=1000):
        for pair in zip(*(batch[side] for side in sides), strict=True):
            yield from pair


def split_names(split: str) -> tuple[str, ...]:
    """Return the names that a split may have in a corpus, the given one first."""
    return tuple(dict.fromkeys((split, *_VALIDATION_NAMES))) if split in _VALIDATION_NAMES else (split,)
