"""Interpolated Kneser-Ney smoothing: the baseline of a language model, on the same tokens.

It is the best of the models that only count n-grams (Chen and Goodman, 1999). It knows integers and no text.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Discounts = tuple[float, float, float]
"""What is taken from a count of 1, of 2, and of 3 or more."""

_OF_SMALL_TEXT: Discounts = (0.75, 0.75, 0.75)


class KneserNey:
    """A model of the next token. Every token has a probability, also one that the text lacks.

    Sequences are independent: the first token of each has an empty history.

    Args:
        sequences: The text to count, in token ids.
        vocab_size: Number of tokens. They share evenly what the lowest order leaves.
        order: Tokens of the longest n-grams.
        discounts: For each order from 1 on. By default, they are estimated from the counts ("modified" Kneser-Ney).
    """

    def __init__(
        self,
        sequences: Iterable[Iterable[int]],
        *,
        vocab_size: int,
        order: int = 5,
        discounts: Sequence[Discounts] | None = None,
    ) -> None:
        self._vocab_size = vocab_size
        self._order = order
        windows = _windows(sequences, order)
        self._grams, self._histories = _Numbering(windows), _Numbering(windows[:, :-1])
        grams, histories = self._numbers(windows)
        self._shares: list[Floats] = []
        """For each order and n-gram, its discounted count divided by the count of its history. The last value is 0, for
        an n-gram that the text lacks."""
        self._rests: list[Floats] = []
        """For each order and history, what the discounts leave to the lower order. The last value is 1."""
        for level, (gram, history) in enumerate(zip(grams, histories, strict=True)):
            # The longest n-grams are counted. The others count the different tokens before them.
            counted = gram if level == order - 1 else _of_groups(gram, grams[level + 1])
            count = np.bincount(counted)
            its_history = _of_groups(history, gram)
            discount = np.array(_estimate(count) if discounts is None else discounts[level])
            taken = np.minimum(discount[np.minimum(count, 3) - 1], count)
            total = np.bincount(its_history, weights=count)
            self._shares.append(np.append((count - taken) / total[its_history], 0.0))
            self._rests.append(np.append(np.bincount(its_history, weights=taken) / total, 1.0))

    def log_probabilities(self, sequences: Iterable[Iterable[int]]) -> Floats:
        """Return the natural logarithm of the probability of every token, sequence after sequence."""
        windows = _windows(sequences, self._order)
        probability = np.full(len(windows), 1.0 / self._vocab_size)
        for share, rest, gram, history in zip(self._shares, self._rests, *self._numbers(windows), strict=True):
            probability = share[gram] + rest[history] * probability
        return np.log(probability)

    def _numbers(self, windows: Integers) -> tuple[list[Integers], list[Integers]]:
        """Return the numbers of the n-grams that end at each position, and of their histories, for each order."""
        empty = np.zeros(len(windows), np.int64)
        return self._grams.numbers(windows), [empty, *self._histories.numbers(windows[:, :-1])]


class _Numbering:
    """Numbers the different endings of windows, for each length of the ending."""

    def __init__(self, windows: Integers) -> None:
        self._keys: list[Integers] = []
        number = np.zeros(len(windows), np.int64)
        size = 1
        for column in range(windows.shape[1] - 1, -1, -1):
            keys, number = np.unique(windows[:, column] * size + number, return_inverse=True)
            self._keys.append(keys)
            size = len(keys)

    def numbers(self, windows: Integers) -> list[Integers]:
        """Return the number of each window's ending, from the shortest on, or -1 if it is unknown."""
        found = []
        number = np.zeros(len(windows), np.int64)
        size = 1
        for column, keys in zip(range(windows.shape[1] - 1, -1, -1), self._keys, strict=True):
            key = np.where(number < 0, -1, windows[:, column] * size + number)
            place = np.searchsorted(keys, key).clip(max=len(keys) - 1)
            number = np.where(keys[place] == key, place, -1)
            found.append(number)
            size = len(keys)
        return found


def _windows(sequences: Iterable[Iterable[int]], order: int) -> Integers:
    """Return each token after the `order` - 1 tokens before it. Token t is t + 1, and 0 stands before a sequence."""
    start = np.zeros(order - 1, np.int64)
    arrays = [np.concatenate([start, np.fromiter(sequence, np.int64) + 1]) for sequence in sequences]
    views = [np.lib.stride_tricks.sliding_window_view(each, order) for each in arrays if len(each) >= order]
    return np.concatenate(views) if views else np.zeros((0, order), np.int64)


def _of_groups(values: Integers, groups: Integers) -> Integers:
    """Return the value of each group. All positions of a group have the same value."""
    found = np.empty(groups.max() + 1, np.int64)
    found[groups] = values
    return found


def _estimate(count: Integers) -> Discounts:
    """Return the discounts that Chen and Goodman estimate from the numbers of n-grams with counts of 1 to 4."""
    ones, twos, threes, fours = (int((count == each).sum()) for each in range(1, 5))
    if 0 in (ones, twos, threes, fours):
        return _OF_SMALL_TEXT
    share = ones / (ones + 2 * twos)
    estimates = (1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes)
    return estimates if min(estimates) > 0 else _OF_SMALL_TEXT
