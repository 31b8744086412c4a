"""Coverage of held-out text: references that a vocabulary can write exactly, and characters that it lacks."""

import re
from collections import Counter
from dataclasses import dataclass

from datasets import Dataset

from lit_transformer.batch import UNK_ID
from lit_transformer.data.tokenizer import Tokenizer

MOST_PAIRS = 10_000
"""Of a larger split about this many pairs are measured, evenly spread over it."""
NAMED_CHARACTERS = 10
MANY_INEXACT = 0.01
"""Largest share of inexact references without a warning."""
_SPACES = re.compile(" {2,}")


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a split's text a vocabulary can write."""

    split: str
    num_references: int
    num_exact: int
    """References that decode to themselves. Repeated spaces count as one, as in the scores."""
    unknown: Counter[str]
    """Characters of both sides without a token, and how often each occurs."""

    def __str__(self) -> str:
        share = self.num_exact / self.num_references if self.num_references else 1.0
        found = f"{self.unknown.total():,} unknown characters"
        if self.unknown:
            found += f" ({_listed(self.unknown)})"
        references = f"{self.num_exact:,} of {self.num_references:,} {self.split} references ({share:.1%})"
        return f"{references} can be written exactly; {found}"

    @property
    def warning(self) -> str | None:
        """What to change if many references cannot be written."""
        num_inexact = self.num_references - self.num_exact
        if num_inexact <= MANY_INEXACT * self.num_references:
            return None
        remedy = (
            "set data.byte_fallback to true or raise data.character_coverage"
            if self.unknown
            else "set data.normalization to identity"
        )
        return (
            f"no model with this vocabulary can write {num_inexact:,} of {self.num_references:,} {self.split} "
            f"references exactly: {remedy}, or use another data.tokenizer"
        )


def measure_coverage(pairs: Dataset, tokenizer: Tokenizer, *, split: str) -> Coverage:
    """Encode and decode a split's references, and count the characters of both sides that are unknown.

    Args:
        pairs: Text in the columns `source` and `target`.
        tokenizer: The vocabulary.
        split: The split's name.
    """
    rows = pairs[:: -(-len(pairs) // MOST_PAIRS) or 1]
    sources, references = list(rows["source"]), [_SPACES.sub(" ", text.strip()) for text in rows["target"]]
    encoded = tokenizer.encode(references)
    decoded = tokenizer.decode(encoded)
    all_ids = [*tokenizer.encode(sources), *encoded]
    unwritable = [text for text, ids in zip([*sources, *references], all_ids, strict=True) if UNK_ID in ids]
    characters = Counter(character for text in unwritable for character in text)
    known = dict(zip(characters, tokenizer.encode(list(characters)), strict=True))
    return Coverage(
        split=split,
        num_references=len(references),
        num_exact=sum(text == reference for text, reference in zip(decoded, references, strict=True)),
        unknown=Counter({character: count for character, count in characters.items() if UNK_ID in known[character]}),
    )


def _listed(unknown: Counter[str]) -> str:
    """The most frequent ones with their counts; those that cannot be seen by their code points."""
    most = unknown.most_common(NAMED_CHARACTERS)
    names = [
        f"{character if character.isprintable() else f'U+{ord(character):04X}'} {count:,}" for character, count in most
    ]
    return ", ".join([*names, "..."] if len(unknown) > len(most) else names)
