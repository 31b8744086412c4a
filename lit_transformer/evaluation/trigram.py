"""A back-off trigram that sees the neighbors on both sides: the baseline of models that restore hidden tokens.

It knows integers and no text.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

BORDER = -1
"""Stands before the first and after the last token of a sequence."""


class Trigram:
    """Guesses a token from the tokens before and after it.

    If the text has both neighbors together, the guess is the token that is most often between them. Otherwise it is the
    token that most often stands beside one of them. The neighbor that makes its token more probable decides. Without a
    known neighbor, it is the most frequent token. Of equally frequent ones, the guess is the most frequent in the text.

    Args:
        sequences: The text to count, in token ids.
    """

    def __init__(self, sequences: Iterable[Iterable[int]]) -> None:
        between: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        after: defaultdict[int, Counter[int]] = defaultdict(Counter)
        before: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._counts: Counter[int] = Counter()
        for sequence in sequences:
            padded = [BORDER, *sequence, BORDER]
            for left, token, right in zip(padded, padded[1:], padded[2:], strict=False):
                between[left, right][token] += 1
                after[left][token] += 1
                before[right][token] += 1
                self._counts[token] += 1
        self._between = {neighbors: self._best(found)[0] for neighbors, found in between.items()}
        self._after = {left: self._best(found) for left, found in after.items()}
        self._before = {right: self._best(found) for right, found in before.items()}
        self._most_frequent = self._best(self._counts)[0]

    def guess(self, left: int | None, right: int | None) -> int:
        """Return the guess between two tokens. None is a token that is hidden."""
        if left is not None and right is not None and (left, right) in self._between:
            return self._between[left, right]
        sides = [
            best
            for best in (
                None if left is None else self._after.get(left),
                None if right is None else self._before.get(right),
            )
            if best is not None
        ]
        return max(sides, key=lambda best: best[1])[0] if sides else self._most_frequent

    def fill(self, sequence: Sequence[int], hidden: Sequence[bool], *, left_is_known: bool) -> list[int]:
        """Return a guess for each hidden token of a sequence.

        Args:
            sequence: The whole sequence.
            hidden: Which of its tokens are hidden.
            left_is_known: Whether the token on the left is known when a token is guessed, even if it is hidden. A
                decoder under teacher forcing knows it. The one on the right is known if it is not hidden.
        """
        padded = [BORDER, *sequence, BORDER]
        covered = [False, *hidden, False]
        return [
            self.guess(
                None if covered[place - 1] and not left_is_known else padded[place - 1],
                None if covered[place + 1] else padded[place + 1],
            )
            for place in range(1, len(padded) - 1)
            if covered[place]
        ]

    def _best(self, found: Counter[int]) -> tuple[int, float]:
        """Return the most frequent token and its share."""
        token = max(found, key=lambda each: (found[each], self._counts[each]))
        return token, found[token] / found.total()
