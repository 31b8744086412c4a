"""Interpolated Kneser-Ney smoothing: the baseline of a language model, on the same tokens.

It is the best of the models that only count n-grams (Chen and Goodman, 1999). It knows integers and no text.

Legend: P positions, N order, G different n-grams of one order, H different histories.
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
        sequences: Iterable[Sequence[int]],
        *,
        vocab_size: int,
        order: int = 5,
        discounts: Sequence[Discounts] | None = None,
    ) -> None:
        self._vocab_size = vocab_size
        self._order = order
        window_PN = _windows(sequences, order)
        self._grams, self._histories = _Numbering(window_PN), _Numbering(window_PN[:, :-1])
        grams, histories = self._numbers(window_PN)
        self._shares: list[Floats] = []
        """For each order and n-gram, its discounted count divided by the count of its history. The last value is 0, for
        an n-gram that the text lacks."""
        self._rests: list[Floats] = []
        """For each order and history, what the discounts leave to the lower order. The last value is 1."""
        for level, (gram_P, history_P) in enumerate(zip(grams, histories, strict=True)):
            # The longest n-grams are counted. The others count the different tokens before them.
            counted_P = gram_P if level == order - 1 else _of_groups(gram_P, grams[level + 1])
            count_G = np.bincount(counted_P)
            history_G = _of_groups(history_P, gram_P)
            discount = np.array(_estimate(count_G) if discounts is None else discounts[level])
            taken_G = np.minimum(discount[np.minimum(count_G, 3) - 1], count_G)
            total_H = np.bincount(history_G, weights=count_G)
            self._shares.append(np.append((count_G - taken_G) / total_H[history_G], 0.0))
            self._rests.append(np.append(np.bincount(history_G, weights=taken_G) / total_H, 1.0))

    def log_probabilities(self, sequences: Iterable[Sequence[int]]) -> Floats:
        """Return the natural logarithm of the probability of every token, sequence after sequence."""
        window_PN = _windows(sequences, self._order)
        probability_P = np.full(len(window_PN), 1.0 / self._vocab_size)
        for share_G, rest_H, gram_P, history_P in zip(
            self._shares, self._rests, *self._numbers(window_PN), strict=True
        ):
            probability_P = share_G[gram_P] + rest_H[history_P] * probability_P
        return np.log(probability_P)

    def _numbers(self, window_PN: Integers) -> tuple[list[Integers], list[Integers]]:
        """Return the numbers of the n-grams that end at each position, and of their histories, for each order."""
        empty_P = np.zeros(len(window_PN), np.int64)
        return self._grams.numbers(window_PN), [empty_P, *self._histories.numbers(window_PN[:, :-1])]


class _Numbering:
    """Numbers the different endings of windows, for each length of the ending."""

    def __init__(self, window_PN: Integers) -> None:
        self._keys: list[Integers] = []
        number_P = np.zeros(len(window_PN), np.int64)
        size = 1
        for column in range(window_PN.shape[1] - 1, -1, -1):
            keys, number_P = np.unique(window_PN[:, column] * size + number_P, return_inverse=True)
            self._keys.append(keys)
            size = len(keys)

    def numbers(self, window_PN: Integers) -> list[Integers]:
        """Return the number of each window's ending, from the shortest on, or -1 if it is unknown."""
        found = []
        number_P = np.zeros(len(window_PN), np.int64)
        size = 1
        for column, keys in zip(range(window_PN.shape[1] - 1, -1, -1), self._keys, strict=True):
            key_P = np.where(number_P < 0, -1, window_PN[:, column] * size + number_P)
            place_P = np.searchsorted(keys, key_P).clip(max=len(keys) - 1)
            number_P = np.where(keys[place_P] == key_P, place_P, -1)
            found.append(number_P)
            size = len(keys)
        return found


def _windows(sequences: Iterable[Sequence[int]], order: int) -> Integers:
    """Return each token after the `order` - 1 tokens before it. Token t is t + 1, and 0 stands before a sequence."""
    start = np.zeros(order - 1, np.int64)
    arrays = [np.concatenate([start, np.asarray(sequence, np.int64) + 1]) for sequence in sequences]
    views = [np.lib.stride_tricks.sliding_window_view(each, order) for each in arrays if len(each) >= order]
    return np.concatenate(views) if views else np.zeros((0, order), np.int64)


def _of_groups(value_P: Integers, group_P: Integers) -> Integers:
    """Return the value of each group. All positions of a group have the same value."""
    value_G = np.empty(group_P.max() + 1, np.int64)
    value_G[group_P] = value_P
    return value_G


def _estimate(count_G: Integers) -> Discounts:
    """Return the discounts that Chen and Goodman estimate from the numbers of n-grams with counts of 1 to 4."""
    ones, twos, threes, fours = (int((count_G == count).sum()) for count in range(1, 5))
    if 0 in (ones, twos, threes, fours):
        return _OF_SMALL_TEXT
    share = ones / (ones + 2 * twos)
    estimates = (1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes)
    return estimates if min(estimates) > 0 else _OF_SMALL_TEXT
