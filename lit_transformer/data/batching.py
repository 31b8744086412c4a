"""Which sentence pairs make which optimizer step: pure functions of lengths, seed and step, in numpy.

The unit is the global batch: pairs of similar length with at most `tokens_per_batch` source and as many target
tokens, taken by one optimizer step however many devices share it (section 5.1: about 25,000 and 25,000). A batch is
dealt out like cards to devices x accumulated micro-batches, so all of them get sentences of every length in it.

Lengths count pieces with the final EOS; N pairs.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lit_transformer.errors import UserError

Integers = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The global batches of every epoch.

    Pairs are sorted by target and source length, in random order among equal lengths. So the borders of the batches
    depend on the lengths alone, every epoch has the same number of batches, and a step's epoch is a division.
    """

    source_lengths: Integers
    target_lengths: Integers
    tokens_per_batch: int
    seed: int
    borders: Integers = field(init=False)
    """Global batch i of the sorted pairs reaches from borders[i] to borders[i + 1]."""
    longest: Integers = field(init=False)
    """Pieces of each global batch's longest sentence, source or target."""

    def __post_init__(self) -> None:
        longest = int(max(self.source_lengths.max(), self.target_lengths.max()))
        if longest > self.tokens_per_batch:
            raise UserError(
                f"data.tokens_per_batch {self.tokens_per_batch} is less than the longest sentence, {longest} pieces: "
                "raise it, or lower data.max_length"
            )
        num_pairs, length_bits = len(self.source_lengths), longest.bit_length()
        if 2 * length_bits + num_pairs.bit_length() > 63:  # `_epoch` sorts 64-bit integers
            raise UserError(f"{num_pairs:,} pairs of up to {longest:,} pieces are too many: lower data.max_length")
        keys = _by_length(self.source_lengths, self.target_lengths, length_bits)
        keys.sort()
        # Groups of equal pairs, of which there are few. (np.unique does the same in several times the time.)
        ends = np.append(np.flatnonzero(keys[1:] != keys[:-1]) + 1, num_pairs)
        groups, counts = keys[ends - 1], np.diff(ends, prepend=0)
        source_lengths, target_lengths = groups & ((1 << length_bits) - 1), groups >> length_bits
        borders = batch_borders(source_lengths, target_lengths, counts, self.tokens_per_batch)
        object.__setattr__(self, "borders", borders)
        first, last = (np.searchsorted(ends, rows, side="right") for rows in (borders[:-1], borders[1:] - 1))
        # Every other range is that of a batch's groups; the zero is there for the last range to end at.
        longer = np.append(np.maximum(source_lengths, target_lengths), 0)
        ranges = np.stack([first, last + 1], axis=1).ravel()
        object.__setattr__(self, "longest", np.maximum.reduceat(longer, ranges)[::2])

    @property
    def num_batches(self) -> int:
        """Global batches, that is optimizer steps, of an epoch."""
        return len(self.borders) - 1

    def step_rows(self, step: int) -> Integers:
        """The pairs of an optimizer step (counted from 0), by ascending length."""
        epoch, offset = divmod(step, self.num_batches)
        order, batches = _epoch(self, epoch)
        begin, end = self.borders[batches[offset] : batches[offset] + 2]
        return order[begin:end]

    def accumulation(self, *, max_tokens_per_device: int, world_size: int) -> int:
        """Micro-batches a device takes in each step so that none exceeds `max_tokens_per_device` padded tokens a side.

        Constant over the run, as Lightning wants it; the worst batch decides.
        """
        if self.longest.max() > max_tokens_per_device:
            raise UserError(
                f"data.max_tokens_per_device {max_tokens_per_device} is less than the longest sentence, "
                f"{self.longest.max()} pieces: raise it, or lower data.max_length"
            )
        rows = max_tokens_per_device // self.longest
        shares = -(-np.diff(self.borders) // rows)
        return int(-(-shares.max() // world_size))

    def micro_batch_tokens(self, shares: int) -> Integers:
        """Padded tokens on the longer side of the largest micro-batch of each global batch, dealt to `shares`."""
        return -(-np.diff(self.borders) // shares) * self.longest

    def largest_micro_batches(self, shares: int) -> list[Integers]:
        """The pairs of the micro-batches that need the most memory: most padded tokens, and most attention weights."""
        tokens = self.micro_batch_tokens(shares)
        order, _ = _epoch(self, 0)
        largest = []
        for batch in np.unique([tokens.argmax(), (tokens * self.longest).argmax()]):
            rows = order[self.borders[batch] : self.borders[batch + 1]]
            # The share that ends with the longest pair; none is larger.
            largest.append(share(rows, (len(rows) - 1) % shares, shares))
        return largest


@lru_cache(maxsize=2)
def _epoch(plan: BatchPlan, epoch: int) -> tuple[Integers, Integers]:
    """An epoch's order of the pairs by length, and the order in which its batches are taken."""
    random = np.random.default_rng((plan.seed, epoch))
    num_pairs = len(plan.source_lengths)
    ties = random.permutation(num_pairs)
    # The order that np.lexsort((ties, source_lengths, target_lengths)) gives, in a fifth of its time: NumPy sorts plain
    # integers much faster than indices, and each integer's tie-breaker tells which pair it belongs to.
    keys = _by_length(plan.source_lengths, plan.target_lengths, int(plan.longest.max()).bit_length())
    keys <<= num_pairs.bit_length()
    keys |= ties
    keys.sort()
    keys &= (1 << num_pairs.bit_length()) - 1
    rows: Integers = np.empty(num_pairs, np.int32 if num_pairs <= 2**31 else np.int64)
    rows[ties] = np.arange(num_pairs, dtype=rows.dtype)
    return rows[keys], random.permutation(plan.num_batches)


def _by_length(source_lengths: Integers, target_lengths: Integers, length_bits: int) -> NDArray[np.int64]:
    """An integer for each pair: by them, pairs are sorted by target and then by source length."""
    keys = target_lengths.astype(np.int64)
    keys <<= length_bits
    keys |= source_lengths
    return keys


def batch_borders(
    source_lengths: Integers, target_lengths: Integers, counts: Integers, tokens_per_batch: int
) -> Integers:
    """Cuts consecutive pairs into the fewest runs of at most `tokens_per_batch` tokens on either side.

    Args:
        source_lengths: Of a group of equal pairs.
        target_lengths: Likewise.
        counts: Pairs of each group.
        tokens_per_batch: The bound.
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


def share(rows: Integers, index: int, count: int) -> Integers:
    """Micro-batch `index` of `count` of a global batch; empty where the batch has fewer pairs."""
    return rows[index::count]


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of indices of similar length, the longest first, each of at most `batch_tokens` padded tokens.

    A sentence that is longer than that is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
