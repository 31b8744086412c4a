"""Where sorted sentence pairs are cut into global batches. It knows neither the order nor the epochs.

Sorted pairs of equal lengths are a group. There are few groups, so this costs nothing beside sorting.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lit_transformer.batch import IntArray


class LengthGroups(NamedTuple):
    """The lengths of sorted pairs."""

    source: IntArray
    """Source tokens of each pair of a group."""
    target: IntArray
    """Target tokens of each pair of a group."""
    ends: IntArray
    """The number of sorted pairs up to the end of each group."""

    def lengths(self, begin: int, end: int) -> tuple[IntArray, IntArray]:
        """Return the source and the target lengths of these sorted pairs."""
        groups = np.searchsorted(self.ends, np.arange(begin, end), side="right")
        return self.source[groups], self.target[groups]


def batch_borders(groups: LengthGroups, tokens_per_batch: int, *, from_longest: bool = False) -> IntArray:
    """Cut sorted pairs into the fewest batches of at most `tokens_per_batch` tokens on either side.

    Args:
        groups: Their lengths.
        tokens_per_batch: The bound.
        from_longest: Whether batches are filled from the last pairs.

    Returns:
        Where each batch begins, and where the last one ends.
    """
    counts = np.diff(groups.ends, prepend=0)
    if from_longest:
        backwards = LengthGroups(groups.source[::-1], groups.target[::-1], counts[::-1].cumsum())
        return groups.ends[-1] - batch_borders(backwards, tokens_per_batch)[::-1]
    pairs = [0, *groups.ends.tolist()]
    sides = [
        ([0, *np.cumsum(lengths * counts).tolist()], [*lengths.tolist(), 1])
        for lengths in (groups.source, groups.target)
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


def same_number_of_batches(all_borders: Sequence[IntArray]) -> IntArray:
    """Stack the borders of several orders. The batch with the most pairs is halved until all have as many batches."""
    num_batches = max(map(len, all_borders)) - 1
    return np.stack([_split_to(borders, num_batches) for borders in all_borders])


def _split_to(borders: IntArray, num_batches: int) -> IntArray:
    while len(borders) <= num_batches:
        largest = int(np.diff(borders).argmax())
        borders = np.insert(borders, largest + 1, borders[largest : largest + 2].sum() // 2)
    return borders


def longest_sentences(groups: LengthGroups, borders: IntArray) -> IntArray:
    """Return the tokens of the longest sentence of each batch, source or target.

    Args:
        groups: The lengths of the sorted pairs.
        borders: Of the batches, in pairs.
    """
    first, last = (np.searchsorted(groups.ends, rows, side="right") for rows in (borders[:-1], borders[1:] - 1))
    # The even ranges cover the groups of one batch each. The odd ones lie between, and the last ends at the zero.
    ranges = np.stack([first, last + 1], axis=1).ravel()
    longer = np.maximum(groups.source, groups.target)
    return np.maximum.reduceat(np.append(longer, 0), ranges)[::2]
