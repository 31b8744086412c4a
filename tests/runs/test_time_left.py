"""The estimate of the time that is left: steady, with validation, and of the limit that comes first."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from lit_transformer.notes import format_duration
from lit_transformer.runs import time_left
from lit_transformer.runs.time_left import TimeLeft


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_left, "time", clock)
    return clock


def trainer_of(*, steps: float, first: int = 0, every: int | float = math.inf, micro_batches: int = 1) -> Any:
    return SimpleNamespace(
        estimated_stepping_batches=steps,
        global_step=first,
        callbacks=[],
        enable_validation=True,
        val_check_batch=every * micro_batches,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=micro_batches,
    )


def take_steps(estimate: TimeLeft, trainer: Any, clock: Clock, seconds: list[float]) -> list[float | None]:
    """The estimates after steps of these durations."""
    found = []
    for each in seconds:
        clock.now += each
        trainer.global_step += 1
        estimate.end_step()
        found.append(estimate.seconds())
    return found


@pytest.mark.parametrize("first", [0, 1000])
def test_it_is_the_mean_of_this_start_and_does_not_jump(first: int, clock: Clock) -> None:
    """A machine that others use takes 10 times as long for some steps. The first step is not counted."""
    trainer = trainer_of(steps=first + 1000, first=first)
    estimate = TimeLeft(trainer)
    durations = [70.0, *[1.0, 1.0, 1.0, 10.0, 1.0] * 100]
    found = take_steps(estimate, trainer, clock, durations)
    assert found[0] is None
    later = [left + sum(durations[: number + 1]) for number, left in enumerate(found) if left and number >= 50]
    assert max(later) < 1.1 * min(later), "the time of the end moves little"
    assert found[-1] == pytest.approx(499 * 2.8)


def test_validations_are_counted(clock: Clock) -> None:
    """After the first one, the sum of all that is to come is known exactly if each takes as long."""
    trainer = trainer_of(steps=1000, every=100, micro_batches=4)
    estimate = TimeLeft(trainer)
    take_steps(estimate, trainer, clock, [1.0] * 100)
    estimate.begin_validation()
    clock.now += 60.0
    estimate.end_validation()
    assert estimate.seconds() == pytest.approx(900 * 1.0 + 9 * 60.0)
    assert take_steps(estimate, trainer, clock, [1.0] * 50)[-1] == pytest.approx(850 * 1.0 + 9 * 60.0)


def test_without_a_limit_there_is_no_estimate(clock: Clock) -> None:
    trainer = trainer_of(steps=math.inf)
    estimate = TimeLeft(trainer)
    assert take_steps(estimate, trainer, clock, [1.0] * 3) == [None] * 3
    assert estimate.total_steps is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3569, "59 min"), (3600, "1 h 00 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
