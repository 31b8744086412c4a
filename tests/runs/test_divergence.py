"""Runs that diverge: gradients that are not finite, and a loss that stays high."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_transformer.errors import UserError
from lit_transformer.runs.divergence import DIVERGED_REPORTS, MAX_SKIPPED_IN_A_ROW, Divergence
from lit_transformer.training.meter import Meter


def after_steps(norms: list[float], *, scaler: object | None) -> tuple[Divergence, Any]:
    """The callback after gradients of these norms, one per step, and its trainer."""
    trainer: Any = SimpleNamespace(
        precision_plugin=SimpleNamespace(scaler=scaler),
        strategy=SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda value, reduce_op: value),
        datamodule=SimpleNamespace(describe_step=lambda step: f"the pairs of {step}"),
        accumulate_grad_batches=1,
    )
    trainer.lightning_module = SimpleNamespace(meter=Meter(), is_reported=lambda step: False)
    divergence = Divergence()
    divergence.on_fit_start(trainer, trainer.lightning_module)
    for trainer.global_step, norm in enumerate(norms, start=1):
        trainer.lightning_module.meter.gradient_norm = torch.tensor(norm)
        batch: Any = SimpleNamespace(micro_batch=0)
        divergence.on_train_batch_end(trainer, trainer.lightning_module, None, batch, 0)
    return divergence, trainer


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_stop_the_run(norm: float) -> None:
    """The first step is named, whenever the check is made; a checkpoint is one, and is not written then."""
    divergence, trainer = after_steps([1.0, 2.0], scaler=None)
    divergence.check_gradients(trainer)
    divergence, trainer = after_steps([1.0, norm, 3.0, norm], scaler=None)
    for check in (divergence.check_gradients, lambda trainer: divergence.on_save_checkpoint(trainer, trainer, {})):
        with pytest.raises(UserError, match=r"the gradients of step 2 are not finite.*the pairs of 1$"):
            check(trainer)


def test_float16_may_skip_single_steps() -> None:
    overflow = float("inf")
    divergence, trainer = after_steps([1.0, overflow, 1.0, overflow, overflow], scaler=object())
    divergence.check_gradients(trainer)
    divergence, trainer = after_steps([1.0] + [overflow] * MAX_SKIPPED_IN_A_ROW, scaler=object())
    with pytest.raises(UserError, match=f"the gradients of step {MAX_SKIPPED_IN_A_ROW + 1} are not finite"):
        divergence.check_gradients(trainer)


def test_a_loss_that_stays_high_stops_the_run() -> None:
    """Also if the run is resumed meanwhile."""
    divergence = Divergence()
    losses = [9.0, 5.0, *[5.9] * 30, *[7.0] * (DIVERGED_REPORTS - 1), 5.5, *[7.0] * (DIVERGED_REPORTS - 1)]
    for step, loss in enumerate(losses):
        divergence.check_loss(loss, step)
    resumed = Divergence()
    resumed.load_state_dict(divergence.state_dict())
    with pytest.raises(UserError, match=r"diverged: at step 99 .* its lowest, 5\.000, for 20 reports"):
        resumed.check_loss(7.0, 99)
