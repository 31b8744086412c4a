"""The epochs of a run: their optimizer steps, and the steps of the batch plan that they take."""

from dataclasses import dataclass

from lit_transformer.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """Epochs of equal length, so that epoch and offset of a step are its quotient and remainder.

    An epoch that takes only some steps of the plan takes the first ones of the plan's epoch of the same number.
    """

    steps: int
    """Optimizer steps per epoch."""
    plan_steps: int
    """Optimizer steps per epoch of the plan."""
    repeats_first: bool = False
    """Whether all epochs take the steps of the first one (`overfit_batches`)."""

    def plan_step(self, step: int) -> int:
        """Return the step of the plan whose sentence pairs an optimizer step of the run takes, both counted from 0."""
        epoch, offset = divmod(step, self.steps)
        return offset + (0 if self.repeats_first else epoch * self.plan_steps)

    def steps_from(self, step: int, *, ended: int) -> range:
        """Return the optimizer steps from `step` to the end of its epoch.

        Args:
            step: The optimizer steps that are done.
            ended: The epochs that the trainer has ended. It may not have ended the one whose last step is done.
        """
        stop = (step // self.steps + 1) * self.steps
        return range(step, step if step == (ended + 1) * self.steps else stop)


def whole_epochs(plan_steps: int) -> Epochs:
    """Return the epochs of a plan with this many steps."""
    return Epochs(steps=plan_steps, plan_steps=plan_steps)


def limited_epochs(plan_steps: int, limit: int | float, *, name: str) -> Epochs:
    """Return epochs of `limit` steps of a plan, or of this share of its steps.

    Args:
        plan_steps: Optimizer steps per epoch of the plan.
        limit: A number of optimizer steps if it is an integer, otherwise a share.
        name: The setting that gives the limit.

    Raises:
        UserError: The share is less than one step.
    """
    steps = min(limit, plan_steps) if isinstance(limit, int) else int(plan_steps * limit)
    if limit and not steps:
        raise UserError(
            f"{name} is {limit}, which is less than one of the {plan_steps:,} optimizer steps of an epoch: give at "
            f"least {1 / plan_steps:.2g}, or a number of steps"
        )
    return Epochs(steps=steps or plan_steps, plan_steps=plan_steps, repeats_first=name == "overfit_batches")
