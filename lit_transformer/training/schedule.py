"""The learning rate as a function of the optimizer step (section 5.3). Steps count from 1."""

import math
from typing import Literal

from lit_transformer.errors import UserError

ScheduleName = Literal["inverse_square_root", "linear", "cosine", "constant"]
ENDING: tuple[ScheduleName, ...] = ("linear", "cosine")
"""The schedules that need the last step of the run. Their rate is 0 after it."""


def learning_rate(step: int, *, d_model: int, warmup_steps: int, scale: float = 1.0) -> float:
    """Equation (3) times `scale`: d_model^-0.5 min(step^-0.5, step warmup_steps^-1.5)."""
    return scale * d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def share_of_peak(
    schedule: Literal["linear", "cosine", "constant"], step: int, *, warmup_steps: int, last_step: float
) -> float:
    """The rate at a step, divided by the highest one, which is that of step `warmup_steps`.

    Args:
        schedule: What follows the warm-up. The warm-up is linear. Equation (3) has its own function.
        step: An optimizer step.
        warmup_steps: Steps of the warm-up.
        last_step: The run's last step, for the schedules of `ENDING`.
    """
    if step <= warmup_steps:
        return step / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = (step - warmup_steps) / (last_step + 1 - warmup_steps) if step <= last_step else 1.0
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


class Rates:
    """The learning rates of a run.

    Args:
        d_model: Width of the model.
        warmup_steps: Optimizer steps over which the rate rises.
        learning_rate_scale: Factor on the paper's rate.
        learning_rate: The peak rate in place of the paper's.

    Raises:
        UserError: A value is out of range, or both of the last two are given.
    """

    def __init__(
        self, *, d_model: int, warmup_steps: int, learning_rate_scale: float, learning_rate: float | None
    ) -> None:
        if warmup_steps < 1:
            raise UserError(f"warmup_steps is {warmup_steps}: it must be at least 1")
        for name, rate in (("learning_rate_scale", learning_rate_scale), ("learning_rate", learning_rate)):
            if rate is not None and not 0.0 < rate < math.inf:
                raise UserError(f"{name} is {rate}: it must be above 0")
        if learning_rate is not None and learning_rate_scale != 1.0:
            raise UserError(
                f"learning_rate is {learning_rate} and learning_rate_scale is {learning_rate_scale}: give one of them, "
                "and null or 1.0 for the other"
            )
        self.d_model = d_model
        self.warmup_steps = warmup_steps
        paper = d_model**-0.5 * warmup_steps**-0.5
        self.scale = learning_rate_scale if learning_rate is None else learning_rate / paper
        self.peak = learning_rate_scale * paper if learning_rate is None else learning_rate
        """The highest rate."""

    def at(self, step: int, schedule: ScheduleName, *, last_step: float) -> float:
        """Return the rate at a step. The last two arguments are those of `share_of_peak`."""
        if schedule == "inverse_square_root":
            return learning_rate(step, d_model=self.d_model, warmup_steps=self.warmup_steps, scale=self.scale)
        return self.peak * share_of_peak(schedule, step, warmup_steps=self.warmup_steps, last_step=last_step)
