"""The layers of encoder and decoder (section 3.1, figure 1).

Legend: B batch, S source length, T target length, L length, N rows (batch x beams), D d_model, F d_ff.
"""

from torch import Tensor, nn

from lit_transformer.model.attention import Attend, CrossAttention, KeysValues, SelfAttention
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.dropout import Dropout
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import Positions


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2 at each position alike (section 3.3, equation 2)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.d_model, config.d_ff)
        self.outer = nn.Linear(config.d_ff, config.d_model)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, states_BLD: Tensor) -> Tensor:
        return self.outer(self.inner(states_BLD).relu())


class AddNorm(nn.Module):
    """Residual connection, dropout and layer normalisation around a sub-layer (sections 3.1, 5.4).

    Used in two halves, `output = add_norm.leave(states, sublayer(add_norm.enter(states)))`:
    post: norm(x + dropout(sublayer(x))); pre: x + dropout(sublayer(norm(x))).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def enter(self, states_BLD: Tensor) -> Tensor:
        return self.norm(states_BLD) if self.pre else states_BLD

    def leave(self, states_BLD: Tensor, output_BLD: Tensor) -> Tensor:
        added_BLD = states_BLD + self.dropout(output_BLD)
        return added_BLD if self.pre else self.norm(added_BLD)


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config)
        self.self_attention_norm = AddNorm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = AddNorm(config)

    def forward(self, states_BSD: Tensor, mask: Mask, positions: Positions, attend: Attend) -> Tensor:
        output_BSD = self.self_attention(self.self_attention_norm.enter(states_BSD), mask, positions, attend)
        states_BSD = self.self_attention_norm.leave(states_BSD, output_BSD)
        output_BSD = self.feed_forward(self.feed_forward_norm.enter(states_BSD))
        return self.feed_forward_norm.leave(states_BSD, output_BSD)


class DecoderLayer(nn.Module):
    """Masked self-attention, attention to the source, then the feed-forward network."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config)
        self.self_attention_norm = AddNorm(config)
        self.cross_attention = CrossAttention(config)
        self.cross_attention_norm = AddNorm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = AddNorm(config)

    def forward(
        self,
        states_BTD: Tensor,
        self_mask: Mask,
        positions: Positions,
        source: KeysValues,
        source_mask: Mask,
        attend: Attend,
    ) -> Tensor:
        output_BTD = self.self_attention(self.self_attention_norm.enter(states_BTD), self_mask, positions, attend)
        states_BTD = self.self_attention_norm.leave(states_BTD, output_BTD)
        return self._attend_to_source(states_BTD, source, source_mask, attend)

    def step(
        self,
        states_N1D: Tensor,
        past: KeysValues,
        self_mask: Mask,
        positions: Positions,
        source: KeysValues,
        source_mask: Mask,
        attend: Attend,
    ) -> tuple[Tensor, KeysValues]:
        """One more target position. The beams of a sentence are rows side by side and share its source."""
        entered_N1D = self.self_attention_norm.enter(states_N1D)
        output_N1D, present = self.self_attention.step(entered_N1D, past, self_mask, positions, attend)
        states_N1D = self.self_attention_norm.leave(states_N1D, output_N1D)
        # Seen from the source, the beams of a sentence are queries side by side: its keys are read once, never copied.
        states_BLD = states_N1D.unflatten(0, (source.key_BHMK.shape[0], -1)).squeeze(2)
        states_BLD = self._attend_to_source(states_BLD, source, source_mask, attend)
        return states_BLD.flatten(0, 1)[:, None], present

    def _attend_to_source(self, states_BLD: Tensor, source: KeysValues, source_mask: Mask, attend: Attend) -> Tensor:
        entered_BLD = self.cross_attention_norm.enter(states_BLD)
        output_BLD = self.cross_attention(entered_BLD, source, source_mask, attend)
        states_BLD = self.cross_attention_norm.leave(states_BLD, output_BLD)
        output_BLD = self.feed_forward(self.feed_forward_norm.enter(states_BLD))
        return self.feed_forward_norm.leave(states_BLD, output_BLD)
