"""The limits at which a run ends in order, and which of them has ended it."""

from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer

from lit_transformer.batch import Batch
from lit_transformer.data.accumulation import ends_step
from lit_transformer.notes import counted
from lit_transformer.runs.parts import callbacks_of, unknown_callbacks
from lit_transformer.training.metrics import PREFIX


class TimeLimit(Timer):
    """Lightning's `Timer` stops inside an optimizer step and then validates again: this one stops between steps.

    It also stops right after a validation. It counts the training time of the whole run, over all starts.

    Args:
        duration: As in `trainer.max_time`.
    """

    def __init__(self, duration: str | timedelta | dict[str, int] | None = None) -> None:
        super().__init__(duration, verbose=False)

    @property
    def state_key(self) -> str:
        return "Timer"  # Lightning's, so that a run of an earlier version counts on

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        left = self.time_remaining()
        return left is not None and left <= 0

    def on_fit_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        self._stop_if_over(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if ends_step(trainer, batch):
            self._stop_if_over(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._stop_if_over(trainer)

    def _stop_if_over(self, trainer: L.Trainer) -> None:
        if self.time_remaining() is not None and trainer.strategy.broadcast(self.is_over):
            trainer.should_stop = True


class Limits(Callback):
    """Lightning trains a run that `EarlyStopping` has ended up to its next validation: this callback does not.

    Otherwise a job that is started again and again with `ckpt_path auto` would never end.
    """

    def __init__(self) -> None:
        self.first_step = 0
        """The step from which this start goes on."""
        self._patience: dict[EarlyStopping, int] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Loading a checkpoint replaces the patience that the user gives now.
        self._patience = {stopping: stopping.patience for stopping in callbacks_of(trainer, EarlyStopping)}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.first_step = checkpoint["global_step"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for stopping, patience in self._patience.items():
            stopping.patience = patience
            if stopping.wait_count >= patience:
                trainer.should_stop = True


def reached_limit(trainer: L.Trainer) -> str:
    """Return what has ended a run in order, and how to go on."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined] # set, but not declared
        return "fast_dev_run is on: leave it out to train"
    counts = {
        "max_steps": (trainer.max_steps, trainer.global_step),
        "max_epochs": (trainer.max_epochs, trainer.current_epoch),
    }
    for name, (limit, reached) in counts.items():
        if limit is not None and 0 <= limit <= reached:
            return f"{name} is {limit:,}: raise it to train on"
    for timer in callbacks_of(trainer, TimeLimit):
        if timer.is_over:
            elapsed = timedelta(seconds=int(timer.time_elapsed()))
            return (
                f"max_time is used up, because all starts of the run have trained for {elapsed}: raise it to train on"
            )
    for stopping in callbacks_of(trainer, EarlyStopping):
        if reason := _reason_to_stop(stopping):
            return f"EarlyStopping has ended the run{reason}"
    # Nothing records which callback has set `should_stop`.
    names = [type(callback).__name__ for callback in unknown_callbacks(trainer)]
    return f"{' or '.join(names) or 'a callback'} has ended the run"


def _reason_to_stop(stopping: EarlyStopping) -> str | None:
    """Why `EarlyStopping` ends a run, or None if it does not."""
    if stopping.wait_count >= stopping.patience:
        checks = counted(stopping.wait_count, "validation" if stopping.monitor.startswith(PREFIX) else "check")
        return f", because {stopping.monitor} has not improved for {checks}: raise its patience to train on"
    if stopping.stopping_reason_message is not None:
        return f": {stopping.stopping_reason_message.removesuffix(' Signaling Trainer to stop.').rstrip('.')}"
    return None
