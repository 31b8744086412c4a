"""Packed rows: many sentences one after the other in a single row, without padding. Each attends to itself alone.

Legend: B batch, L query length, H heads, K head dimension, X any size.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedRow:
    """Where the B sentences of a row of X tokens lie, and the way to a batch of B padded sentences and back."""

    positions_1X: Tensor
    """The position of each token in its sentence, counted from 0."""
    borders_X: Tensor
    """Sentence i consists of the tokens from borders_X[i] to borders_X[i + 1], without the latter. 32 bits."""
    longest: int
    """No sentence of any row has more tokens. It is the same for all rows, so a compiled graph has it as a number."""
    token_BL: Tensor
    """Which token of the row stands at each position of the padded sentences."""
    exists_BL: Tensor
    """False at padding."""
    place_X: Tensor
    """Where each token of the row stands among the B x L positions of the padded sentences."""

    @classmethod
    def make(cls, positions_1X: Tensor, borders_X: Tensor, columns_X: Tensor, longest: int) -> Self:
        """Make a row.

        Args:
            positions_1X: As above. They are 0 in the sentences that only fill the row.
            borders_X: As above.
            columns_X: 0, 1, ... to the length of the longest sentence, without those that only fill the row. The
                length is a shape, because a number that changes would tie a compiled graph to itself.
            longest: As above.
        """
        begin_B1, end_B1 = borders_X[:-1, None].long(), borders_X[1:, None].long()
        token_BL = begin_B1 + columns_X
        exists_BL = token_BL < end_B1
        token_X = torch.arange(positions_1X.shape[1], device=positions_1X.device)
        sentence_X = torch.searchsorted(borders_X[1:].long(), token_X, right=True)
        return cls(
            positions_1X=positions_1X,
            borders_X=borders_X,
            longest=longest,
            token_BL=torch.where(exists_BL, token_BL, 0),
            exists_BL=exists_BL,
            place_X=sentence_X * columns_X.shape[0] + positions_1X[0],
        )

    def unpack(self, heads_1HXK: Tensor) -> Tensor:
        """The heads of the padded sentences, B x H x L x K. Padding has those of other tokens."""
        return (
            _take(heads_1HXK[0].transpose(0, 1), self.token_BL.flatten())
            .unflatten(0, self.token_BL.shape)
            .transpose(1, 2)
        )

    def pack(self, heads_BHLK: Tensor) -> Tensor:
        """The heads of the row, 1 x H x X x K."""
        return _take(heads_BHLK.transpose(1, 2).flatten(0, 1), self.place_X).transpose(0, 1)[None]


class RowPair(NamedTuple):
    """The rows of queries and of keys. Query sentence i attends to key sentence i."""

    queries: PackedRow
    keys: PackedRow

    @property
    def same_sentence_XX(self) -> Tensor:
        """Whether a query and a key belong to the same sentence, for all tokens of the two rows."""
        sentences = (row.place_X // row.token_BL.shape[1] for row in self)
        query_X, key_X = sentences
        return query_X[:, None] == key_X


def _take(rows_XHK: Tensor, index_X: Tensor) -> Tensor:
    """Rows by number. On CPUs the gradient of `gather` is the fastest: an index takes twice the time."""
    _, num_heads, size = rows_XHK.shape
    flat = rows_XHK.flatten(1)
    return flat.gather(0, index_X[:, None].expand(-1, flat.shape[1])).unflatten(1, (num_heads, size))
