"""Sliding-window attention: queries in blocks, and a cache that keeps what windows reach.

Full attention has L x M scores. Blocks of queries, each with the keys that its windows reach, have a number of scores
that grows with L alone.

Legend: B batch, L query length, M key length, H heads, K head dimension, N rows (batch x beams), X any size.
"""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_SIZE = 32
"""Queries per block, at least. Smaller products are slower."""
ALIGNMENT = 8
"""Fused kernels of GPUs read masks whose rows have a multiple of this many keys."""


class Blocks(NamedTuple):
    """How L queries that stand at the end of M keys are cut. The keys of a block are all that its queries may see."""

    length: int
    """L."""
    keys: int
    """M."""
    size: int
    """Queries of a block. The last one is filled up."""
    before: int
    """Keys of a block in front of its first query."""
    after: int
    """Keys of a block behind its last query."""

    @classmethod
    def cut(cls, length: int, keys: int, window: int, *, causal: bool) -> Self:
        """Blocks of half a window. Smaller ones copy keys more often, and larger ones compute more hidden scores."""
        reach = -(-(window - 1) // ALIGNMENT) * ALIGNMENT
        size = max(LEAST_SIZE, window // 2)
        return cls(length, keys, size, reach, 0 if causal else reach)

    @property
    def num_blocks(self) -> int:
        """Blocks of a row."""
        return -(-self.length // self.size)

    @property
    def span(self) -> int:
        """Keys of a block."""
        return self.before + self.size + self.after

    def split_queries(self, heads_BHLK: Tensor) -> Tensor:
        """The queries of each block, (B x blocks) x H x size x K. Zeros fill the last one up."""
        filled_BHLK = F.pad(heads_BHLK, (0, 0, 0, self.num_blocks * self.size - self.length))
        return filled_BHLK.unflatten(2, (self.num_blocks, self.size)).transpose(1, 2).flatten(0, 1)

    def split_keys(self, heads_BHMK: Tensor) -> Tensor:
        """The keys of each block, (B x blocks) x H x span x K. There are zeros where there is no key."""
        first = self.keys - self.length - self.before
        end = first + (self.num_blocks - 1) * self.size + self.span
        # A negative number crops keys that no window reaches.
        padded_BHMK = F.pad(heads_BHMK, (0, 0, -first, end - self.keys))
        return padded_BHMK.unfold(2, self.span, self.size).permute(0, 2, 1, 4, 3).flatten(0, 1)

    def split_row(self, row_BM: Tensor) -> Tensor:
        """A fact about each key for the keys of each block, (B x blocks) x span."""
        return self.split_keys(row_BM[:, None, :, None])[:, 0, :, 0]

    def join(self, heads_XHXK: Tensor) -> Tensor:
        """What was computed for the queries of each block, in rows again, B x H x L x K."""
        return heads_XHXK.unflatten(0, (-1, self.num_blocks)).transpose(1, 2).flatten(2, 3)[:, :, : self.length]


class RecentKeysValues(NamedTuple):
    """The keys and values that the windows of later positions reach. Those of older positions are dropped."""

    key_BHMK: Tensor
    value_BHMK: Tensor
    num_positions: int
    """Positions so far, with those that were dropped."""

    @classmethod
    def keep(cls, key_BHMK: Tensor, value_BHMK: Tensor, num_positions: int, window: int) -> Self:
        """The last window - 1 positions. Their memory is that of no more than two windows."""
        first = max(0, key_BHMK.shape[2] - (window - 1))
        key_BHMK, value_BHMK = key_BHMK[:, :, first:], value_BHMK[:, :, first:]
        if first > window:  # A copy at every step would take longer than the step.
            key_BHMK, value_BHMK = key_BHMK.clone(), value_BHMK.clone()
        return cls(key_BHMK, value_BHMK, num_positions)

    def append(self, others: tuple[Tensor, Tensor]) -> Self:
        """These keys and values, followed by those of later positions."""
        key_BHMK, value_BHMK = (torch.cat(pair, dim=2) for pair in zip(self[:2], others, strict=True))
        return type(self)(key_BHMK, value_BHMK, self.num_positions + others[0].shape[2])

    def take(self, row_N: Tensor) -> Self:
        """The keys and values of these rows."""
        key_BHMK, value_BHMK = (heads.index_select(0, row_N) for heads in self[:2])
        return type(self)(key_BHMK, value_BHMK, self.num_positions)

    def recent(self, window: int | None) -> Self:
        """What the windows of later positions reach."""
        assert window is not None
        return self.keep(self.key_BHMK, self.value_BHMK, self.num_positions, window)
