"""Text that makes scores misleading: held-out sentences in the training text, subwords or tokens in place of text."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from lit_transformer.data.cache import cached_file
from lit_transformer.data.text import Text, sample, tables

MAX_KNOWN = 0.01
"""Largest share of held-out sentences in the training text without a warning."""
MAX_SUBWORD_LINES = 0.05
"""Largest share of lines with marks of subwords without a warning."""
MAX_TOKENIZED_LINES = 0.1
"""Largest share of references that end with a space and a period without a warning."""
SUBWORD_MARKS = {
    "@@": (re.compile(r"\w@@( |$)"), "sed -E 's/@@( |$)//g'"),
    "▁": (re.compile("▁"), "sed 's/ //g; s/▁/ /g; s/^ //'"),
    "￭": (re.compile("￭"), "sed -E 's/ ?￭ ?//g'"),
}
"""The marks of subword-nmt, SentencePiece and OpenNMT, and the command that joins the subwords."""
_FORMAT = "1"  # part of the cache's name: raise it when the content of the cache changes


class _Known(NamedTuple):
    """Where a source sentence first stands in the training text, and all its translations there."""

    line: int
    targets: set[str]


def find_text_warnings(train: Text, held_out: Mapping[str, Text], *, cache_dir: Path) -> list[str]:
    """Return what is wrong with the text of a corpus, each with its remedy. The result is cached.

    Args:
        train: The training text. It is loaded only if the result is not in the cache.
        held_out: The other splits by name.
        cache_dir: Folder of the cache.

    Raises:
        UserError: The cache cannot be written.
    """
    content = (_FORMAT, train.fingerprint, *((split, text.fingerprint) for split, text in held_out.items()))
    key = hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()

    def write(unfinished: Path) -> None:
        pairs, others = train.load(), {split: text.load() for split, text in held_out.items()}
        found = _known_warnings(pairs, others)
        samples: dict[str, Sequence[str]] = {}
        for split, rows in {"training": pairs, **others}.items():
            samples |= {f"{split} {side}": sentences for side, sentences in sample(rows).items()}
        found += subword_warnings(samples)
        unfinished.write_text(json.dumps(found), encoding="utf-8")

    warnings: list[str] = json.loads(cached_file(cache_dir / "quality" / f"{key}.json", write).read_text("utf-8"))
    return warnings


def subword_warnings(texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a warning for each mark of subwords that many sentences have.

    Args:
        texts: Some sentences of each text, by the text's name.
    """
    found = []
    for mark, (pattern, command) in SUBWORD_MARKS.items():
        shares = {
            name: sum(bool(pattern.search(sentence)) for sentence in sentences) / max(len(sentences), 1)
            for name, sentences in texts.items()
        }
        marked = [f"{share:.0%} of the {name}" for name, share in shares.items() if share > MAX_SUBWORD_LINES]
        if marked:
            found.append(
                f"sentences have `{mark}`, the mark of subwords ({', '.join(marked)}): scores of subwords are too "
                f"high. Join them first: {command}"
            )
    return found


def looks_tokenized(references: Sequence[str]) -> bool:
    """Whether references seem to be tokenized: many end with a space and a period."""
    return sum(text.endswith(" .") for text in references) > MAX_TOKENIZED_LINES * len(references)


def _known_warnings(train: Dataset, held_out: Mapping[str, Dataset]) -> list[str]:
    key, *other = train.column_names
    known = _find_known(train, {source for pairs in held_out.values() for source in pairs[key] if source})
    found = []
    for split, pairs in held_out.items():
        lines = [number for number, source in enumerate(pairs[key]) if source in known]
        if len(lines) <= MAX_KNOWN * len(pairs):
            continue
        sources, kind, same = pairs[lines][key], "line", ""
        if other:
            rows = zip(sources, pairs[lines][other[0]], strict=True)
            num_pairs = sum(target in known[source].targets for source, target in rows)
            kind, same = "pair", f", {num_pairs:,} with the same target"
        found.append(
            f"{len(lines):,} of {len(pairs):,} {split} {'sources' if other else 'lines'} stand in the training text"
            f"{same}: scores are too high. Remove them from the training text. The first is {split} {kind} "
            f"{lines[0] + 1:,} and training {kind} {known[sources[0]].line:,}: {sources[0][:100]}"
        )
    return found


def _find_known(train: Dataset, wanted: Iterable[str]) -> dict[str, _Known]:
    """Find sentences among the sources of the training text. Arrow compares them, at millions per second."""
    known: dict[str, _Known] = {}
    values = pa.array(wanted, pa.string())
    for begin, table in tables(train):
        rows = np.flatnonzero(pc.is_in(table[0].cast(pa.string()), value_set=values))
        matches = table.take(rows)
        pairs = zip(rows.tolist(), matches[0].to_pylist(), matches[-1].to_pylist(), strict=True)
        for row, source, target in pairs:
            known.setdefault(source, _Known(begin + row + 1, set())).targets.add(target)
    return known
