"""Who may attend to whom (section 3.2.3), as a value that every attention kernel reads in its own way.

Legend: B batch, H heads, L query length, M key length.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Mask:
    """Which keys a query may attend to, and what is added to its scores by distance.

    Positions count from the end: query i of L stands at key M - L + i. So one mask holds for a whole sequence, for a
    part of it whose earlier keys are cached, and for one step. `Mask()` lets every query attend to every key.
    """

    causal: bool = False
    """Whether a query may attend to keys at its own position and before it only."""
    keys_BM: Tensor | None = None
    """True where there is a key, False at padding. None if there is known to be no padding."""
    distance_bias: Callable[[Tensor], Tensor] | None = None
    """Maps query position minus key position, L x M, to what is added to the scores, H x L x M."""
    _biases: dict[tuple[int, int], Tensor | None] = field(default_factory=dict, init=False, repr=False)
    """The additive forms made so far: all layers share them."""

    @property
    def only_causal(self) -> bool:
        """Whether the mask is causal and nothing else, which fused kernels apply without a mask tensor."""
        return self.causal and self.keys_BM is None and self.distance_bias is None

    def bias(self, length: int, keys: int, device: torch.device) -> Tensor | None:
        """The additive form in float32, broadcastable to B x H x L x M; None if every query may attend to every key.

        Args:
            length: L.
            keys: M, at least L.
            device: Where the scores are.
        """
        if (length, keys) not in self._biases:
            parts = self._parts(length, keys, device)
            self._biases[length, keys] = reduce(torch.add, parts) if parts else None
        return self._biases[length, keys]

    def _parts(self, length: int, keys: int, device: torch.device) -> list[Tensor]:
        parts = []
        if self.keys_BM is not None:
            nothing_BM = torch.zeros(self.keys_BM.shape, dtype=torch.float32, device=device)
            parts.append(nothing_BM.masked_fill_(~self.keys_BM, float("-inf"))[:, None, None])
        if self.causal and length > 1:  # the last position may attend to all keys
            future_LM = torch.full((length, keys), float("-inf"), dtype=torch.float32, device=device)
            parts.append(future_LM.triu_(keys - length + 1))
        if self.distance_bias is not None:
            query_L = torch.arange(keys - length, keys, dtype=torch.float32, device=device)
            key_M = torch.arange(keys, dtype=torch.float32, device=device)
            parts.append(self.distance_bias(query_L[:, None] - key_M))
        return parts

    def take(self, row_B: Tensor) -> Self:
        """The mask of these rows of the batch."""
        keys_BM = None if self.keys_BM is None else self.keys_BM[row_B]
        return type(self)(causal=self.causal, keys_BM=keys_BM, distance_bias=self.distance_bias)
