"""Accumulation: an optimizer step of several micro-batches, each as large as a device's memory allows.

Settings and recipes count optimizer steps, and Lightning counts micro-batches. Only this module converts.
"""

import warnings
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from lit_transformer.batch import Batch
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.epochs import Epochs, limited_epochs
from lit_transformer.errors import UserError


class StepCounts(Callback):
    """Lightning's loops count micro-batches and epochs by themselves: with this callback both follow from the step.

    So a run can go on from any checkpoint, also from one with other micro-batches, another limit or endless epochs. It
    belongs to one trainer, whose settings it takes as numbers of optimizer steps.

    Args:
        trainer: Has the user's settings.

    Raises:
        UserError: They have a number of micro-batches, which follows from their size, or a time between validations.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        check_accumulation(trainer)
        if not hasattr(trainer, "val_check_interval"):
            raise UserError("val_check_interval is a time: give a number of optimizer steps, or a share of an epoch")
        # Curves count the steps of the run, so an epoch may be shorter.
        warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
        self._limit = trainer.limit_train_batches
        self._val_check_interval = trainer.val_check_interval
        overfits = trainer.overfit_batches > 0  # type: ignore[attr-defined] # set, but not declared
        self._name = "overfit_batches" if overfits else "limit_train_batches"
        self.plan: BatchPlan | None = None
        self.epochs: Epochs

    def set_plan(self, plan: BatchPlan) -> None:
        """Limit the epochs of a plan as the user has asked."""
        self.plan, self.epochs = plan, limited_epochs(plan.num_batches, self._limit, name=self._name)

    def accumulate(self, trainer: L.Trainer, micro_batches: int) -> None:
        """Make `micro_batches` of each device an optimizer step, and convert the user's settings."""
        every, steps = self._val_check_interval, self.epochs.steps
        if isinstance(every, float):
            every = max(1, int(steps * every))
        elif every > steps and trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches:
            raise UserError(
                f"val_check_interval is {every:,} optimizer steps, and an epoch has {steps:,}: give at most {steps:,}, "
                "or 1.0 for the end of an epoch, or leave check_val_every_n_epoch out (null)"
            )
        trainer.accumulate_grad_batches = micro_batches
        trainer.val_check_interval = every * micro_batches
        if self._limit:  # 0 means that nothing is trained
            trainer.limit_train_batches = steps * micro_batches

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step:  # a second `fit`
            trainer.fit_loop.load_state_dict(self._loops(trainer, trainer.global_step, epoch_ended=True))

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        loops = checkpoint["loops"]["fit_loop"]
        epoch, training, validation = (
            loops[f"{name}progress"]["total"] for name in ("epoch_", "epoch_loop.batch_", "epoch_loop.val_loop.batch_")
        )
        validated = training["completed"] == training["processed"] and validation["completed"] == validation["ready"]
        ended = epoch["processed"] == epoch["ready"]
        loops.update(self._loops(trainer, checkpoint["global_step"], epoch_ended=ended, validated=validated))

    def _loops(
        self, trainer: L.Trainer, step: int, *, epoch_ended: bool, validated: bool = True
    ) -> dict[str, dict[str, Any]]:
        """Return what Lightning's loops count when they have taken `step` optimizer steps.

        It is the state of a checkpoint that was saved at the end of the step's last micro-batch, before the trainer
        counts it: from there Lightning goes on without another validation.

        Args:
            trainer: Has the settings.
            step: Optimizer steps.
            epoch_ended: Whether the hooks of an epoch's end have run if the step is its last.
            validated: Whether the validation that may be due after the step has run.
        """
        epoch, offset = divmod(step, self.epochs.steps)
        if step and not offset and not epoch_ended:
            epoch, offset = epoch - 1, self.epochs.steps
        micro_batches = trainer.accumulate_grad_batches
        in_epoch, in_run = offset * micro_batches, step * micro_batches
        validates = bool(offset) and not validated and _is_due(trainer, epoch, in_epoch, in_run)
        # Between epochs Lightning restarts its loops only if the steps of the run are limited.
        uncounted = int(offset > 0 or trainer.max_steps != -1)
        epochs = _counts(epoch + (offset > 0), epoch, epoch)
        validation = _counts(int(validates), 0, 0)
        return {
            "epoch_progress": {"total": epochs, "current": epochs},
            "epoch_loop.batch_progress": {
                "total": _counts(in_run, in_run, in_run - uncounted),
                "current": _counts(in_epoch, in_epoch, in_epoch - uncounted),
                "is_last_batch": False,
            },
            "epoch_loop.val_loop.batch_progress": {"total": validation, "current": validation, "is_last_batch": False},
            "epoch_loop.state_dict": {"_batches_that_stepped": step - uncounted - validates},
        }


def _counts(started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": started, "started": started, "processed": processed, "completed": completed}


def check_accumulation(trainer: L.Trainer) -> None:
    """Raise UserError if the user has set a number of micro-batches. It follows from their size."""
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            "accumulate_grad_batches follows from max_tokens_per_device (for images, max_images_per_device): leave it "
            "out, and lower that one to accumulate more"
        )


def step_counts(trainer: L.Trainer) -> StepCounts:
    """Return the trainer's `StepCounts`, which it gets when it is first asked for."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined] # set, but not declared
    for callback in callbacks:
        if isinstance(callback, StepCounts):
            return callback
    callbacks.append(StepCounts(trainer))
    return step_counts(trainer)


def accumulate(trainer: L.Trainer, micro_batches: int) -> None:
    """Make `micro_batches` of each device an optimizer step."""
    step_counts(trainer).accumulate(trainer, micro_batches)


def planned_steps(trainer: L.Trainer, epochs: Epochs) -> int | None:
    """Return the optimizer steps at which `max_steps` or `max_epochs` ends a run, or None without these limits."""
    limits = [trainer.max_steps, epochs.steps * trainer.max_epochs if trainer.max_epochs is not None else -1]
    return min((limit for limit in limits if limit >= 0), default=None)


def first_validation(trainer: L.Trainer, epochs: Epochs) -> int:
    """Return the optimizer step after which a run validates for the first time."""
    steps = int(trainer.val_check_interval) // trainer.accumulate_grad_batches
    return steps + ((trainer.check_val_every_n_epoch or 1) - 1) * epochs.steps


def ends_step(trainer: L.Trainer, batch: Batch) -> bool:
    """Return whether the optimizer has stepped after this micro-batch."""
    return batch.micro_batch + 1 == trainer.accumulate_grad_batches


def validates_now(trainer: L.Trainer) -> bool:
    """Return whether a validation is due after the step that has just ended."""
    loop = trainer.fit_loop
    return _is_due(trainer, trainer.current_epoch, loop.batch_idx + 1, loop.total_batch_idx + 1)


def _is_due(trainer: L.Trainer, epoch: int, in_epoch: int, in_run: int) -> bool:
    """Return whether Lightning validates after this many micro-batches of an epoch and of the run."""
    if not trainer.enable_validation:
        return False
    if trainer.check_val_every_n_epoch is None:
        return in_run % int(trainer.val_check_interval) == 0
    return (epoch + 1) % trainer.check_val_every_n_epoch == 0 and in_epoch % int(trainer.val_check_interval) == 0
