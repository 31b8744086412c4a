"""The time that is left of a run."""

import math
import time

import lightning as L

from lit_transformer.runs.limits import TimeLimit
from lit_transformer.runs.parts import callbacks_of


class TimeLeft:
    """A steady estimate. It is the mean over this start, with the time of training and of validation apart.

    Args:
        trainer: It is about to train.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        steps = trainer.estimated_stepping_batches
        self.total_steps = int(steps) if math.isfinite(steps) and steps >= 0 else None
        """Optimizer steps of the whole run, or None if no number of steps or epochs limits it."""
        self._trainer = trainer
        self._first_step = -1
        self._begin = self._paused = 0.0
        self._validation_seconds: list[float] = []

    def end_step(self) -> None:
        """Take the time of a step. The first one of a start is no measure: it also allocates memory, for example."""
        if self._first_step < 0:
            self._first_step, self._begin = self._trainer.global_step, time.perf_counter()

    def begin_validation(self) -> None:
        """Take the time at which a validation begins."""
        self._paused = time.perf_counter()

    def end_validation(self) -> None:
        """Take the time at which a validation ends."""
        self._validation_seconds.append(time.perf_counter() - self._paused)

    def seconds(self) -> float | None:
        """Return the time to the limit that ends the run first, or None if it cannot be told yet."""
        trainer, step = self._trainer, self._trainer.global_step
        left = [timer.time_remaining() for timer in callbacks_of(trainer, TimeLimit)]
        if self.total_steps is not None and step > self._first_step >= 0:
            validating = sum(self._validation_seconds)
            pace = (time.perf_counter() - self._begin - validating) / (step - self._first_step)
            each = validating / len(self._validation_seconds) if self._validation_seconds else 0.0
            validations = self._validations(self.total_steps) - self._validations(step)
            left.append((self.total_steps - step) * pace + validations * each)
        return min((limit for limit in left if limit is not None), default=None)

    def _validations(self, step: int) -> int:
        """Validations of the run up to a step."""
        trainer = self._trainer
        every = trainer.val_check_batch
        if not (trainer.enable_validation and every and math.isfinite(every)):
            return 0
        micro_batches = step * trainer.accumulate_grad_batches
        return int(micro_batches // (every * (trainer.check_val_every_n_epoch or 1)))
