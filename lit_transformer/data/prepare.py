"""Pairs of text to pairs of token lists for training: tokenized in parallel, filtered, counted, cached.

The cache is named after the text and the settings, so the same work is never done twice and changed text is
never mistaken for old. It knows no batches and no model.
"""

import hashlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features

from lit_transformer.batch import EOS_ID, UNK_ID
from lit_transformer.data.arrow_file import is_whole, make_once, open_arrow, sealed_file, seems_whole, write_arrow
from lit_transformer.data.text_folder import Text
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.files import UNFINISHED, expanded

_COLUMNS = ("source", "target")
_BATCH_SIZE = 10_000
_MIN_PAIRS_PER_PROCESS = 50_000  # about a second of work, which a process must be worth
_BYTES_TOGETHER = 2**27
_MOST_PROCESSES = 8  # 0.4 GB each: together they stay below 4 GB, whatever the machine has
_FORMAT = "2"  # part of the cache's name: raise it when the content of the cache changes


@dataclass(frozen=True, kw_only=True)
class PreparationReport:
    """What became of a corpus; tokens and unknown pieces are those of the kept pairs, `EOS_ID` counted."""

    num_pairs: int
    num_kept: int
    dropped_empty: int
    dropped_long: int
    dropped_ratio: int
    num_source_tokens: int
    num_target_tokens: int
    num_source_unknown: int
    num_target_unknown: int

    def __str__(self) -> str:
        return (
            f"{self.num_kept:,} of {self.num_pairs:,} pairs kept; dropped {self.dropped_empty:,} with an "
            f"empty side, {self.dropped_long:,} too long, {self.dropped_ratio:,} of too different lengths\n"
            f"{self.num_source_tokens:,} source tokens ({self.num_source_unknown:,} unknown), "
            f"{self.num_target_tokens:,} target tokens ({self.num_target_unknown:,} unknown)"
        )


class TokenizedPairs(NamedTuple):
    """Integer lists in the columns `source` and `target`, each ending with `EOS_ID`, and what was dropped."""

    dataset: Dataset
    report: PreparationReport
    path: Path
    """The file of `dataset`, for `LateCheck`: a large one is not read from end to end here."""


def tokenize_pairs(
    text: Text,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    max_length_ratio: float,
    cache_dir: Path,
    num_proc: int | None = None,
) -> TokenizedPairs:
    """Tokenize a corpus for training, or find it in the cache.

    Args:
        text: As `find_text` gives it; it is read only where the cache has nothing.
        tokenizer: The vocabulary of both languages.
        max_length: Pairs with more tokens than this on either side (`EOS_ID` counted) are dropped.
        max_length_ratio: Pairs whose longer side has more than this many times the tokens of the shorter are
            dropped.
        cache_dir: Where the result is kept.
        num_proc: Processes to tokenize with; by default as many as there are cores, up to 8, and text enough for them.
    """
    key = _key(text, tokenizer, max_length, max_length_ratio)
    tokens_path = expanded(cache_dir) / "tokens" / f"{key}.arrow"
    report_path = tokens_path.with_suffix(".json")

    def make() -> None:
        with sealed_file(tokens_path) as unfinished:
            report = _tokenize(text.load(), tokenizer, max_length, max_length_ratio, unfinished, num_proc)
        with sealed_file(report_path) as unfinished:
            unfinished.write_text(json.dumps(asdict(report)), encoding="utf-8")

    make_once(tokens_path, is_ready=lambda: seems_whole(tokens_path) and is_whole(report_path), make=make)
    report = PreparationReport(**json.loads(report_path.read_text(encoding="utf-8")))
    return TokenizedPairs(open_arrow(tokens_path, fingerprint=key), report, tokens_path)


def _key(text: Text, tokenizer: Tokenizer, max_length: int, max_length_ratio: float) -> str:
    settings = (_FORMAT, text.fingerprint, max_length, float(max_length_ratio))
    return hashlib.blake2b(repr(settings).encode() + tokenizer.model_bytes, digest_size=16).hexdigest()


def _tokenize(
    pairs: Dataset,
    tokenizer: Tokenizer,
    max_length: int,
    max_length_ratio: float,
    path: Path,
    num_proc: int | None,
) -> PreparationReport:
    """Write the kept pairs to `path`; all pairs, tokenized, lie in a scratch folder meanwhile."""
    item_type = pa.uint16() if tokenizer.vocab_size <= 2**16 else pa.int32()
    schema = pa.schema([(name, pa.list_(item_type)) for name in _COLUMNS])
    if num_proc is None:
        num_proc = min(_num_cores(), _MOST_PROCESSES, len(pairs) // _MIN_PAIRS_PER_PROCESS)
    # Named after the file, so that what a kill leaves is removed with it.
    with TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.", suffix=UNFINISHED) as scratch:
        tokenized = pairs.with_format("arrow").map(
            _encode_batch,
            fn_kwargs={"tokenizer": tokenizer, "schema": schema, "main_process": os.getpid()},
            batched=True,
            batch_size=_BATCH_SIZE,
            writer_batch_size=_BATCH_SIZE,
            features=Features.from_arrow_schema(schema),
            cache_file_name=f"{scratch}/all.arrow",
            new_fingerprint="tokenized",
            num_proc=num_proc if num_proc > 1 else None,
            desc="Tokenizing",
        )
        counts: Counter[str] = Counter(num_pairs=len(pairs))
        batches = tokenized.with_format("arrow")[:].to_batches()
        write_arrow(path, schema, _joined(_kept_batches(batches, max_length, max_length_ratio, counts)))
    return PreparationReport(**counts)


def _num_cores() -> int:
    """Cores that this process may use, which on a shared machine may be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _encode_batch(table: pa.Table, tokenizer: Tokenizer, schema: pa.Schema, main_process: int) -> pa.Table:
    if os.getpid() != main_process:
        # A terminal sends Ctrl-C to all processes: the main one answers it, and ends the others by SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    columns = []
    for name in _COLUMNS:
        sequences = tokenizer.encode(table[name].to_pylist())
        for ids in sequences:
            ids.append(EOS_ID)
        offsets = np.zeros(len(sequences) + 1, np.int32)
        np.cumsum([len(ids) for ids in sequences], out=offsets[1:])
        item_type = schema.field(name).type.value_type
        # Four times as fast as pa.array on lists of lists.
        values = np.fromiter(chain.from_iterable(sequences), item_type.to_pandas_dtype(), count=offsets[-1])
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, item_type)))
    return pa.table(columns, schema=schema)


def _kept_batches(
    batches: list[pa.RecordBatch], max_length: int, max_length_ratio: float, counts: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """The pairs to train on; `counts` gets the fields of the report, a dropped pair under one reason only."""
    for batch in batches:
        source, target = (pc.list_value_length(batch[name]).to_numpy() for name in _COLUMNS)
        shorter, longer = np.minimum(source, target), np.maximum(source, target)
        empty = shorter <= 1
        long = ~empty & (longer > max_length)
        unlike = ~empty & ~long & (longer > max_length_ratio * shorter)
        kept = batch.filter(pa.array(~(empty | long | unlike)))
        counts["num_kept"] += len(kept)
        for reason, mask in (("empty", empty), ("long", long), ("ratio", unlike)):
            counts[f"dropped_{reason}"] += int(mask.sum())
        for name in _COLUMNS:
            tokens = kept[name].flatten().to_numpy()
            counts[f"num_{name}_tokens"] += len(tokens)
            counts[f"num_{name}_unknown"] += int((tokens == UNK_ID).sum())
        yield kept
    if counts["num_kept"] == 0:
        raise UserError(
            f"none of the {counts['num_pairs']:,} pairs is left to train on: "
            f"{counts['dropped_empty']:,} have an empty side, {counts['dropped_long']:,} more than "
            f"{max_length} tokens, {counts['dropped_ratio']:,} a length ratio above {max_length_ratio:g}; "
            "raise these limits or correct the corpus"
        )


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Fewer and larger ones: where rows begin, which is read at every start, is then in few places of the disk."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.nbytes for each in waiting) >= _BYTES_TOGETHER:
            yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()
            waiting.clear()
    if waiting:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()
