"""Rows of text as tokens, in one column or two. It does not know what is kept of them."""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from lit_transformer.batch import EOS_ID
from lit_transformer.data.text import BATCH_SIZE, LINE_SCHEMA, bars_on_terminals
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.files import UNFINISHED
from lit_transformer.machine import usable_cores
from lit_transformer.notes import counted
from lit_transformer.progress import announce

_MIN_ROWS_PER_PROCESS = 50_000  # about a second of work: for less, starting a process does not pay
RECORD_BATCH_BYTES = 2**27
_MAX_PROCESSES = 8  # 0.4 GB each, below 4 GB together


@contextmanager
def tokenized(
    rows: Dataset, tokenizers: Sequence[Tokenizer], *, beside: Path, num_proc: int | None = None
) -> Iterator[pa.Table]:
    """Tokenize text in parallel. The tokens are in a scratch folder until the context ends.

    Args:
        rows: The text.
        tokenizers: The tokenizer of each column.
        beside: A file that is being written. The scratch folder is beside it.
        num_proc: Number of processes. By default one per core, at most 8, and fewer for a small corpus.

    Yields:
        Lists of integers in the columns of the text, each ending with `EOS_ID`.
    """
    item_type = pa.uint16() if max(tokenizer.vocab_size for tokenizer in tokenizers) <= 2**16 else pa.int32()
    schema = pa.schema([(name, pa.list_(item_type)) for name in rows.column_names])
    if num_proc is None:
        num_proc = min(usable_cores(), _MAX_PROCESSES, len(rows) // _MIN_ROWS_PER_PROCESS)
    kind = "line" if rows.column_names == LINE_SCHEMA.names else "pair"
    announce(f"tokenizing {counted(len(rows), kind)}", len(rows))
    # Named after the file, so that `remove_unfinished` removes it after a kill.
    with (
        TemporaryDirectory(dir=beside.parent, prefix=f"{beside.name}.", suffix=UNFINISHED) as scratch,
        bars_on_terminals(),
    ):
        tokens = rows.with_format("arrow").map(
            _encode_batch,
            fn_kwargs={"tokenizers": tuple(tokenizers), "schema": schema, "main_process": os.getpid()},
            batched=True,
            batch_size=BATCH_SIZE,
            writer_batch_size=BATCH_SIZE,
            features=Features.from_arrow_schema(schema),
            cache_file_name=f"{scratch}/all.arrow",
            new_fingerprint="tokenized",
            num_proc=num_proc if num_proc > 1 else None,
            desc="Tokenizing",
        )
        yield tokens.with_format("arrow")[:].replace_schema_metadata(None)


def _encode_batch(table: pa.Table, tokenizers: Sequence[Tokenizer], schema: pa.Schema, main_process: int) -> pa.Table:
    if os.getpid() != main_process:
        # A terminal sends Ctrl-C to all processes. The main one handles it and ends the others by SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    columns = []
    for name, tokenizer in zip(schema.names, tokenizers, strict=True):
        sequences = tokenizer.encode(table[name].to_pylist())
        for ids in sequences:
            ids.append(EOS_ID)
        offsets = np.zeros(len(sequences) + 1, np.int32)
        np.cumsum([len(ids) for ids in sequences], out=offsets[1:])
        item_type = schema.field(name).type.value_type
        # Four times as fast as `pa.array` of nested lists.
        values = np.fromiter(chain.from_iterable(sequences), item_type.to_pandas_dtype(), count=offsets[-1])
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, item_type)))
    return pa.table(columns, schema=schema)


def joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Make fewer and larger record batches, so that the offsets, which every start reads, are in few places on disk."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.nbytes for each in waiting) >= RECORD_BATCH_BYTES:
            yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()
            waiting.clear()
    if waiting:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()
