"""Who may attend to whom (section 3.2.3), as a value that every attention kernel reads in its own way.

Legend: B batch, L query length, M key length, H heads, X any size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Self

import torch
from torch import Tensor

from lit_transformer.model.packing import RowPair
from lit_transformer.model.window import Blocks


@dataclass(frozen=True, eq=False, kw_only=True)
class Mask:
    """Which keys a query may attend to, and a bias that is added to its scores and depends on the distance.

    Positions count from the end: query i of L stands at key M - L + i. So one mask holds for a whole sequence, for a
    part of it whose earlier keys are cached, and for one step. `query_L` gives other positions. `Mask()` lets every
    query attend to every key.
    """

    causal: bool = False
    """Whether a query may attend only to keys at its own position and before it."""
    window: int | None = None
    """A query may attend only to keys that are fewer than this many positions away. None if there is no limit."""
    keys_BM: Tensor | None = None
    """True where there is a key, False at padding. None if there is known to be no padding."""
    segments_BM: Tensor | None = None
    """The number of the sequence that each key belongs to, if several are packed in a row. They do not mix."""
    packing: RowPair | None = None
    """The rows of queries and keys if they are packed, each with borders of its own. Sentences do not mix."""
    query_L: Tensor | None = None
    """The key that each query stands at, if there are keys behind the last query. A causal mask hides those."""
    distance_bias: Callable[[Tensor], Tensor] | None = None
    """Maps query position minus key position, L x M, to what is added to the scores, H x L x M."""
    _biases: dict[tuple[int, int], Tensor | None] = field(default_factory=dict, init=False, repr=False)
    """The additive forms made so far, which all layers share."""
    _in_blocks: dict[tuple[Blocks, int], "Mask"] = field(default_factory=dict, init=False, repr=False)
    """The masks of blocks made so far, which all layers share."""

    @property
    def only_causal(self) -> bool:
        """Whether the mask is causal and nothing else, which fused kernels apply without a mask tensor."""
        others = (self.window, self.keys_BM, self.segments_BM, self.packing, self.query_L, self.distance_bias)
        return self.causal and all(other is None for other in others)

    def bias(self, length: int, keys: int, device: torch.device) -> Tensor | None:
        """The additive form in float32, broadcastable to B x H x L x M.

        Args:
            length: L.
            keys: M, at least L.
            device: Where the scores are.

        Returns:
            What is added to the scores, or None if nothing is.
        """
        if torch.compiler.is_compiling():  # a look-up by lengths would tie the graph to them, and it makes a bias once
            return self._make_bias(length, keys, device)
        if (length, keys) not in self._biases:
            self._biases[length, keys] = self._make_bias(length, keys, device)
        return self._biases[length, keys]

    @property
    def of_sentences(self) -> Self:
        """The mask of the padded sentences that packed rows hold."""
        assert self.packing is not None
        # No position before the padding at the end attends to it if the mask is causal.
        return replace(self, packing=None, keys_BM=None if self.causal else self.packing.keys.exists_BL)

    def in_blocks(self, blocks: Blocks, rows: int, device: torch.device) -> "Mask":
        """The mask of the blocks of all rows of a batch. Every block has the same distances."""
        if torch.compiler.is_compiling():
            return self._make_blocks(blocks, rows, device)
        if (blocks, rows) not in self._in_blocks:
            self._in_blocks[blocks, rows] = self._make_blocks(blocks, rows, device)
        return self._in_blocks[blocks, rows]

    def take(self, row_B: Tensor) -> Self:
        """The mask of these rows of the batch."""
        keys_BM, segments_BM = (rows if rows is None else rows[row_B] for rows in (self.keys_BM, self.segments_BM))
        return replace(self, keys_BM=keys_BM, segments_BM=segments_BM)

    def _make_blocks(self, blocks: Blocks, rows: int, device: torch.device) -> "Mask":
        exists_BM, segments_BM = self.keys_BM, self.segments_BM
        if exists_BM is None:
            exists_BM = torch.ones(1, blocks.keys, dtype=torch.bool, device=device)
        if segments_BM is not None:
            segments_BM = blocks.split_row(segments_BM[:, -blocks.keys :].expand(rows, -1))
        return replace(
            self,
            keys_BM=blocks.split_row(exists_BM[:, -blocks.keys :].expand(rows, -1)),
            segments_BM=segments_BM,
            query_L=torch.arange(blocks.before, blocks.before + blocks.size, device=device),
        )

    def _make_bias(self, length: int, keys: int, device: torch.device) -> Tensor | None:
        bias = None
        if allowed := self._conditions(length, keys, device):
            forbidden = ~reduce(torch.logical_and, allowed)
            bias = torch.zeros(forbidden.shape, device=device).masked_fill_(forbidden, float("-inf"))
        if self.distance_bias is not None:
            distance_bias_HLM = self.distance_bias(self._distances(length, keys, device))
            bias = distance_bias_HLM if bias is None else bias + distance_bias_HLM
        return bias

    def _conditions(self, length: int, keys: int, device: torch.device) -> list[Tensor]:
        """Booleans that must all be true where a query may attend to a key, broadcastable to B x H x L x M."""
        conditions = []
        if self.keys_BM is not None:
            exists_B1LM = self.keys_BM[:, None, None, -keys:]
            if self.causal or self.window is not None:
                # Padding attends to itself, because a query without any key would have no weights.
                exists_B1LM = exists_B1LM | (self._distances(length, keys, device) == 0)
            conditions.append(exists_B1LM)
        if self.segments_BM is not None:
            segments_BM = self.segments_BM[:, -keys:]
            segments_BL = segments_BM[:, keys - length :] if self.query_L is None else segments_BM[:, self.query_L]
            conditions.append(segments_BL[:, None, :, None] == segments_BM[:, None, None])
        if self.packing is not None:
            conditions.append(self.packing.same_sentence_XX)
        if self.causal and self.query_L is not None:
            conditions.append(self._distances(length, keys, device) >= 0)
        elif self.causal and length > 1:  # the last position may attend to all keys
            conditions.append(torch.ones(length, keys, dtype=torch.bool, device=device).tril_(keys - length))
        if self.window is not None and keys > self.window:
            conditions.append(self._distances(length, keys, device).abs() < self.window)
        return conditions

    def _distances(self, length: int, keys: int, device: torch.device) -> Tensor:
        """Query position minus key position, L x M."""
        key_M = torch.arange(keys, dtype=torch.float32, device=device)
        query_L = key_M[keys - length :] if self.query_L is None else self.query_L
        return query_L[:, None] - key_M
