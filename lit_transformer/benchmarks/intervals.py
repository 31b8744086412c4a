"""Intervals of measuring: what one is, when other programs disturbed it, and the ratios of intervals of the same round.

A round measures every contestant once, one after the other, on the same work. So what changes slowly on a machine, such
as its clock rate, changes both sides of a ratio. This module knows no processes and no models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

LOST_SHARE = 0.05
"""An interval is disturbed if other programs took more than this share of its cores."""
MOST_REPEATS = 1
"""How often a disturbed round is repeated."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """What one contestant did in one interval, and what it took."""

    tokens: int
    """Target tokens that were trained on or translated into, without padding."""
    wall: float
    """Seconds on the clock."""
    cpu: float
    """Seconds of all its threads and processes on a core."""
    lost: float = 0.0
    """Seconds, per core that it may use, for which other programs kept it from the core."""

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs took enough of the machine to change the result."""
        return self.lost > LOST_SHARE * self.wall


Round = Mapping[str, Interval]
"""The intervals of all contestants, by name."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What was measured."""

    kept: list[Round]
    num_repeated: int
    """Disturbed rounds that were measured again."""

    @property
    def num_disturbed(self) -> int:
        """Disturbed rounds among those that were kept."""
        return sum(map(_is_disturbed, self.kept))


def measure_rounds(measure: Callable[[int], Round], num_rounds: int) -> Rounds:
    """Measure rounds, and repeat those that other programs disturbed.

    Args:
        measure: Measures the round with this number, counted from 0, on work that depends on the number alone.
        num_rounds: The rounds to keep.

    Returns:
        The rounds. If the machine never was quiet for long enough, the least disturbed ones are among them.
    """
    best: dict[int, Round] = {}
    num_measured = 0
    # A repetition waits for the end of a pass, because the disturbance may be over by then.
    for _ in range(1 + MOST_REPEATS):
        for number in range(num_rounds):
            if number in best and not _is_disturbed(best[number]):
                continue
            found = measure(number)
            num_measured += 1
            if number not in best or _lost(found) < _lost(best[number]):
                best[number] = found
    return Rounds(kept=[best[number] for number in range(num_rounds)], num_repeated=num_measured - num_rounds)


def _is_disturbed(found: Round) -> bool:
    return any(interval.is_disturbed for interval in found.values())


def _lost(found: Round) -> float:
    return sum(interval.lost / interval.wall for interval in found.values())


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The median and the quartiles of some values."""
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(median=median(values), low=low, high=high)


def rates(rounds: Sequence[Round], name: str, *, by_cpu: bool = False) -> Spread:
    """Tokens of a contestant per second on the clock, or per second of a core."""
    return Spread.of([_rate(found[name], by_cpu) for found in rounds])


def ratios(rounds: Sequence[Round], ours: str, theirs: str, *, by_cpu: bool = False) -> Spread:
    """How many times as fast one contestant was as another one in the same round."""
    return Spread.of([_rate(found[ours], by_cpu) / _rate(found[theirs], by_cpu) for found in rounds])


def _rate(interval: Interval, by_cpu: bool) -> float:
    return interval.tokens / (interval.cpu if by_cpu else interval.wall)
