"""GPT-2 (Radford et al. 2019): one causal stack that predicts the next token.

Legend: B batch, L query length, D d_model, N rows (batch x beams).
"""

from collections.abc import Collection

from torch import Tensor, nn

from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.embeddings import Embedding, Output
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import make_positions
from lit_transformer.model.stack import DecoderState, Stack

GPT2 = TransformerConfig(
    d_model=768, d_ff=3072, num_heads=12, num_layers=12, norm="pre", positions="learned",
    activation="gelu_tanh", attention_bias=True, scale_embedding=False)  # fmt: skip
"""The smallest of the four models. Their vocabulary has 50,257 tokens."""


class GPT(nn.Module):
    """A language model.

    Args:
        config: The architecture.
        vocab_size: Tokens in the vocabulary.
    """

    def __init__(self, config: TransformerConfig, *, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.embedding, self.output = Embedding(vocab_size, config), Output(vocab_size, config)
        self.stack = Stack(config, make_positions(config, causal=True))

    def forward(self, token_BL: Tensor) -> Tensor:
        """Logits of the next token at every position, B x L x V. Padding at the end needs no mask."""
        return self.output(self.states(token_BL), self.embedding.weight)

    def states(self, token_BL: Tensor) -> Tensor:
        """The states from which the next tokens are predicted, B x L x D."""
        return self.stack(self.embedding(token_BL), Mask(causal=True))

    def start(self, *, beam_size: int = 1) -> DecoderState:
        """The state before the first token, with `beam_size` rows per sentence."""
        return DecoderState(beam_size)

    def read(self, token_NL: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Reads more tokens per row, such as prompts of one length. Returns what `step` returns."""
        cache = dict(state.cache)
        states_NLD = self.stack(self.embedding(token_NL), Mask(causal=True), cache=cache)
        return self.output(states_NLD[:, -1], self.embedding.weight), DecoderState(state.beam_size, cache=cache)

    def step(self, token_N: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Reads one more token per row. Returns the logits of the next token, N x V, and the next state."""
        return self.read(token_N[:, None], state)

    def attention_maps(self, token_BL: Tensor, layers: Collection[int] | None = None) -> dict[int, Tensor]:
        """The weights of all heads, B x H x L x L per layer. `layers` are those to keep, by default all."""
        return self.stack.attention_maps(lambda: self.states(token_BL), layers)
