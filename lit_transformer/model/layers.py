"""The layer that encoder and decoder are made of (section 3.1, figure 1).

Legend: B batch, L query length, D d_model.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.model.attention import Cache, CrossAttention, Rotation, SelfAttention, Source, zero_biases
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.dropout import Dropout
from lit_transformer.model.masks import Mask

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


def make_norm(config: TransformerConfig) -> nn.LayerNorm | nn.RMSNorm:
    """The normalization of d_model features that the configuration names."""
    kind = nn.RMSNorm if config.norm_type == "rms" else nn.LayerNorm
    return kind(config.d_model, eps=config.norm_epsilon)


def make_activation(config: TransformerConfig) -> Callable[[Tensor], Tensor]:
    """The activation that the configuration names, without its gate if it has one."""
    return ACTIVATIONS[config.activation.removeprefix("gated_")]


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2, the same at each position (section 3.3, equation 2), or with another activation.

    A gated activation multiplies the activation of one half of W1 by the other half.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.is_gated = config.activation.startswith("gated_")
        self.activation = make_activation(config)
        self.inner = nn.Linear(config.d_model, config.d_ff * (1 + self.is_gated), bias=config.feed_forward_bias)
        self.outer = nn.Linear(config.d_ff, config.d_model, bias=config.feed_forward_bias)
        for weight in (*self.inner.weight.split(config.d_ff), self.outer.weight):
            nn.init.xavier_uniform_(weight)
        zero_biases(self.inner, self.outer)

    def forward(self, states_BLD: Tensor) -> Tensor:
        inner = self.inner(states_BLD)
        if not self.is_gated:
            return self.outer(self.activation(inner))
        activated, gate = inner.chunk(2, dim=-1)
        return self.outer(self.activation(activated) * gate)


class AddNorm(nn.Module):
    """Residual connection, dropout and layer normalization around a sub-layer (sections 3.1, 5.4)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.norm = make_norm(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, states_BLD: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre:
            return states_BLD + self.dropout(sublayer(self.norm(states_BLD)))
        return self.norm(states_BLD + self.dropout(sublayer(states_BLD)))


class Layer(nn.Module):
    """Self-attention, attention to the source if there is one, and the feed-forward network (figure 1).

    Args:
        config: The architecture.
        attends_to_source: Whether the layer has cross-attention, as in the decoder.
    """

    def __init__(self, config: TransformerConfig, *, attends_to_source: bool) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config)
        self.self_attention_norm = AddNorm(config)
        if attends_to_source:
            self.cross_attention = CrossAttention(config)
            self.cross_attention_norm = AddNorm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = AddNorm(config)

    def forward(
        self,
        states_BLD: Tensor,
        mask: Mask,
        *,
        rotate: Rotation | None = None,
        cache: Cache | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """Without a cache, a whole sequence. With one, the positions that come after those in the cache.

        Args:
            states_BLD: The output of the layer below.
            mask: Who may attend to whom in self-attention.
            rotate: What the position scheme does to queries and keys of self-attention.
            cache: Keys and values of earlier positions. Those of `states_BLD` are appended.
            source: What cross-attention attends to.
        """
        states_BLD = self.self_attention_norm(
            states_BLD, lambda x_BLD: self.self_attention(x_BLD, mask, rotate=rotate, cache=cache)
        )
        if source is not None:
            states_BLD = self.cross_attention_norm(states_BLD, lambda x_BLD: self.cross_attention(x_BLD, source))
        return self.feed_forward_norm(states_BLD, self.feed_forward)
