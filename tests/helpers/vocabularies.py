"""Models with one vocabulary per side, made from a model with a shared one."""

from collections.abc import Iterable, Sequence

import torch

from lit_transformer import Translator
from lit_transformer.batch import EOS_ID, PAD_ID
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.model.transformer import Transformer

NUM_UNUSED = 3


class Renumbered(Tokenizer):
    """The same tokens with other ids. It is for sources, so nothing may be decoded."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer.model_bytes)
        size, num_special = super().vocab_size, EOS_ID + 1
        order = torch.randperm(size - num_special + NUM_UNUSED, generator=torch.Generator().manual_seed(1))
        self.new_ids: list[int] = [*range(num_special), *(num_special + order[: size - num_special]).tolist()]

    @property
    def vocab_size(self) -> int:
        return super().vocab_size + NUM_UNUSED

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        return [[self.new_ids[token_id] for token_id in ids] for ids in super().encode_words(words)]

    def tokens(self, ids: list[int]) -> list[str]:
        return super().tokens(self._former(ids))

    def has_known(self, ids: Iterable[int]) -> bool:
        return super().has_known(self._former(ids))

    def decode(self, sequences: list[list[int]]) -> list[str]:
        raise AssertionError("a source is decoded")

    def _former(self, ids: Iterable[int]) -> list[int]:
        return [self.new_ids.index(token_id) for token_id in ids]


def with_renumbered_source(translator: Translator) -> Translator:
    """The same translator with a source vocabulary of its own, whose embedding has the rows of the shared one."""
    source, shared = Renumbered(translator.tokenizer), translator.transformer
    weight = shared.embedding.weight
    rows = torch.full((source.vocab_size, weight.shape[1]), torch.nan, dtype=weight.dtype)
    rows[source.new_ids] = weight.detach().cpu()
    transformer = Transformer(
        shared.config, vocab_size=shared.vocab_size, pad_id=PAD_ID, source_vocab_size=source.vocab_size
    ).to(weight.dtype)
    transformer.load_state_dict({**shared.state_dict(), "source_embedding.weight": rows})
    return Translator(
        transformer, Vocabularies(source, translator.tokenizer), device=str(translator.device), source="en", target="de"
    )
