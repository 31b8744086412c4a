"""What all tokenizers do, whoever made them. `Tokenizer`, which is SentencePiece with the ids of `batch.py`, is one."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class SpecialIds(NamedTuple):
    """The ids of special tokens. None if a tokenizer has no such token."""

    bos: int | None
    """Begins a sequence. BERT's `[CLS]`, for example."""
    eos: int | None
    """Ends a sequence. BERT's `[SEP]`, for example."""
    pad: int | None
    """Fills short sequences."""
    mask: int | None
    """Stands for tokens that are to be restored."""


class TextTokenizer(Protocol):
    """From text to token ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, without special tokens around it."""

    def decode(self, sequences: list[list[int]]) -> list[str]:
        """Return the text of each sequence."""

    def tokens(self, ids: list[int]) -> list[str]:
        """Return tokens as people read them: U+2581 marks the beginning of a word."""
