"""Coverage of held-out lines of one language: what a vocabulary cannot write."""

from collections import Counter
from dataclasses import dataclass

from datasets import Dataset

from lit_transformer.characters import has_content, listed
from lit_transformer.data.coverage import MAX_INEXACT, count_unknown
from lit_transformer.data.text import LINE_SCHEMA, sample
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.notes import counted


@dataclass(frozen=True, kw_only=True)
class LineCoverage:
    """How much of a split's text a vocabulary can write."""

    split: str
    num_lines: int
    num_sampled: int
    num_empty: int
    """Of the sampled lines, like the others."""
    num_unwritable: int
    """Lines with a character that has no token."""
    unknown: Counter[str]
    """These characters, and how often each occurs."""

    def __str__(self) -> str:
        found = counted(self.unknown.total(), "unknown character")
        if self.unknown:
            found += f" ({listed(self.unknown)})"
        return f"{self.split}: {counted(self.num_lines, 'line')}, {self.num_empty:,} empty; {found}"

    @property
    def warning(self) -> str | None:
        """What to change, if more lines than `MAX_INEXACT` cannot be written."""
        if self.num_unwritable <= MAX_INEXACT * self.num_sampled:
            return None
        return (
            f"{self.num_unwritable:,} of {self.num_sampled:,} {self.split} lines have characters that the vocabulary "
            "lacks: learn one with byte_fallback true or a higher character_coverage, or use another tokenizer"
        )


def measure_line_coverage(lines: Dataset, tokenizer: Tokenizer, *, split: str) -> LineCoverage:
    """Count the characters of a split that a vocabulary lacks. A large split is sampled.

    Args:
        lines: Text in the column `text`.
        tokenizer: The vocabulary.
        split: Name of the split, for the report.
    """
    texts = sample(lines)[LINE_SCHEMA.names[0]]
    encoded = tokenizer.encode(texts)
    unknown = [count_unknown([text], [ids], tokenizer) for text, ids in zip(texts, encoded, strict=True)]
    return LineCoverage(
        split=split,
        num_lines=len(lines),
        num_sampled=len(texts),
        num_empty=sum(not has_content(text) for text in texts),
        num_unwritable=sum(map(bool, unknown)),
        unknown=sum(unknown, Counter()),
    )
