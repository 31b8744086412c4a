"""The batch plan: which sentence pairs make which optimizer step. Pure functions of lengths, seed and step, in NumPy.

The unit is the global batch: pairs of similar length with at most `tokens_per_batch` source tokens and at most
`tokens_per_batch` target tokens (section 5.1: about 25,000 each). One optimizer step takes one global batch, however
many devices share it. Its pairs are dealt to the devices like cards, so all devices have sentences of every length in
it. Each device cuts its pairs into micro-batches in the order of their longer sides, so a micro-batch has little
padding.

Lengths are in tokens and count the final EOS.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_transformer.batch import Batch, IntArray
from lit_transformer.data.borders import LengthGroups, batch_borders, longest_sentences, same_number_of_batches
from lit_transformer.errors import UserError

PLAN_VERSION = 2
"""Raise it if the same lengths, seed and step give other pairs."""


class Order(NamedTuple):
    """An order of the pairs by their first length, and among equal first lengths by the second.

    The second length rises for one value of the first and falls for the next value, so neighbors are of similar length
    on both sides.
    """

    by_target: bool
    """Whether the target length is the first. If not, the source length is."""
    from_longest: bool
    """Whether batches are filled from the longest pairs. If so, the second length falls for even values of the first,
    and otherwise for odd values."""

    def keys(self, source_lengths: IntArray, target_lengths: IntArray, length_bits: int) -> NDArray[np.int64]:
        """Return an integer for each pair. The integers sort as the pairs do, and pairs of equal lengths share one."""
        first, second = (target_lengths, source_lengths) if self.by_target else (source_lengths, target_lengths)
        falls = first % 2 != self.from_longest
        keys = first.astype(np.int64)
        keys <<= length_bits
        keys |= np.where(falls, (1 << length_bits) - 1 - second, second)
        return keys


ORDERS = (Order(True, False), Order(False, False), Order(True, True), Order(False, True))
"""The orders of the epochs, in turn. So a sentence is batched with other sentences in the next epoch, also in a small
corpus, which has few pairs of equal lengths."""


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The global batches of every epoch.

    An epoch sorts the pairs by length, in one of `ORDERS` and in random order among equal lengths. So the borders of
    the batches depend on the lengths and the order alone, every epoch has the same number of batches, and the epoch of
    a step is a division.

    Args:
        source_lengths: Source tokens of each pair.
        target_lengths: Target tokens of each pair.
        tokens_per_batch: Most tokens of a global batch on either side.
        seed: Determines the order among equal lengths and the order of the batches.

    Raises:
        UserError: A sentence is longer than `tokens_per_batch`.
    """

    source_lengths: IntArray
    target_lengths: IntArray
    tokens_per_batch: int
    seed: int
    borders: IntArray = field(init=False)
    """Row o is for `ORDERS[o]`: global batch i consists of the sorted pairs from borders[o, i] to borders[o, i + 1],
    without the latter."""
    longest: IntArray = field(init=False)
    """Tokens of the longest sentence of each global batch, source or target, for each of `ORDERS`."""
    groups: list[LengthGroups] = field(init=False, repr=False)
    """The lengths of the sorted pairs, for each of `ORDERS`."""

    def __post_init__(self) -> None:
        longest = int(max(self.source_lengths.max(), self.target_lengths.max()))
        if longest > self.tokens_per_batch:
            raise UserError(
                f"tokens_per_batch is {self.tokens_per_batch}, less than the longest sentence of {longest} tokens: "
                "raise it, or lower max_length"
            )
        num_pairs, length_bits = len(self.source_lengths), longest.bit_length()
        keys = self.target_lengths.astype(np.int64)
        keys <<= length_bits
        keys |= self.source_lengths
        keys.sort()
        # np.unique does the same, but several times slower.
        ends = np.append(np.flatnonzero(keys[1:] != keys[:-1]) + 1, num_pairs)
        lengths, counts = keys[ends - 1], np.diff(ends, prepend=0)
        sides = lengths & ((1 << length_bits) - 1), lengths >> length_bits
        in_order = [order.keys(*sides, length_bits).argsort() for order in ORDERS]
        groups = [LengthGroups(sides[0][rows], sides[1][rows], counts[rows].cumsum()) for rows in in_order]
        borders = same_number_of_batches(
            [
                batch_borders(each, self.tokens_per_batch, from_longest=order.from_longest)
                for order, each in zip(ORDERS, groups, strict=True)
            ]
        )
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "borders", borders)
        longest_of_batches = [longest_sentences(*each) for each in zip(groups, borders, strict=True)]
        object.__setattr__(self, "longest", np.stack(longest_of_batches))

    @property
    def is_one_sided(self) -> bool:
        """Whether the rows are single sequences, whose lengths count for both sides."""
        return self.source_lengths is self.target_lengths

    @property
    def num_batches(self) -> int:
        """Global batches per epoch, that is, optimizer steps per epoch."""
        return self.borders.shape[1] - 1

    def step_rows(self, step: int) -> IntArray:
        """Return the pairs of an optimizer step (counted from 0), in the order of their lengths."""
        epoch, offset = divmod(step, self.num_batches)
        return self._batch(epoch, _epoch(self, epoch)[1][offset])

    def batch_lengths(self, order: int, index: int) -> tuple[IntArray, IntArray]:
        """Return the source and the target lengths of the sorted pairs from borders[order, index] on.

        They are the same in every epoch of the order, and are known without sorting the pairs of one.
        """
        return self.groups[order].lengths(*self.borders[order, index : index + 2])

    def accumulation(self, *, max_tokens_per_device: int, world_size: int) -> int:
        """Return the number of micro-batches that each device takes per step.

        It is the smallest number for which no micro-batch exceeds `max_tokens_per_device` padded tokens on a side. It
        is constant over the run, because Lightning requires that. The worst batch decides.

        Raises:
            UserError: A sentence is longer than `max_tokens_per_device`.
        """
        self.check_longest(max_tokens_per_device)
        rows = max_tokens_per_device // self.longest
        micro_batches = -(-np.diff(self.borders) // rows)
        return int(-(-micro_batches.max() // world_size))

    def check_longest(self, max_tokens_per_device: int) -> None:
        """Raise UserError if a sentence is longer than `max_tokens_per_device`."""
        if self.longest.max() > max_tokens_per_device:
            raise UserError(
                f"max_tokens_per_device is {max_tokens_per_device}, less than the longest sentence of "
                f"{self.longest.max()} tokens: raise it, or lower max_length"
            )

    def longer_sides(self, rows: IntArray) -> IntArray:
        """Return the tokens of the longer sentence of each of these pairs."""
        return np.maximum(self.source_lengths[rows], self.target_lengths[rows])

    @staticmethod
    def micro_batch_rows(
        rows: IntArray, longer: IntArray, micro_batch: int, accumulation: int, rank: int = 0, world_size: int = 1
    ) -> IntArray:
        """Return the pairs of one micro-batch of a device. There may be none.

        A device sorts its pairs by their longer side before it cuts them. If a corpus has few batches, lengths differ
        within a batch, and the order of the plan, which is that of one side, would leave more padding on the other. A
        device with one micro-batch has nothing to cut.

        Args:
            rows: The pairs of the global batch.
            longer: The tokens of the longer sentence of each.
            micro_batch: The number of the micro-batch on this device, counted from 0.
            accumulation: Micro-batches per step on each device.
            rank: The device, counted from 0.
            world_size: Number of devices.
        """
        own = rows[rank::world_size]
        if accumulation > 1:
            own = own[longer[rank::world_size].argsort(kind="stable")]
        return own[len(own) * micro_batch // accumulation : len(own) * (micro_batch + 1) // accumulation]

    def num_positions(self, lengths: tuple[IntArray, IntArray], count: int) -> int:  # noqa: ARG002 # for packed rows
        """Return the positions of one of `count` micro-batches of a step on both sides, padding included.

        Args:
            lengths: Of its source and of its target sentences.
            count: Micro-batches of a step on all devices.
        """
        return sum(len(side) * int(side.max(initial=0)) for side in lengths)

    def lay_out(self, batch: Batch, count: int = 0, margin: float = 1.0) -> Batch:  # noqa: ARG002 # for packed rows
        """Return a padded batch of pairs as this plan lays it out: as it is."""
        return batch

    def most_tokens(self, count: int) -> int:
        """Return the most padded tokens on a side of one of `count` micro-batches of any step."""
        return int(self.micro_batch_tokens(count).max())

    def micro_batch_tokens(self, count: int) -> IntArray:
        """Return the most padded tokens that one of `count` micro-batches of each global batch has on a side."""
        return -(-np.diff(self.borders) // count) * self.longest

    def largest_micro_batches(self, *, accumulation: int, world_size: int) -> list[IntArray]:
        """Return the pairs of the micro-batches that need the most memory.

        One has the most padded tokens, and one the most attention weights. They may be the same.
        """
        tokens = self.micro_batch_tokens(accumulation * world_size)
        largest = []
        for batch in np.unique([tokens.argmax(), (tokens * self.longest).argmax()]):
            rows = self._batch(*divmod(int(batch), self.num_batches))  # the first epoch of an order has its number
            longer = self.longer_sides(rows)
            parts = [
                self.micro_batch_rows(rows, longer, part, accumulation, rank, world_size)
                for rank in range(min(world_size, len(rows)))
                for part in range(accumulation)
            ]
            largest.append(max(parts, key=self._padded_tokens))
        return largest

    def _batch(self, epoch: int, index: int) -> IntArray:
        begin, end = self.borders[epoch % len(ORDERS), index : index + 2]
        return _epoch(self, epoch)[0][begin:end]

    def _padded_tokens(self, rows: IntArray) -> int:
        """Return the padded tokens of a micro-batch on the longer side."""
        return len(rows) * int(self.longer_sides(rows).max(initial=0))


@lru_cache(maxsize=2)
def _epoch(plan: BatchPlan, epoch: int) -> tuple[IntArray, IntArray]:
    """Return an epoch's order of the pairs by length, and the order in which its batches are taken."""
    random = np.random.default_rng((plan.seed, epoch))
    num_pairs = len(plan.source_lengths)
    ties = random.permutation(num_pairs)
    # The order of np.lexsort in a fifth of its time: NumPy sorts integers much faster than indices. The lowest bits of
    # each integer break ties and tell which pair it belongs to. Its 63 bits hold, for example, the lengths and numbers
    # of 2 billion pairs of up to 65,535 tokens.
    order = ORDERS[epoch % len(ORDERS)]
    keys = order.keys(plan.source_lengths, plan.target_lengths, int(plan.longest.max()).bit_length())
    keys <<= num_pairs.bit_length()
    keys |= ties
    keys.sort()
    keys &= (1 << num_pairs.bit_length()) - 1
    rows: IntArray = np.empty(num_pairs, np.int32 if num_pairs <= 2**31 else np.int64)
    rows[ties] = np.arange(num_pairs, dtype=rows.dtype)
    return rows[keys], random.permutation(plan.num_batches)


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of indices of similar length, the longest first, each of at most `batch_tokens` padded tokens.

    A sentence that is longer than `batch_tokens` is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
