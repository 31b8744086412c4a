"""From text to tokens for training: tokenized in parallel, filtered, counted, cached.

A cache entry is named after the text and the settings, so the same work is never done twice, and changed text is never
mistaken for old text. This module knows no batches and no model.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from lit_transformer.batch import UNK_ID
from lit_transformer.data.arrow_file import write_arrow
from lit_transformer.data.cache import is_whole, make_once, sealed_file, seems_whole
from lit_transformer.data.text import PAIR_SCHEMA, Text, count_pairs
from lit_transformer.data.tokenizing import joined, tokenized
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.files import expanded

_FORMAT = "4"  # part of the cache's name: raise it when the content of the cache changes


@dataclass(frozen=True, kw_only=True)
class PreparationReport:
    """How many pairs of a corpus were kept and dropped, and how many tokens the kept ones have, `EOS_ID` included."""

    num_pairs: int
    num_multiline: int
    num_kept: int
    dropped_empty: int
    dropped_long: int
    dropped_ratio: int
    num_source_tokens: int
    num_target_tokens: int
    num_source_unknown: int
    num_target_unknown: int

    def __str__(self) -> str:
        multiline = f"; {self.num_multiline:,} have a line break in a sentence" if self.num_multiline else ""
        return (
            f"{self.num_kept:,} of {self.num_pairs:,} pairs kept{multiline}; dropped: {self.dropped_empty:,} with an "
            f"empty side, {self.dropped_long:,} too long, {self.dropped_ratio:,} with too different lengths\n"
            f"{self.num_source_tokens:,} source tokens ({self.num_source_unknown:,} unknown), "
            f"{self.num_target_tokens:,} target tokens ({self.num_target_unknown:,} unknown)"
        )


class TokenizedPairs(NamedTuple):
    """Training pairs as tokens."""

    path: Path
    """The file for `TokenStore`: integer lists in the columns `source` and `target`, each ending with `EOS_ID`. A large
    one may be damaged, because it is not read from end to end before it is used: see `LateCheck`."""
    report: PreparationReport

    @property
    def fingerprint(self) -> str:
        """Identifies the tokens."""
        return self.path.stem


def tokenize_pairs(
    text: Text,
    vocabularies: Vocabularies,
    *,
    max_length: int,
    max_length_ratio: float,
    cache_dir: Path,
    num_proc: int | None = None,
) -> TokenizedPairs:
    """Tokenize a corpus for training, or find it in the cache.

    Args:
        text: The corpus. It is loaded only if the cache does not have its tokens.
        vocabularies: The vocabularies of both sides.
        max_length: Pairs with more tokens than this on either side (`EOS_ID` included) are dropped.
        max_length_ratio: Pairs whose longer side has more than this many times the tokens of the shorter are
            dropped.
        cache_dir: Where the result is kept.
        num_proc: Number of processes. By default one per core, at most 8, and fewer for a small corpus.

    Raises:
        UserError: No pair is left, or the cache cannot be written.
    """
    key = _key(text, vocabularies, max_length, max_length_ratio)
    tokens_path = expanded(cache_dir) / "tokens" / f"{key}.arrow"
    report_path = tokens_path.with_suffix(".json")

    def make() -> None:
        with sealed_file(tokens_path) as unfinished:
            report = _tokenize(text.load(), vocabularies, max_length, max_length_ratio, unfinished, num_proc)
        with sealed_file(report_path) as unfinished:
            unfinished.write_text(json.dumps(asdict(report)), encoding="utf-8")

    make_once(tokens_path, is_ready=lambda: seems_whole(tokens_path) and is_whole(report_path), make=make)
    report = PreparationReport(**json.loads(report_path.read_text(encoding="utf-8")))
    return TokenizedPairs(tokens_path, report)


def _key(text: Text, vocabularies: Vocabularies, max_length: int, max_length_ratio: float) -> str:
    settings: tuple[object, ...] = (_FORMAT, text.fingerprint, max_length, float(max_length_ratio))
    models = vocabularies.target.model_bytes
    if not vocabularies.are_shared:
        settings += (len(models),)
        models += vocabularies.source.model_bytes
    return hashlib.blake2b(repr(settings).encode() + models, digest_size=16).hexdigest()


def _tokenize(
    pairs: Dataset,
    vocabularies: Vocabularies,
    max_length: int,
    max_length_ratio: float,
    path: Path,
    num_proc: int | None,
) -> PreparationReport:
    """Write the kept pairs to `path`."""
    with tokenized(pairs, tuple(vocabularies), beside=path, num_proc=num_proc) as tokens:
        counts: Counter[str] = Counter(num_pairs=len(pairs), num_multiline=count_pairs(pairs).num_multiline)
        kept = _kept_batches(tokens.to_batches(), max_length, max_length_ratio, counts)
        write_arrow(path, tokens.schema, joined(kept))
    return PreparationReport(**counts)


def _kept_batches(
    batches: list[pa.RecordBatch], max_length: int, max_length_ratio: float, counts: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs to train on, and add to `counts` the fields of the report. A dropped pair counts once."""
    for batch in batches:
        source, target = (pc.list_value_length(batch[name]).to_numpy() for name in PAIR_SCHEMA.names)
        shorter, longer = np.minimum(source, target), np.maximum(source, target)
        empty = shorter <= 1
        long = ~empty & (longer > max_length)
        uneven = ~empty & ~long & (longer > max_length_ratio * shorter)
        kept = batch.filter(pa.array(~(empty | long | uneven)))
        counts["num_kept"] += len(kept)
        for reason, mask in (("empty", empty), ("long", long), ("ratio", uneven)):
            counts[f"dropped_{reason}"] += int(mask.sum())
        for name in PAIR_SCHEMA.names:
            tokens = kept[name].flatten().to_numpy()
            counts[f"num_{name}_tokens"] += len(tokens)
            counts[f"num_{name}_unknown"] += int((tokens == UNK_ID).sum())
        yield kept
    if counts["num_kept"] == 0:
        raise UserError(
            f"none of the {counts['num_pairs']:,} pairs is left to train on: {counts['dropped_empty']:,} have an empty "
            f"side, {counts['dropped_long']:,} are longer than max_length {max_length}, {counts['dropped_ratio']:,} "
            f"exceed max_length_ratio {max_length_ratio:g}; raise these limits or correct the corpus"
        )
