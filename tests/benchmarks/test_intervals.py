"""Rounds, repetitions and ratios on synthetic numbers."""

from collections import Counter

import pytest

from lit_transformer.benchmarks.intervals import Interval, Round, Spread, measure_rounds, rates, ratios


def interval(tokens: int = 100, wall: float = 1.0, cpu: float = 1.0, lost: float = 0.0) -> Interval:
    return Interval(tokens=tokens, wall=wall, cpu=cpu, lost=lost)


def test_what_others_take_disturbs() -> None:
    assert not interval(wall=10.0, lost=0.4).is_disturbed
    assert interval(wall=10.0, lost=0.6).is_disturbed


def test_disturbed_rounds_are_repeated_after_all_had_their_turn() -> None:
    turns = list[int]()

    def measure(number: int) -> Round:
        turns.append(number)
        lost = 0.5 if number in (1, 3) and turns.count(number) == 1 else 0.0
        return {"a": interval(), "b": interval(lost=lost)}

    found = measure_rounds(measure, 4)
    assert turns == [0, 1, 2, 3, 1, 3]
    assert (len(found.kept), found.num_repeated, found.num_disturbed) == (4, 2, 0)


def test_on_a_busy_machine_the_least_disturbed_rounds_are_kept() -> None:
    turns = Counter[int]()

    def measure(number: int) -> Round:
        turns[number] += 1
        return {"a": interval(lost=0.5 / turns[number]), "b": interval(lost=0.1)}

    found = measure_rounds(measure, 3)
    assert found.num_disturbed == 3
    assert set(turns.values()) == {2}
    assert [each["a"].lost for each in found.kept] == [0.25] * 3


def test_ratios_are_of_the_same_round() -> None:
    """A machine that slows down to a tenth changes no ratio."""
    slowdowns = [1.0, 2.0, 10.0]
    rounds: list[Round] = [
        {"ours": interval(200, wall=slow, cpu=2 * slow), "theirs": interval(100, wall=slow, cpu=slow)}
        for slow in slowdowns
    ]
    assert ratios(rounds, "ours", "theirs") == Spread(median=2.0, low=2.0, high=2.0)
    assert ratios(rounds, "ours", "theirs", by_cpu=True) == Spread(median=1.0, low=1.0, high=1.0)
    assert rates(rounds, "ours") == Spread(median=100.0, low=60.0, high=150.0)


@pytest.mark.parametrize(
    ("values", "expected"), [([7.0], (7.0, 7.0, 7.0)), ([5.0, 1.0, 2.0, 3.0, 4.0], (2.0, 3.0, 4.0))]
)
def test_spread(values: list[float], expected: tuple[float, float, float]) -> None:
    spread = Spread.of(values)
    assert (spread.low, spread.median, spread.high) == expected
