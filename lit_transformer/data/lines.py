"""Lines of one language as rows of tokens for training: one row per line, or blocks of many. Counted and cached."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lit_transformer.batch import EOS_ID, UNK_ID, IntArray
from lit_transformer.data.arrow_file import write_arrow
from lit_transformer.data.cache import is_whole, make_once, sealed_file, seems_whole
from lit_transformer.data.text import LINE_SCHEMA, Text
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.tokenizing import joined, tokenized
from lit_transformer.errors import UserError
from lit_transformer.files import expanded

_FORMAT = "lines 1"  # part of the cache's name: raise it when the content of the cache changes
_BLOCKS_PER_BATCH = 10_000
[_COLUMN] = LINE_SCHEMA.names


@dataclass(frozen=True, kw_only=True)
class LineReport:
    """How many lines of a corpus were kept and dropped, and how many tokens the kept ones have, `EOS_ID` included."""

    num_lines: int
    num_kept: int
    dropped_empty: int
    dropped_long: int
    num_tokens: int
    num_unknown: int
    num_blocks: int
    """0 if each line is a row of its own."""

    def __str__(self) -> str:
        long = "" if self.num_blocks else f", {self.dropped_long:,} too long"
        blocks = f" in {self.num_blocks:,} blocks" if self.num_blocks else ""
        return (
            f"{self.num_kept:,} of {self.num_lines:,} lines kept; dropped: {self.dropped_empty:,} empty{long}\n"
            f"{self.num_tokens:,} tokens{blocks} ({self.num_unknown:,} unknown)"
        )


class TokenizedLines(NamedTuple):
    """Training lines as tokens."""

    path: Path
    """The file for `TokenStore`: integer lists in the column `text`."""
    report: LineReport


def tokenize_lines(
    text: Text, tokenizer: Tokenizer, *, max_length: int, block_length: int | None, cache_dir: Path
) -> TokenizedLines:
    """Tokenize a corpus for training, or find it in the cache.

    Args:
        text: The corpus. It is loaded only if the cache does not have its tokens.
        tokenizer: The vocabulary.
        max_length: Lines with more tokens than this (`EOS_ID` included) are dropped, unless they are cut into blocks.
        block_length: Tokens of a block, if lines are put one after the other and cut. See `cut_blocks`. None if each
            line is a row.
        cache_dir: Where the result is kept.

    Raises:
        UserError: No line is left, or the cache cannot be written.
    """
    settings = (_FORMAT, text.fingerprint, max_length if block_length is None else None, block_length)
    key = hashlib.blake2b(repr(settings).encode() + tokenizer.model_bytes, digest_size=16).hexdigest()
    tokens_path = expanded(cache_dir) / "tokens" / f"{key}.arrow"
    report_path = tokens_path.with_suffix(".json")

    def make() -> None:
        with sealed_file(tokens_path) as unfinished:
            report = _tokenize(text, tokenizer, max_length, block_length, unfinished)
        with sealed_file(report_path) as unfinished:
            unfinished.write_text(json.dumps(asdict(report)), encoding="utf-8")

    make_once(tokens_path, is_ready=lambda: seems_whole(tokens_path) and is_whole(report_path), make=make)
    return TokenizedLines(tokens_path, LineReport(**json.loads(report_path.read_text(encoding="utf-8"))))


def cut_blocks(tokens: IntArray, block_length: int) -> list[IntArray]:
    """Cut a text into blocks. Each has the token before its first one in front, the first block an `EOS_ID`.

    Args:
        tokens: The text: all its lines one after the other, each with its `EOS_ID`.
        block_length: Tokens of a block without the one in front. The last block may be shorter.
    """
    with_begin = np.insert(tokens, 0, EOS_ID)
    return [with_begin[begin : begin + block_length + 1] for begin in range(0, len(tokens), block_length)]


def _tokenize(text: Text, tokenizer: Tokenizer, max_length: int, block_length: int | None, path: Path) -> LineReport:
    lines = text.load()
    with tokenized(lines, [tokenizer], beside=path) as tokens:
        lengths = pc.list_value_length(tokens[_COLUMN]).to_numpy()
        empty = lengths <= 1
        long = ~empty & (lengths > max_length) & (block_length is None)
        kept = tokens.filter(pa.array(~(empty | long)))
        if len(kept) == 0:
            raise UserError(
                f"none of the {len(lines):,} lines is left to train on: {empty.sum():,} are empty, {long.sum():,} are "
                f"longer than max_length {max_length}; raise it or correct the corpus"
            )
        flat = pc.list_flatten(kept[_COLUMN]).to_numpy()
        if block_length is None:
            batches: Iterator[pa.RecordBatch] = iter(kept.to_batches())
        else:
            batches = _blocks(flat, block_length, tokens.schema)
        write_arrow(path, tokens.schema, joined(batches))
    return LineReport(
        num_lines=len(lines),
        num_kept=len(kept),
        dropped_empty=int(empty.sum()),
        dropped_long=int(long.sum()),
        num_tokens=len(flat),
        num_unknown=int((flat == UNK_ID).sum()),
        num_blocks=0 if block_length is None else -(-len(flat) // block_length),
    )


def _blocks(flat: IntArray, block_length: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    size = block_length * _BLOCKS_PER_BATCH
    item_type = schema.field(_COLUMN).type.value_type
    for begin in range(0, len(flat), size):
        blocks = cut_blocks(flat[begin : begin + size], block_length)
        if begin:
            blocks[0][0] = flat[begin - 1]
        offsets = np.cumsum([0, *map(len, blocks)], dtype=np.int32)
        values = pa.array(np.concatenate(blocks).astype(item_type.to_pandas_dtype()), item_type)
        yield pa.record_batch([pa.ListArray.from_arrays(pa.array(offsets), values)], schema=schema)
