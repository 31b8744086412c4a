"""Which sentence pairs make which optimizer step: pure functions of lengths, seed and step, in numpy.

The unit is the global batch: pairs of similar length with at most `tokens_per_batch` source and as many target
tokens, taken by one optimizer step however many devices share it (section 5.1: about 25,000 and 25,000). A batch is
dealt out like cards to devices x accumulated micro-batches, so all of them get sentences of every length in it.

Lengths count pieces with the final EOS; N pairs.
"""

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
        by_length = np.lexsort((self.source_lengths, self.target_lengths))
        source_lengths, target_lengths = self.source_lengths[by_length], self.target_lengths[by_length]
        borders = batch_borders(source_lengths, target_lengths, self.tokens_per_batch)
        object.__setattr__(self, "borders", borders)
        longer = np.maximum(source_lengths, target_lengths)
        object.__setattr__(self, "longest", np.maximum.reduceat(longer, borders[:-1]))

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
    ties = random.permutation(len(plan.source_lengths)).astype(np.int32)
    order = np.lexsort((ties, plan.source_lengths, plan.target_lengths))
    return order, random.permutation(plan.num_batches)


def batch_borders(source_lengths: Integers, target_lengths: Integers, tokens_per_batch: int) -> Integers:
    """Cuts consecutive pairs into the fewest runs of at most `tokens_per_batch` tokens on either side."""
    source_end = np.cumsum(source_lengths, dtype=np.int64)
    target_end = np.cumsum(target_lengths, dtype=np.int64)
    borders = [0]
    source_used = target_used = 0
    while borders[-1] < len(source_end):
        end = min(
            np.searchsorted(source_end, source_used + tokens_per_batch, side="right"),
            np.searchsorted(target_end, target_used + tokens_per_batch, side="right"),
        )
        borders.append(int(end))
        source_used, target_used = int(source_end[end - 1]), int(target_end[end - 1])
    return np.asarray(borders, dtype=np.int64)


def share(rows: Integers, index: int, count: int) -> Integers:
    """Micro-batch `index` of `count` of a global batch; empty where the batch has fewer pairs."""
    return rows[index::count]
