"""Two vocabularies that are one, or one per side."""

import pickle

import pytest

from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError


def learn(text: str) -> Tokenizer:
    return Tokenizer.train([text], vocab_size=4 + len(set(text)) + 1, character_coverage=1.0)


def test_a_shared_vocabulary_stays_one_in_another_process() -> None:
    shared = Vocabularies.shared(learn("abcdef"))
    for vocabularies in (shared, pickle.loads(pickle.dumps(shared))):
        assert vocabularies.are_shared
        assert vocabularies.tokenizer is vocabularies.source
        assert vocabularies.source_vocab_size is None


def test_equal_vocabularies_are_two_if_they_were_given_as_two() -> None:
    """The model has two embeddings."""
    text = "abcdef"
    separate = Vocabularies(learn(text), learn(text))
    for vocabularies in (separate, pickle.loads(pickle.dumps(separate))):
        assert not vocabularies.are_shared
        assert vocabularies.source_vocab_size == vocabularies.source.vocab_size
        with pytest.raises(UserError, match=r"vocabularies\.source"):
            _ = vocabularies.tokenizer
