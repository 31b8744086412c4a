"""The vocabularies of source and target: one that both share (section 5.1), or one per side."""

from collections.abc import Sequence
from typing import NamedTuple

from lit_transformer.batch import EOS_ID, Batch, make_batch, pad
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError


class Vocabularies(NamedTuple):
    """The tokenizers of both sides. A shared vocabulary is the same object twice."""

    source: Tokenizer
    target: Tokenizer

    @classmethod
    def shared(cls, tokenizer: Tokenizer) -> "Vocabularies":
        """One vocabulary for both sides."""
        return cls(tokenizer, tokenizer)

    @property
    def are_shared(self) -> bool:
        """Whether both sides have the same vocabulary."""
        return self.source is self.target

    @property
    def have_same_tokens(self) -> bool:
        """Whether both sides have the same tokens, so that one matrix embeds both.

        The sides may still split text in different ways, as those of a Marian model do. Two copies of one vocabulary
        count as two, because models were trained with them.
        """
        source, target = self
        return self.are_shared or (source.model_bytes != target.model_bytes and source.has_tokens_of(target))

    @property
    def source_vocab_size(self) -> int | None:
        """Number of tokens that only the source has, or None if they are the target's."""
        return None if self.have_same_tokens else self.source.vocab_size

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary that both sides share.

        Raises:
            UserError: Each side has its own.
        """
        if not self.are_shared:
            raise UserError("each side has a vocabulary of its own: take vocabularies.source or vocabularies.target")
        return self.target

    def batch(self, pairs: Sequence[tuple[str, str]]) -> Batch:
        """A batch of sentence pairs, source first. A `DataLoader` of pairs takes this function as its `collate_fn`."""
        return make_batch(
            *(
                pad([[*ids, EOS_ID] for ids in side.encode(texts)])
                for side, texts in zip(self, zip(*pairs, strict=True), strict=True)
            )
        )
