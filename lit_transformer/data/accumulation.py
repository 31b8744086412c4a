"""Accumulation: an optimizer step of several micro-batches, each as large as a device's memory allows.

Settings and recipes count optimizer steps, and Lightning counts micro-batches.
"""

from typing import Any

import lightning as L

from lit_transformer.batch import Batch
from lit_transformer.errors import UserError


def check_accumulation(trainer: L.Trainer) -> None:
    """Raise UserError if the user has set a number of micro-batches. It follows from their size."""
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            "accumulate_grad_batches follows from max_tokens_per_device: leave it out, and lower "
            "max_tokens_per_device to accumulate more"
        )


def accumulate(trainer: L.Trainer, micro_batches: int) -> None:
    """Make `micro_batches` of each device an optimizer step, and keep the number of steps between validations."""
    former, trainer.accumulate_grad_batches = trainer.accumulate_grad_batches, micro_batches
    if isinstance(trainer.val_check_interval, int):
        trainer.val_check_interval = trainer.val_check_interval // former * micro_batches


def ends_step(trainer: L.Trainer, batch: Batch) -> bool:
    """Return whether the optimizer has stepped after this micro-batch."""
    return batch.micro_batch + 1 == trainer.accumulate_grad_batches


def validates_now(trainer: L.Trainer) -> bool:
    """Return whether a validation is due after the step that has just ended."""
    every = trainer.val_check_batch
    num_micro_batches = trainer.global_step * trainer.accumulate_grad_batches
    return trainer.enable_validation and isinstance(every, int) and num_micro_batches % every == 0


def recount(checkpoint: dict[str, Any], micro_batches: int) -> None:
    """Rewrite Lightning's counters in a checkpoint whose run had another number of micro-batches per step."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    surplus = progress["total"]["ready"] - checkpoint["global_step"] * micro_batches
    for counts in (progress["total"], progress["current"]):
        counts.update({name: count - surplus for name, count in counts.items()})
