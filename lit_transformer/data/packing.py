"""Packed micro-batches: the sentences of each side one after the other in one row, which has one size per run.

The optimizer steps and their pairs are those of the padded plan. Only the micro-batches are cut otherwise: by tokens
without padding, so there are fewer of them. Their pairs are dealt like cards, so they have nearly the same number of
tokens. A row is filled up to the largest number of tokens that any micro-batch of the run has.

Legend: B batch, S source length, T target length, L query length, X any size.
"""

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_transformer.batch import EOS_ID, PAD_ID, Batch, IntArray, PackedSide, Packing
from lit_transformer.data.batching import ORDERS, BatchPlan

MULTIPLE = 128
"""Rows have a multiple of this many tokens, for which a GPU's matrix products are fastest."""


class RowShape(NamedTuple):
    """The size of packed rows."""

    source: int
    """Tokens of a row of source sentences."""
    target: int
    """Tokens of a row of target sentences."""
    longest: int
    """Most tokens of a sentence, also of those that only fill the row."""

    @classmethod
    def holding(cls, source_tokens: int, target_tokens: int, longest: int) -> "RowShape":
        """Return the smallest shape for this many tokens, in sentences of at most `longest` tokens.

        What fills a row are sentences, too. Each has tokens on both sides, because nothing can attend to no token. So a
        row has at least as many tokens to fill as the other side may need sentences for that.
        """
        longest = max(longest, MULTIPLE)
        fillers = -(-(max(source_tokens, target_tokens) + MULTIPLE) // (longest - 1))
        source, target = (-(-(tokens + fillers) // MULTIPLE) * MULTIPLE for tokens in (source_tokens, target_tokens))
        return cls(source, target, longest)


class PackedPlan(BatchPlan):
    """The plan of the same steps with packed micro-batches."""

    def accumulation(self, *, max_tokens_per_device: int, world_size: int) -> int:
        """Return the number of micro-batches that each device takes per step.

        It is the smallest number for which no micro-batch exceeds `max_tokens_per_device` tokens on a side, without
        what fills the rows.

        Raises:
            UserError: A sentence is longer than `max_tokens_per_device`.
        """
        self.check_longest(max_tokens_per_device)
        accumulation = -(-max(_most_tokens(self, 1)) // (max_tokens_per_device * world_size))
        while max(_most_tokens(self, accumulation * world_size)) > max_tokens_per_device:
            accumulation += 1
        return accumulation

    @staticmethod
    def micro_batch_rows(
        rows: IntArray,
        longer: IntArray,  # noqa: ARG004 # for padded rows
        micro_batch: int,
        accumulation: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> IntArray:
        """Return the pairs of one micro-batch of a device. A device has the same ones as without packing."""
        return rows[rank::world_size][micro_batch::accumulation]

    def num_positions(
        self,
        lengths: tuple[IntArray, IntArray],  # noqa: ARG002 # all micro-batches have as many
        count: int,
    ) -> int:
        """Return the positions of one of `count` micro-batches of a step on both sides, what fills rows included."""
        shape = self.row_shape(count)
        return shape.source + shape.target

    def most_tokens(self, count: int) -> int:
        """Return the tokens of the longer side's row, if a step has `count` micro-batches."""
        shape = self.row_shape(count)
        return max(shape.source, shape.target)

    def row_shape(self, count: int) -> RowShape:
        """Return the shape of the rows of all micro-batches, if a step has `count` of them on all devices."""
        source, target = _most_tokens(self, count)
        return RowShape.holding(source, target, int(self.longest.max()))

    def lay_out(self, batch: Batch, count: int = 0, margin: float = 1.0) -> Batch:
        """Return a padded batch of pairs as rows of the size that all micro-batches have.

        Args:
            batch: Padded.
            count: Micro-batches of a step on all devices. If it is 0, the rows are as short as the batch allows.
            margin: Factor on the tokens.
        """
        most = _most_tokens(self, count) if count else (0, 0)
        source, target = (round(margin * tokens) for tokens in most)
        return pack(
            batch,
            RowShape.holding(
                max(source, batch.num_source_tokens), max(target, batch.num_target_tokens), int(self.longest.max())
            ),
        )


@lru_cache(maxsize=16)
def _most_tokens(plan: BatchPlan, count: int) -> tuple[int, int]:
    """Return the most source and the most target tokens of one of `count` micro-batches of any step."""
    most = [0, 0]
    for order, index in product(range(len(ORDERS)), range(plan.num_batches)):
        for side, lengths in enumerate(plan.batch_lengths(order, index)):
            dealt = np.pad(lengths, (0, -len(lengths) % count)).reshape(-1, count)
            most[side] = max(most[side], int(dealt.sum(axis=0).max()))
    return most[0], most[1]


def pack(batch: Batch, shape: RowShape) -> Batch:
    """Return a padded batch as a packed one of this shape, which is large enough for it."""
    has_pair_B = (batch.target_output_BT != PAD_ID).any(dim=1)  # a device without sentences has a row without a target
    source_BS, target_input_BT, target_output_BT = (ids[has_pair_B] for ids in batch[:3])
    source_real_BS, real_BT = source_BS != PAD_ID, target_output_BT != PAD_ID
    rests = shape.source - int(source_real_BS.sum()), shape.target - int(real_BT.sum())
    fillers = -(-max(rests) // shape.longest)
    source_rest, rest = rests
    return batch._replace(
        source_BS=F.pad(source_BS[source_real_BS], (0, source_rest), value=EOS_ID)[None],
        target_input_BT=F.pad(target_input_BT[real_BT], (0, rest), value=EOS_ID)[None],
        target_output_BT=F.pad(target_output_BT[real_BT], (0, rest), value=PAD_ID)[None],
        packing=Packing(_side(source_real_BS, source_rest, fillers), _side(real_BT, rest, fillers), shape.longest),
    )


def _side(real_BL: Tensor, rest: int, fillers: int) -> PackedSide:
    """Return where the sentences of one side lie.

    Args:
        real_BL: Where the padded batch has tokens.
        rest: Tokens that fill the row.
        fillers: The number of sentences of which they are.
    """
    length_B = real_BL.sum(dim=1)
    column_L = torch.arange(real_BL.shape[1])
    filler_X = torch.full((fillers,), rest // fillers)
    filler_X[: rest % fillers] += 1
    ends_X = torch.cat([length_B, filler_X]).cumsum(dim=0)
    return PackedSide(
        positions_1X=F.pad(column_L.expand(real_BL.shape)[real_BL], (0, rest))[None],
        borders_X=F.pad(ends_X, (1, 0)).int(),
        columns_X=column_L if len(column_L) else torch.zeros(1, dtype=torch.int64),
    )
