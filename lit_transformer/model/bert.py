"""BERT (Devlin et al. 2019): one stack that attends both ways and predicts the tokens behind masks.

Legend: B batch, L query length, D d_model, M key length.
"""

from collections.abc import Collection

from torch import Tensor, nn

from lit_transformer.model.attention import zero_biases
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.embeddings import Embedding, Output
from lit_transformer.model.layers import make_activation, make_norm
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import make_positions
from lit_transformer.model.stack import Stack

BERT_BASE = TransformerConfig(
    d_model=768, d_ff=3072, num_heads=12, num_layers=12, positions="learned", max_positions=512, activation="gelu",
    attention_bias=True, norm_epsilon=1e-12, embedding_norm=True, scale_embedding=False, output_bias=True)  # fmt: skip
"""The base model. Its vocabulary has 30,522 tokens in lower case, or 28,996 in both cases."""


class BERT(nn.Module):
    """A masked language model.

    Args:
        config: The architecture.
        vocab_size: Tokens in the vocabulary.
        pad_id: The id that fills up short rows. No row may be padding alone.
        num_segments: Segments that a row may have, such as the two sentences of a pair.
    """

    def __init__(self, config: TransformerConfig, *, vocab_size: int, pad_id: int, num_segments: int = 2) -> None:
        super().__init__()
        self.config, self.vocab_size, self.pad_id = config, vocab_size, pad_id
        self.embedding, self.output = Embedding(vocab_size, config), Output(vocab_size, config)
        self.segment_embedding = Embedding(num_segments, config)
        self.stack = Stack(config, make_positions(config))
        self.head, self.head_norm = nn.Linear(config.d_model, config.d_model), make_norm(config)
        self.activation = make_activation(config)
        nn.init.xavier_uniform_(self.head.weight)
        zero_biases(self.head)

    def forward(self, token_BL: Tensor, segment_BL: Tensor | None = None) -> Tensor:
        """Logits of the token at every position, B x L x V. By default, all is in segment 0."""
        return self.output(self.states(token_BL, segment_BL), self.embedding.weight)

    def states(self, token_BL: Tensor, segment_BL: Tensor | None = None) -> Tensor:
        """The states from which the tokens are predicted, B x L x D."""
        segments = self.segment_embedding(token_BL.new_zeros(1, 1) if segment_BL is None else segment_BL)
        states_BLD = self.stack(self.embedding(token_BL) + segments, Mask(keys_BM=token_BL != self.pad_id))
        return self.head_norm(self.activation(self.head(states_BLD)))

    def attention_maps(
        self, token_BL: Tensor, segment_BL: Tensor | None = None, layers: Collection[int] | None = None
    ) -> dict[int, Tensor]:
        """The weights of all heads, B x H x L x L per layer. `layers` are those to keep, by default all."""
        return self.stack.attention_maps(lambda: self.states(token_BL, segment_BL), layers)
