"""Monitors: what callbacks and schedules decide by must be measured."""

from collections.abc import Iterator

import lightning as L
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateMonitor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_transformer.errors import UserError
from lit_transformer.runs.parts import callbacks_of, model_of, package_of, unknown_callbacks
from lit_transformer.training.metrics import PREFIX
from lit_transformer.training.optimizer import monitor_of

COUNTS = ("epoch", "step")
"""What a `Checkpoint` can monitor beside metrics."""
RATES = "lr-"
"""How `LearningRateMonitor` begins the names of its values."""


class Monitors(Callback):
    """Lightning finds a monitor without values after the first validation: this callback finds it before training."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        names = model_of(trainer).metric_names
        # A callback of the user's may measure anything.
        complete = not unknown_callbacks(trainer)
        rates = bool(callbacks_of(trainer, LearningRateMonitor))
        for owner, monitor in _monitors(trainer):
            if complete and monitor not in names and not (rates and monitor.startswith(RATES)):
                raise UserError(f"{owner} monitors {monitor}, which is not measured: give one of {', '.join(names)}")
            if monitor.startswith(PREFIX) and not trainer.enable_validation:
                raise UserError(
                    f"{owner} monitors {monitor}, but this run has no validation (limit_val_batches): raise it, or "
                    "monitor train/loss"
                )


def _monitors(trainer: L.Trainer) -> Iterator[tuple[str, str]]:
    """Yield what has a monitor, and the monitor. The best checkpoint of a run without validation is none."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set, but not declared
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or (isinstance(callback, Checkpoint) and monitor in COUNTS):
            continue
        if package_of(callback) != "lit_transformer" or trainer.enable_validation:
            yield type(callback).__name__, monitor
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.scheduler, ReduceLROnPlateau):
            yield type(config.scheduler).__name__, monitor_of(config.scheduler)
