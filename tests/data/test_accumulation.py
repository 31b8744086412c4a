"""What Lightning counts, where a step has several micro-batches and epochs have a limit."""

from typing import Any

import lightning as L
import numpy as np
import pytest

from lit_transformer.data.accumulation import accumulate, first_validation, planned_steps, step_counts
from lit_transformer.data.batching import BatchPlan
from lit_transformer.errors import UserError

LENGTHS = np.full(20, 5)
PLAN = BatchPlan(LENGTHS, LENGTHS, 10, seed=1)


def new_trainer(**settings: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, **settings
    )


@pytest.mark.parametrize(
    ("settings", "limit", "every"),
    [
        ({}, 10, 10),
        ({"val_check_interval": 7}, 10, 7),
        ({"val_check_interval": 0.25}, 10, 2),
        ({"val_check_interval": 70, "check_val_every_n_epoch": None}, 10, 70),
        ({"limit_train_batches": 4}, 4, 4),
        ({"limit_train_batches": 0.35, "val_check_interval": 0.5}, 3, 1),
        ({"limit_train_batches": 1, "val_check_interval": 1}, 1, 1),
        ({"overfit_batches": 2}, 2, 2),
        ({"fast_dev_run": 3}, 3, 3),
    ],
)
def test_settings_count_steps(settings: dict[str, Any], limit: int, every: int) -> None:
    """Also if another number of micro-batches is found later (`auto`), or the trainer gets other data."""
    trainer = new_trainer(**settings)
    for micro_batches in (1, 3, 2):
        counts = step_counts(trainer)
        counts.set_plan(PLAN)
        assert (counts.epochs.steps, counts.epochs.plan_steps) == (limit, 10)
        accumulate(trainer, micro_batches)
        assert trainer.accumulate_grad_batches == micro_batches
        assert (trainer.limit_train_batches, trainer.val_check_interval) == (
            limit * micro_batches,
            every * micro_batches,
        )


def test_an_interval_that_is_longer_than_the_epochs_that_it_is_counted_in() -> None:
    trainer = new_trainer(val_check_interval=11)
    counts = step_counts(trainer)
    counts.set_plan(PLAN)
    with pytest.raises(UserError, match=r"val_check_interval is 11\b.*\b10\b.*check_val_every_n_epoch"):
        counts.accumulate(trainer, 2)


def test_a_time_between_validations() -> None:
    """Devices would validate at different steps."""
    with pytest.raises(UserError, match="val_check_interval"):
        step_counts(new_trainer(val_check_interval="00:00:01:00"))


@pytest.mark.parametrize(
    ("settings", "steps", "first"),
    [
        ({"max_steps": 70}, 70, 10),
        ({"max_epochs": 3}, 30, 10),
        ({"max_epochs": 3, "max_steps": 20, "limit_train_batches": 4}, 12, 4),
        ({"max_epochs": -1}, None, 10),
        ({"max_steps": 5, "check_val_every_n_epoch": 4, "val_check_interval": 0.5}, 5, 35),
        ({"max_steps": 5, "check_val_every_n_epoch": None, "val_check_interval": 12}, 5, 12),
    ],
)
def test_the_steps_of_a_run_and_of_its_first_validation(
    settings: dict[str, Any], steps: int | None, first: int
) -> None:
    trainer = new_trainer(**settings)
    counts = step_counts(trainer)
    counts.set_plan(PLAN)
    counts.accumulate(trainer, 3)
    assert planned_steps(trainer, counts.epochs) == steps
    assert first_validation(trainer, counts.epochs) == first
