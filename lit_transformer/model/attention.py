"""Scaled dot-product attention and its multi-head form (sections 3.2.1, 3.2.2).

How queries, keys and values become an output is a function handed in (`Attend`): the fast one for training and
translating, `WeightRecorder` for looking at the weights. A test holds them equal.

Legend: B batch, S source length, L query length, M key length, D d_model, H heads, K head dimension d_k or d_v.
"""

from collections.abc import Callable, Container
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import Positions

Attend = Callable[[Tensor, Tensor, Tensor, Mask], Tensor]
"""(query BHLK, key BHMK, value BHMK, mask) -> BHLK."""


class KeysValues(NamedTuple):
    """What attention looks at, by head."""

    key_BHMK: Tensor
    value_BHMK: Tensor


def attention_weights(query_BHLK: Tensor, key_BHMK: Tensor, mask: Mask) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)) of equation (1), B x H x L x M."""
    score_BHLM = (query_BHLK * query_BHLK.shape[-1] ** -0.5) @ key_BHMK.transpose(-1, -2)
    bias = mask.bias(query_BHLK.shape[2], key_BHMK.shape[2], query_BHLK.device)
    if bias is not None:
        score_BHLM = score_BHLM + bias.to(score_BHLM.dtype)
    return score_BHLM.softmax(dim=-1)


def attend(query_BHLK: Tensor, key_BHMK: Tensor, value_BHMK: Tensor, mask: Mask) -> Tensor:
    """Equation (1) by the fastest way that the device has: the fused kernel, but on CPUs.

    On CPUs, for sentences, the fused kernel's backward pass takes 8 times as long as equation (1) written out in
    bfloat16, as long in float32, and 5 times as long for one query.
    """
    if query_BHLK.device.type == "cpu":
        return attention_weights(query_BHLK, key_BHMK, mask).to(value_BHMK.dtype) @ value_BHMK
    return fused_attention(query_BHLK, key_BHMK, value_BHMK, mask)


def fused_attention(query_BHLK: Tensor, key_BHMK: Tensor, value_BHMK: Tensor, mask: Mask) -> Tensor:
    """Equation (1) by PyTorch's fused kernel, which is fastest without a mask tensor."""
    length, keys = query_BHLK.shape[2], key_BHMK.shape[2]
    # `is_causal` counts positions from the start, so it is right for equal lengths only (pytorch #108108).
    if mask.only_causal and length == keys:
        return F.scaled_dot_product_attention(query_BHLK, key_BHMK, value_BHMK, is_causal=True)
    bias = mask.bias(length, keys, query_BHLK.device)
    if bias is not None:
        bias = bias.to(query_BHLK.dtype)
    return F.scaled_dot_product_attention(query_BHLK, key_BHMK, value_BHMK, attn_mask=bias)


class WeightRecorder:
    """An `Attend` that also keeps the weights of chosen calls; the others take the fast way and leave nothing.

    Args:
        calls: Numbers of the calls whose weights are kept, from 0; all when left out.
    """

    def __init__(self, calls: Container[int] | None = None) -> None:
        self.weights: dict[int, Tensor] = {}
        """B x H x L x M by the number of the call."""
        self._calls = calls
        self._num_calls = 0

    def __call__(self, query_BHLK: Tensor, key_BHMK: Tensor, value_BHMK: Tensor, mask: Mask) -> Tensor:
        call = self._num_calls
        self._num_calls += 1
        if self._calls is not None and call not in self._calls:
            return attend(query_BHLK, key_BHMK, value_BHMK, mask)
        weight_BHLM = attention_weights(query_BHLK, key_BHMK, mask)
        self.weights[call] = weight_BHLM
        return weight_BHLM.to(value_BHMK.dtype) @ value_BHMK


def split_heads(states_BLX: Tensor, num_heads: int) -> Tensor:
    """B x L x (H K) -> B x H x L x K."""
    return states_BLX.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(heads_BHLK: Tensor) -> Tensor:
    """B x H x L x K -> B x L x (H K)."""
    return heads_BHLK.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself (section 3.2.2).

    The projections W^Q, W^K, W^V of all heads lie in one matrix, in this order, so that one product makes them all.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.sizes = [config.num_heads * size for size in (config.key_size, config.key_size, config.value_size)]
        self.query_key_value = nn.Linear(config.d_model, sum(self.sizes), bias=False)
        self.output = nn.Linear(self.sizes[2], config.d_model, bias=False)
        for weight in self.query_key_value.weight.split(self.sizes):
            nn.init.xavier_uniform_(weight)
        nn.init.xavier_uniform_(self.output.weight)

    def forward(self, states_BLD: Tensor, mask: Mask, positions: Positions, attend: Attend) -> Tensor:
        query_BHLK, key_BHLK, value_BHLK = self._project(states_BLD, positions, start=0)
        return self.output(merge_heads(attend(query_BHLK, key_BHLK, value_BHLK, mask)))

    def step(
        self, states_N1D: Tensor, past: KeysValues, mask: Mask, positions: Positions, attend: Attend
    ) -> tuple[Tensor, KeysValues]:
        """One more position after `past`; returns the output and the past with this position in it."""
        query_NH1K, key_NH1K, value_NH1K = self._project(states_N1D, positions, start=past.key_BHMK.shape[2])
        present = KeysValues(
            torch.cat([past.key_BHMK, key_NH1K], dim=2), torch.cat([past.value_BHMK, value_NH1K], dim=2)
        )
        return self.output(merge_heads(attend(query_NH1K, *present, mask))), present

    def _project(self, states_BLD: Tensor, positions: Positions, start: int) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.query_key_value(states_BLD).split(self.sizes, dim=-1)
        query_BHLK, key_BHLK, value_BHLK = (split_heads(part, self.num_heads) for part in parts)
        return positions.rotate(query_BHLK, start), positions.rotate(key_BHLK, start), value_BHLK


class CrossAttention(nn.Module):
    """Multi-head attention of the decoder to the encoder's output (section 3.2.3, first bullet)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.sizes = [config.num_heads * size for size in (config.key_size, config.value_size)]
        self.query = nn.Linear(config.d_model, self.sizes[0], bias=False)
        self.key_value = nn.Linear(config.d_model, sum(self.sizes), bias=False)
        self.output = nn.Linear(self.sizes[1], config.d_model, bias=False)
        for weight in (self.query.weight, *self.key_value.weight.split(self.sizes), self.output.weight):
            nn.init.xavier_uniform_(weight)

    def keys_values(self, memory_BSD: Tensor) -> KeysValues:
        """Keys and values of the source: the same for every target position, so computed once a sentence."""
        key_BSX, value_BSX = self.key_value(memory_BSD).split(self.sizes, dim=-1)
        return KeysValues(split_heads(key_BSX, self.num_heads), split_heads(value_BSX, self.num_heads))

    def forward(self, states_BLD: Tensor, source: KeysValues, mask: Mask, attend: Attend) -> Tensor:
        query_BHLK = split_heads(self.query(states_BLD), self.num_heads)
        return self.output(merge_heads(attend(query_BHLK, *source, mask)))
