"""Scaled dot-product attention and its multi-head form (section 3.2.1, section 3.2.2, figure 2).

Legend: B batch, S source length, T target length, L query length, M key length, D d_model, H heads, K head dimension, N
rows (batch x beams), X any size.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.window import Blocks, RecentKeysValues

FUSED_KERNELS = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.OVERRIDEABLE,
    SDPBackend.MATH,
]
"""PyTorch's kernels, except cuDNN's, which PyTorch prefers on an H100. It builds a plan for each new shape, and nearly
every batch has one: training was 8 times slower until all shapes had occurred (docs/gpu.md)."""

BLOCKS_FROM = 3
"""Blocks pay for more queries than this many times the keys of a block, as measured on a CPU for windows of 4 to 64."""

Rotation = Callable[[Tensor], Tensor]
"""What a position scheme does to queries and keys: BHLK -> BHLK."""


class KeysValues(NamedTuple):
    """What attention attends to, by head."""

    key_BHMK: Tensor
    value_BHMK: Tensor

    def append(self, others: "KeysValues") -> Self:
        """These keys and values, followed by those of later positions."""
        return type(self)(*(torch.cat(pair, dim=2) for pair in zip(self, others, strict=True)))

    def take(self, row_N: Tensor) -> Self:
        """The keys and values of these rows."""
        return type(self)(self.key_BHMK.index_select(0, row_N), self.value_BHMK.index_select(0, row_N))

    @property
    def num_positions(self) -> int:
        """M."""
        return self.key_BHMK.shape[2]

    def recent(self, window: int | None) -> "Past":
        """What the windows of later positions reach, or all if there is no window."""
        return self if window is None else RecentKeysValues.keep(*self, self.num_positions, window)


class Past(Protocol):
    """What a cache holds: `KeysValues`, or another form of them (`RecentKeysValues`, `FixedKeysValues`)."""

    @property
    def key_BHMK(self) -> Tensor: ...
    @property
    def value_BHMK(self) -> Tensor: ...
    @property
    def num_positions(self) -> int:
        """Positions so far, with those that were dropped."""

    def append(self, others: KeysValues) -> Self:
        """The keys and values with those of later positions."""

    def take(self, row_N: Tensor) -> Self:
        """The keys and values of these rows."""

    def recent(self, window: int | None) -> "Past":
        """What the windows of later positions reach, or all if there is no window."""


Cache = dict[nn.Module, Past]
"""Keys and values of the positions so far, by the self-attention that made them."""


class Source(NamedTuple):
    """What the decoder attends to, computed once per sentence."""

    keys_values: dict[nn.Module, KeysValues]
    """By the cross-attention that made them."""
    mask: Mask
    """Which source positions exist."""

    def take(self, sentence_B: Tensor) -> Self:
        """The source of these sentences."""
        # By an index, which keeps the order of the axes in memory: in another order, sums round differently.
        keys_values = {
            attention: KeysValues(one.key_BHMK[sentence_B], one.value_BHMK[sentence_B])
            for attention, one in self.keys_values.items()
        }
        return type(self)(keys_values, self.mask.take(sentence_B))


def attention_weights(query_BHLK: Tensor, key_BHMK: Tensor, mask: Mask) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)) of equation (1), B x H x L x M."""
    score_BHLM = (query_BHLK * query_BHLK.shape[-1] ** -0.5) @ key_BHMK.transpose(-1, -2)
    bias = mask.bias(query_BHLK.shape[2], key_BHMK.shape[2], query_BHLK.device)
    if bias is not None:
        score_BHLM = score_BHLM + bias.to(score_BHLM.dtype)
    return score_BHLM.softmax(dim=-1)


def attend(query_BHLK: Tensor, key_BHMK: Tensor, value_BHMK: Tensor, mask: Mask) -> Tensor:
    """Equation (1) in the fastest way that the device has: the fused kernel, except on CPUs and for packed rows.

    On a CPU, the backward pass of the fused kernel takes as long as that of equation (1) written out in float32, and 8
    times as long in bfloat16. For a single query the kernel takes 5 times as long.
    """
    if mask.packing is not None:
        return packed_attention(query_BHLK, key_BHMK, value_BHMK, mask)
    if mask.window is not None and mask.query_L is None:
        blocks = Blocks.cut(query_BHLK.shape[2], key_BHMK.shape[2], mask.window, causal=mask.causal)
        if query_BHLK.shape[2] > BLOCKS_FROM * blocks.span:
            return attention_in_blocks(query_BHLK, key_BHMK, value_BHMK, mask, blocks)
    if query_BHLK.device.type == "cpu":
        return attention_weights(query_BHLK, key_BHMK, mask).to(value_BHMK.dtype) @ value_BHMK
    return fused_attention(query_BHLK, key_BHMK, value_BHMK, mask)


def attention_in_blocks(query_BHLK: Tensor, key_BHMK: Tensor, value_BHMK: Tensor, mask: Mask, blocks: Blocks) -> Tensor:
    """Equation (1) within a window, in blocks of queries. Time and memory grow with L, not with L x M."""
    in_blocks = mask.in_blocks(blocks, len(query_BHLK), query_BHLK.device)
    query, key, value = blocks.split_queries(query_BHLK), blocks.split_keys(key_BHMK), blocks.split_keys(value_BHMK)
    return blocks.join(attend(query, key, value, in_blocks))


def fused_attention(query_BHLK: Tensor, key_BHMK: Tensor, value_BHMK: Tensor, mask: Mask) -> Tensor:
    """Equation (1) by PyTorch's fused kernel, which is fastest without a mask tensor."""
    length, keys = query_BHLK.shape[2], key_BHMK.shape[2]
    # `is_causal` counts positions from the start, so it is right only for equal lengths (pytorch #108108).
    is_causal = mask.only_causal and length == keys
    bias = None if is_causal else mask.bias(length, keys, query_BHLK.device)
    if bias is not None:
        bias = bias.to(query_BHLK.dtype)
    with sdpa_kernel(FUSED_KERNELS):
        return F.scaled_dot_product_attention(query_BHLK, key_BHMK, value_BHMK, attn_mask=bias, is_causal=is_causal)


def packed_attention(query_1HLK: Tensor, key_1HMK: Tensor, value_1HMK: Tensor, mask: Mask) -> Tensor:
    """Equation (1) within each sentence of packed rows: by a kernel that knows their borders, or padded for it."""
    assert mask.packing is not None
    queries, keys = mask.packing
    if not fits_varlen(query_1HLK, value_1HMK, mask):
        padded = (queries.unpack(query_1HLK), keys.unpack(key_1HMK), keys.unpack(value_1HMK))
        return queries.pack(attend(*padded, mask.of_sentences))
    # Imported here, because it takes a second of CPU time: it loads PyTorch's compiler.
    from torch.nn.attention.varlen import varlen_attn

    query_LHK, key_MHK, value_MHK = (heads[0].transpose(0, 1) for heads in (query_1HLK, key_1HMK, value_1HMK))
    borders, longest = (queries.borders_X, keys.borders_X), (queries.longest, keys.longest)
    left = -1 if mask.window is None else mask.window - 1
    window = (left, 0 if mask.causal else left)
    output_LHK = varlen_attn(query_LHK, key_MHK, value_MHK, *borders, *longest, window_size=window)
    assert isinstance(output_LHK, Tensor)
    return output_LHK.transpose(0, 1)[None]


def fits_varlen(query_1HLK: Tensor, value_1HMK: Tensor, mask: Mask) -> bool:
    """Whether PyTorch's kernel for packed rows computes this attention: Flash Attention, on GPUs in 16 bits."""
    size = query_1HLK.shape[-1]
    return (
        query_1HLK.is_cuda
        and query_1HLK.dtype in (torch.float16, torch.bfloat16)
        and size == value_1HMK.shape[-1]
        and size % 8 == 0
        and size <= 256
        and mask.distance_bias is None
    )


class ScaledDotProductAttention(nn.Module):
    """Equation (1) as a module (figure 2, left), so that a hook can see what every layer computes.

    `record_weights` registers such hooks.
    """

    def forward(self, query_BHLK: Tensor, key_BHMK: Tensor, value_BHMK: Tensor, mask: Mask) -> Tensor:
        return attend(query_BHLK, key_BHMK, value_BHMK, mask)


def zero_biases(*linears: nn.Linear) -> None:
    """Set the biases of linear layers to zero, if they have any."""
    for linear in linears:
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


def split_heads(states_BLX: Tensor, num_heads: int) -> Tensor:
    """B x L x (H K) -> B x H x L x K."""
    return states_BLX.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(heads_BHLK: Tensor) -> Tensor:
    """B x H x L x K -> B x L x (H K)."""
    return heads_BHLK.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself (section 3.2.2, figure 2).

    The projections W^Q, W^K, W^V of all heads lie in one matrix, in this order. One matrix product
    computes them all.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.sizes = [config.num_heads * size for size in (config.key_size, config.key_size, config.value_size)]
        self.query_key_value = nn.Linear(config.d_model, sum(self.sizes), bias=config.attention_bias)
        self.scaled_dot_product = ScaledDotProductAttention()
        self.output = nn.Linear(self.sizes[2], config.d_model, bias=config.attention_bias)
        for weight in (*self.query_key_value.weight.split(self.sizes), self.output.weight):
            nn.init.xavier_uniform_(weight)
        zero_biases(self.query_key_value, self.output)

    def forward(
        self, states_BLD: Tensor, mask: Mask, *, rotate: Rotation | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Attends to the given positions and to those in the cache, which come before them.

        Args:
            states_BLD: The states that attend to each other.
            mask: Who may attend to whom.
            rotate: What the position scheme does to queries and keys.
            cache: Keys and values of earlier positions. Those of `states_BLD` are appended.
        """
        parts = self.query_key_value(states_BLD).split(self.sizes, dim=-1)
        query_BHLK, key_BHMK, value_BHMK = (split_heads(part, self.num_heads) for part in parts)
        if rotate is not None:
            query_BHLK, key_BHMK = rotate(query_BHLK), rotate(key_BHMK)
        if cache is not None:
            added = KeysValues(key_BHMK, value_BHMK)
            now = past.append(added) if (past := cache.get(self)) else added
            cache[self] = now.recent(mask.window)
            key_BHMK, value_BHMK = now.key_BHMK, now.value_BHMK
        return self.output(merge_heads(self.scaled_dot_product(query_BHLK, key_BHMK, value_BHMK, mask)))


class CrossAttention(nn.Module):
    """Multi-head attention of the decoder to the encoder's output (section 3.2.3, first bullet)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.sizes = [config.num_heads * size for size in (config.key_size, config.value_size)]
        self.query = nn.Linear(config.d_model, self.sizes[0], bias=config.attention_bias)
        self.key_value = nn.Linear(config.d_model, sum(self.sizes), bias=config.attention_bias)
        self.scaled_dot_product = ScaledDotProductAttention()
        self.output = nn.Linear(self.sizes[1], config.d_model, bias=config.attention_bias)
        for weight in (self.query.weight, *self.key_value.weight.split(self.sizes), self.output.weight):
            nn.init.xavier_uniform_(weight)
        zero_biases(self.query, self.key_value, self.output)

    def keys_values(self, memory_BSD: Tensor) -> KeysValues:
        """Keys and values of the source, which are the same for every target position."""
        key_BSX, value_BSX = self.key_value(memory_BSD).split(self.sizes, dim=-1)
        return KeysValues(split_heads(key_BSX, self.num_heads), split_heads(value_BSX, self.num_heads))

    def forward(self, states_NTD: Tensor, source: Source) -> Tensor:
        """The output for every row. In training a row is a sentence (N = B). In beam search a sentence has several."""
        keys_values = source.keys_values[self]
        # The rows of a sentence are queries side by side. So the source's keys are read once and never copied.
        states_BLD = states_NTD.reshape(len(keys_values.key_BHMK), -1, states_NTD.shape[-1])
        query_BHLK = split_heads(self.query(states_BLD), self.num_heads)
        output_BLD = self.output(merge_heads(self.scaled_dot_product(query_BHLK, *keys_values, source.mask)))
        return output_BLD.reshape(states_NTD.shape)


@contextmanager
def record_weights(attentions: Iterable[SelfAttention | CrossAttention]) -> Iterator[dict[nn.Module, Tensor]]:
    """Records the weights of these attentions in a `with` block. The weights of others take no memory.

    Yields:
        The weights that each attention computed last, B x H x L x M.
    """
    weights: dict[nn.Module, Tensor] = {}

    def record(attention: nn.Module, _module: nn.Module, inputs: tuple[Any, ...], _output: Tensor) -> None:
        query_BHLK, key_BHMK, _, mask = inputs
        weights[attention] = attention_weights(query_BHLK, key_BHMK, mask)

    with ExitStack() as hooks:
        for attention in attentions:
            hooks.enter_context(attention.scaled_dot_product.register_forward_hook(partial(record, attention)))
        yield weights
