"""Coverage of held-out text: references that a vocabulary can write exactly, and characters that it lacks."""

import re
from collections import Counter
from dataclasses import dataclass

from datasets import Dataset

from lit_transformer.batch import UNK_ID
from lit_transformer.characters import has_content, listed
from lit_transformer.data.text import PairCounts, count_pairs, sample
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.notes import counted

MAX_INEXACT = 0.01
"""Largest share of references that cannot be written exactly without a warning."""
_SPACES = re.compile("[ \n]+")


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a split's text a vocabulary can write."""

    split: str
    counts: PairCounts
    num_references: int
    num_exact: int
    """References that decode to themselves. Line feeds and repeated spaces count as one space, as in the scores."""
    unknown: Counter[str]
    """Characters of both sides without a token, and how often each occurs."""

    def __str__(self) -> str:
        share = self.num_exact / self.num_references if self.num_references else 1.0
        found = counted(self.unknown.total(), "unknown character")
        if self.unknown:
            found += f" ({listed(self.unknown)})"
        references = f"{self.num_exact:,} of {self.num_references:,} references ({share:.1%})"
        return f"{self.split}: {self.counts}; {references} can be written exactly; {found}"

    @property
    def warning(self) -> str | None:
        """What to change, if more references than `MAX_INEXACT` cannot be written exactly."""
        num_inexact = self.num_references - self.num_exact
        if num_inexact <= MAX_INEXACT * self.num_references:
            return None
        remedy = (
            "with byte_fallback true or a higher character_coverage" if self.unknown else "with normalization identity"
        )
        return (
            f"no model with this vocabulary can write {num_inexact:,} of {self.num_references:,} {self.split} "
            f"references exactly: learn one {remedy}, or use another tokenizer"
        )


def measure_coverage(pairs: Dataset, vocabularies: Vocabularies, *, split: str) -> Coverage:
    """Encode and decode the references of a split, and count the unknown characters of both sides.

    A large split is sampled.

    Args:
        pairs: Text in the columns `source` and `target`.
        vocabularies: The vocabularies of both sides.
        split: Name of the split, for the report.
    """
    sources, targets = sample(pairs).values()
    references = [_SPACES.sub(" ", text.strip()) if has_content(text) else "" for text in targets]
    source_ids, encoded = vocabularies.source.encode(sources), vocabularies.target.encode(references)
    decoded = vocabularies.target.decode(encoded)
    return Coverage(
        split=split,
        counts=count_pairs(pairs),
        num_references=len(references),
        num_exact=sum(text == reference for text, reference in zip(decoded, references, strict=True)),
        unknown=count_unknown(sources, source_ids, vocabularies.source)
        + count_unknown(references, encoded, vocabularies.target),
    )


def count_unknown(texts: list[str], encoded: list[list[int]], tokenizer: Tokenizer) -> Counter[str]:
    """Count the characters of encoded texts that have no token."""
    unwritable = (text for text, ids in zip(texts, encoded, strict=True) if UNK_ID in ids)
    return Counter(character for text in unwritable for run in tokenizer.unknown(text) for character in run)
