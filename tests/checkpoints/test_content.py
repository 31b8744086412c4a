"""A model is known by its content."""

import torch

from lit_transformer.batch import PAD_ID
from lit_transformer.checkpoints.content import content_digest
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer


def make(*, num_heads: int = 2) -> Transformer:
    torch.manual_seed(1)
    return Transformer(
        TransformerConfig(d_model=6, d_ff=10, num_heads=num_heads, num_layers=1), vocab_size=40, pad_id=PAD_ID
    )


def test_the_digest_depends_on_architecture_weights_and_vocabulary() -> None:
    first, second = (
        Vocabularies.shared(Tokenizer.train(text, vocab_size=30, character_coverage=1.0))
        for text in (["The cat sleeps. A dog eats."] * 9, ["Die Katze schläft. Ein Hund frisst."] * 9)
    )
    other_weight = make()
    with torch.no_grad():
        other_weight.encoder.layers[0].feed_forward.inner.bias[3] = 1e-6
    given = [(make(), first), (other_weight, first), (make(num_heads=3), first), (make(), second)]
    digests = [content_digest(*each) for each in given]
    assert content_digest(make(), first) == digests[0]
    assert len({*digests}) == 4
