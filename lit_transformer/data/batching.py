"""The batch plan: which sentence pairs make which optimizer step. Pure functions of lengths, seed and step, in NumPy.

The unit is the global batch: pairs of similar length with at most `tokens_per_batch` source tokens and at most
`tokens_per_batch` target tokens (section 5.1: about 25,000 each). One optimizer step takes one global batch, however
many devices share it. A batch is dealt out like cards to devices x accumulated micro-batches, so all of them get
sentences of every length in it.

Lengths are in tokens and count the final EOS.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lit_transformer.batch import IntArray
from lit_transformer.errors import UserError


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The global batches of every epoch.

    Pairs are sorted by target and source length, in random order among equal lengths. So the borders of the batches
    depend on the lengths alone, every epoch has the same number of batches, and the epoch of a step is a division.

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
    """Global batch i consists of the sorted pairs from borders[i] to borders[i + 1], without the latter."""
    longest: IntArray = field(init=False)
    """Tokens of the longest sentence of each global batch, source or target."""

    def __post_init__(self) -> None:
        longest = int(max(self.source_lengths.max(), self.target_lengths.max()))
        if longest > self.tokens_per_batch:
            raise UserError(
                f"tokens_per_batch is {self.tokens_per_batch}, less than the longest sentence of {longest} tokens: "
                "raise it, or lower max_length"
            )
        num_pairs, length_bits = len(self.source_lengths), longest.bit_length()
        keys = _by_length(self.source_lengths, self.target_lengths, length_bits)
        keys.sort()
        # Groups of pairs of equal lengths, of which there are few. np.unique does the same, but several times slower.
        ends = np.append(np.flatnonzero(keys[1:] != keys[:-1]) + 1, num_pairs)
        groups, counts = keys[ends - 1], np.diff(ends, prepend=0)
        source_lengths, target_lengths = groups & ((1 << length_bits) - 1), groups >> length_bits
        borders = batch_borders(source_lengths, target_lengths, counts, self.tokens_per_batch)
        object.__setattr__(self, "borders", borders)
        first, last = (np.searchsorted(ends, rows, side="right") for rows in (borders[:-1], borders[1:] - 1))
        # The even ranges cover the groups of one batch each. The odd ones lie between, and the last ends at the zero.
        longer = np.append(np.maximum(source_lengths, target_lengths), 0)
        ranges = np.stack([first, last + 1], axis=1).ravel()
        object.__setattr__(self, "longest", np.maximum.reduceat(longer, ranges)[::2])

    @property
    def num_batches(self) -> int:
        """Global batches per epoch, that is, optimizer steps per epoch."""
        return len(self.borders) - 1

    def step_rows(self, step: int) -> IntArray:
        """Return the pairs of an optimizer step (counted from 0), by ascending length."""
        epoch, offset = divmod(step, self.num_batches)
        order, batches = _epoch(self, epoch)
        begin, end = self.borders[batches[offset] : batches[offset] + 2]
        return order[begin:end]

    def accumulation(self, *, max_tokens_per_device: int, world_size: int) -> int:
        """Return the number of micro-batches that each device takes per step.

        It is the smallest number for which no micro-batch exceeds `max_tokens_per_device` padded tokens on a side. It
        is constant over the run, because Lightning requires that. The worst batch decides.

        Raises:
            UserError: A sentence is longer than `max_tokens_per_device`.
        """
        if self.longest.max() > max_tokens_per_device:
            raise UserError(
                f"max_tokens_per_device is {max_tokens_per_device}, less than the longest sentence of "
                f"{self.longest.max()} tokens: raise it, or lower max_length"
            )
        rows = max_tokens_per_device // self.longest
        micro_batches = -(-np.diff(self.borders) // rows)
        return int(-(-micro_batches.max() // world_size))

    def micro_batch_tokens(self, count: int) -> IntArray:
        """Return the padded tokens of the largest of `count` micro-batches of each global batch, on the longer side."""
        return -(-np.diff(self.borders) // count) * self.longest

    def largest_micro_batches(self, count: int) -> list[IntArray]:
        """Return the pairs of the micro-batches that need the most memory if each global batch is dealt to `count`.

        One has the most padded tokens, and one the most attention weights. They may be the same.
        """
        tokens = self.micro_batch_tokens(count)
        order, _ = _epoch(self, 0)
        largest = []
        for batch in np.unique([tokens.argmax(), (tokens * self.longest).argmax()]):
            rows = order[self.borders[batch] : self.borders[batch + 1]]
            # The micro-batch that ends with the longest pair. None is larger.
            largest.append(micro_batch_rows(rows, (len(rows) - 1) % count, count))
        return largest


@lru_cache(maxsize=2)
def _epoch(plan: BatchPlan, epoch: int) -> tuple[IntArray, IntArray]:
    """Return an epoch's order of the pairs by length, and the order in which its batches are taken."""
    random = np.random.default_rng((plan.seed, epoch))
    num_pairs = len(plan.source_lengths)
    ties = random.permutation(num_pairs)
    # The order of np.lexsort((ties, source_lengths, target_lengths)) in a fifth of its time: NumPy sorts integers much
    # faster than indices. The lowest bits of each integer break ties and tell which pair it belongs to. Its 63 bits
    # hold, for example, the lengths and numbers of 2 billion pairs of up to 65,535 tokens.
    keys = _by_length(plan.source_lengths, plan.target_lengths, int(plan.longest.max()).bit_length())
    keys <<= num_pairs.bit_length()
    keys |= ties
    keys.sort()
    keys &= (1 << num_pairs.bit_length()) - 1
    rows: IntArray = np.empty(num_pairs, np.int32 if num_pairs <= 2**31 else np.int64)
    rows[ties] = np.arange(num_pairs, dtype=rows.dtype)
    return rows[keys], random.permutation(plan.num_batches)


def _by_length(source_lengths: IntArray, target_lengths: IntArray, length_bits: int) -> NDArray[np.int64]:
    """Return an integer for each pair that sorts by target length first and by source length second."""
    keys = target_lengths.astype(np.int64)
    keys <<= length_bits
    keys |= source_lengths
    return keys


def batch_borders(
    source_lengths: IntArray, target_lengths: IntArray, counts: IntArray, tokens_per_batch: int
) -> IntArray:
    """Cut consecutive pairs into the fewest batches of at most `tokens_per_batch` tokens on either side.

    Args:
        source_lengths: Source tokens of each group of pairs of equal lengths.
        target_lengths: Target tokens of each group.
        counts: Pairs of each group.
        tokens_per_batch: The bound.

    Returns:
        Where each batch begins, and where the last one ends.
    """
    pairs = [0, *np.cumsum(counts).tolist()]
    sides = [
        ([0, *np.cumsum(lengths * counts).tolist()], [*lengths.tolist(), 1])
        for lengths in (source_lengths, target_lengths)
    ]
    borders = [0]
    while (begin := borders[-1]) < pairs[-1]:
        group = bisect_right(pairs, begin) - 1
        end = pairs[-1]
        for tokens, lengths in sides:
            limit = tokens[group] + (begin - pairs[group]) * lengths[group] + tokens_per_batch
            last = bisect_right(tokens, limit) - 1
            end = min(end, pairs[last] + (limit - tokens[last]) // lengths[last])
        borders.append(end)
    return np.asarray(borders, dtype=np.int64)


def micro_batch_rows(rows: IntArray, index: int, count: int) -> IntArray:
    """Return micro-batch `index` of the `count` that a global batch is dealt to. It may be empty."""
    return rows[index::count]


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
