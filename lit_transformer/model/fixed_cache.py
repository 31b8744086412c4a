"""A decoder's cache whose tensors keep their sizes and their places in memory, as a recorded step of a GPU needs them.

Legend: B batch, H heads, M key length, K head dimension, N rows (batch x beams).
"""

from typing import NamedTuple, Self

from torch import Tensor

from lit_transformer.model.attention import KeysValues


class FixedKeysValues(NamedTuple):
    """Keys and values that have places for later positions from the start. They are written in place.

    Later positions must be hidden by the mask (`Mask.query_L`).
    """

    key_BHMK: Tensor
    value_BHMK: Tensor
    place_1: Tensor
    """The position that is appended next."""

    def append(self, others: KeysValues) -> Self:
        """Write the keys and values of the next position."""
        self.key_BHMK.index_copy_(2, self.place_1, others.key_BHMK)
        self.value_BHMK.index_copy_(2, self.place_1, others.value_BHMK)
        return self

    def take(self, row_N: Tensor) -> Self:
        """Put these rows, as many as there are, in place of all."""
        self.key_BHMK.copy_(self.key_BHMK.index_select(0, row_N))
        self.value_BHMK.copy_(self.value_BHMK.index_select(0, row_N))
        return self

    def recent(self, _window: int | None) -> Self:
        """All, because a mask with a window hides the rest."""
        return self

    @property
    def num_positions(self) -> int:
        """Places. Only the device knows how many are filled, so the caller gives the positions."""
        return self.key_BHMK.shape[2]
