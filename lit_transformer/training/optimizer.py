"""The optimizer: the paper's Adam (section 5.3), or a user's choice. It knows neither data nor runs."""

import inspect
import math
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_transformer.errors import UserError

MEASURED_SIZE = 128
"""Rows and columns of the matrix on which `state_bytes` is measured. Adafactor keeps one number per row and column."""
Made = TypeVar("Made")


def make_optimizer(choice: OptimizerCallable | None, model: nn.Module, *, peak: float, clips: bool) -> Optimizer:
    """Make the optimizer of a model. The caller sets its learning rate.

    Biases and normalization have no weight decay.

    Args:
        choice: A user's. None is Adam with the paper's settings.
        model: Its parameters are optimized.
        peak: The peak learning rate, which the optimizer's own `lr` must not contradict.
        clips: Whether gradients are clipped. Mixed precision hides them inside a fused step.

    Raises:
        UserError: The choice cannot be used.
    """
    if choice is None:
        return Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9, fused=not clips)
    optimizer = _made("optimizer", choice, model.parameters())
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"optimizer gives a {type(optimizer).__name__}: it must give a torch.optim.Optimizer")
    _check_rate(optimizer, peak)
    if any(group.get("weight_decay") for group in optimizer.param_groups):
        optimizer = _made("optimizer", choice, _decay_groups(model))
    if clips and any(group.get("fused") for group in optimizer.param_groups):
        raise UserError("optimizer has fused true, which cannot clip gradients: leave out fused or gradient_clip_val")
    return optimizer


def state_bytes(choice: OptimizerCallable | None, model: nn.Module, *, peak: float) -> float:
    """Return the bytes that an optimizer keeps per weight, by a step on a small matrix.

    Args:
        choice: As in `make_optimizer`.
        model: The matrix has the type and the device of its weights.
        peak: As in `make_optimizer`.

    Raises:
        UserError: The choice cannot be used.
    """
    small = nn.ParameterList([next(model.parameters()).new_zeros(MEASURED_SIZE, MEASURED_SIZE)])
    optimizer = make_optimizer(choice, small, peak=peak, clips=False)
    small[0].grad = torch.zeros_like(small[0])
    _made("optimizer", optimizer.step, lambda: torch.zeros(()))
    # A count of steps, which is one number, does not grow with the model.
    states = [value for value in optimizer.state[small[0]].values() if isinstance(value, Tensor) and value.ndim]
    return sum(state.nbytes for state in states) / small[0].numel()


def make_schedule(choice: LRSchedulerCallable, optimizer: Optimizer, metric_names: Collection[str]) -> LRScheduler:
    """Make a user's schedule.

    Args:
        choice: The user's.
        optimizer: Has the peak learning rate.
        metric_names: Values that the schedule can monitor.

    Raises:
        UserError: The choice cannot be used.
    """
    schedule = _made("schedule", choice, optimizer)
    if not isinstance(schedule, LRScheduler):
        raise UserError(f"schedule gives a {type(schedule).__name__}: it must give an LRScheduler of torch")
    if isinstance(schedule, ReduceLROnPlateau) and (name := monitor_of(schedule)) not in metric_names:
        raise UserError(f"schedule has monitor {name}, which does not exist: choose one of {', '.join(metric_names)}")
    return schedule


def monitor_of(schedule: ReduceLROnPlateau) -> str:
    """Return the value that a schedule monitors. That of torch does not name one."""
    return getattr(schedule, "monitor", "val/loss")


def last_step(trainer: L.Trainer, schedule: str) -> float:
    """Return the last optimizer step of a run.

    Before the loader is there, it is infinite if epochs limit the run. Then the step is the first one, and the last one
    does not matter. Lightning's `estimated_stepping_batches` would make the loader anew, and lose where it is.

    Raises:
        UserError: The run has no end, but this schedule needs it.
    """
    ends = [float(trainer.max_steps)] if trainer.max_steps >= 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        steps = trainer.num_training_batches / trainer.accumulate_grad_batches
        ends.append(trainer.max_epochs * (math.ceil(steps) if math.isfinite(steps) else steps))
    if not ends or (trainer.train_dataloader is not None and math.isinf(min(ends))):
        raise UserError(
            f"schedule is {schedule}, and its rate is 0 at the end of the run: give max_steps or max_epochs"
        )
    return min(ends)


def _made(name: str, choice: Callable[[Any], Made], argument: Any) -> Made:
    try:
        return choice(argument)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"{name} cannot be used: {error}") from error


def _check_rate(optimizer: Optimizer, peak: float) -> None:
    """Raise UserError if the user has given the optimizer a learning rate of its own that differs from the peak."""
    parameter = inspect.signature(type(optimizer)).parameters.get("lr")
    unused = parameter.default if parameter else None
    for group in optimizer.param_groups:
        if (rate := group.get("lr")) not in (unused, peak):
            raise UserError(f"optimizer has lr {rate}, but the schedule sets the rate: give learning_rate {rate}")


def _decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The parameters in two groups: with weight decay, and without it."""
    spared = {
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name == "bias" or isinstance(module, nn.LayerNorm | nn.RMSNorm)
    }
    decayed = [parameter for parameter in model.parameters() if parameter not in spared]
    rest = [parameter for parameter in model.parameters() if parameter in spared]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
