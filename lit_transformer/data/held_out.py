"""Validation pairs, or lines of one language, that are held out of the training text of a corpus.

Which pairs are held out depends on the text alone, and not on its order. All pairs with the same source are on one
side, so a source sentence of validation is never seen in training. Case and spaces do not make a source another one.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from lit_transformer.characters import has_content
from lit_transformer.data.cache import cached_file
from lit_transformer.data.text import PAIR_SCHEMA, Text, cached_text, tables
from lit_transformer.errors import UserError

_FORMAT = "held out 1"  # part of the cache's names: change it if other pairs are to be held out


def hold_out(text: Text, number: int, *, schema: pa.Schema = PAIR_SCHEMA, cache_dir: Path) -> tuple[Text, Text]:
    """Split text in two.

    Args:
        text: The training pairs of a corpus.
        number: How many pairs to hold out. There are fewer only if sources that occur often leave no other choice.
            Pairs with an empty side stay in training, which drops and counts them.
        schema: The columns of the text. The first one decides which rows are the same.
        cache_dir: Where the parts are kept.

    Returns:
        The pairs to train on, and the pairs that are held out, in the order of the corpus. Loading them raises
        UserError if no pair would be left to train on.
    """
    name = hashlib.blake2b(repr((_FORMAT, text.fingerprint, number)).encode(), digest_size=16).hexdigest()
    rows_path = cache_dir / "text" / f"{name}.rows"

    def batches(held_out: bool) -> Iterator[pa.RecordBatch]:
        pairs = text.load()
        cached_file(rows_path, lambda unfinished: unfinished.write_bytes(_choose(pairs, number).tobytes()))
        chosen = np.zeros(len(pairs), bool)
        chosen[np.frombuffer(rows_path.read_bytes(), np.int64)] = True
        for start, table in tables(pairs):
            yield from table.filter(pa.array(chosen[start : start + len(table)] == held_out)).to_batches()

    training, validation = (cache_dir / "text" / f"{name}-{part}.arrow" for part in ("train", "valid"))
    return (
        cached_text(training, partial(batches, False), schema=schema),
        cached_text(validation, partial(batches, True), schema=schema),
    )


def _choose(pairs: Dataset, number: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the rows of the pairs to hold out.

    Sources are taken in the order of their hashes. A source whose pairs are more than are still needed is left out.
    """
    hashes = np.zeros(len(pairs), np.uint64)
    usable = np.zeros(len(pairs), bool)
    for start, table in tables(pairs):
        columns = [table[name].to_pylist() for name in pairs.column_names]
        keys = [" ".join(source.casefold().split()) for source in columns[0]]
        digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
        rows = slice(start, start + len(table))
        hashes[rows] = np.frombuffer(digests, "<u8")
        usable[rows] = [all(map(has_content, row)) for row in zip(*columns, strict=True)]
    kind, where, key_name = ("pairs", " on both sides", "source") if len(columns) > 1 else ("lines", "", "line")
    if number >= usable.sum():
        raise UserError(
            f"valid_{kind} is {number:,}, but only {usable.sum():,} training {kind} have text{where}: hold out fewer, "
            "so that some are left to train on"
        )
    chosen, missing = [], number
    for key, count in zip(*np.unique(hashes[usable], return_counts=True), strict=True):
        if count <= missing:
            chosen.append(key)
            missing -= count
        if not missing:
            break
    if not chosen:
        raise UserError(
            f"valid_{kind} is {number:,}, but every {key_name} is in more training {kind} than that: hold out more"
        )
    return np.flatnonzero(usable & np.isin(hashes, np.array(chosen, np.uint64)))
