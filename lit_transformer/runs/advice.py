"""Advice of `fit` and `check`: what would go wrong in a run or make its results misleading, each with its remedy."""

from contextlib import suppress

import lightning as L

from lit_transformer.data.accumulation import first_validation, planned_steps
from lit_transformer.data.loaders import LoadedData
from lit_transformer.errors import UserError
from lit_transformer.notes import counted
from lit_transformer.runs.forecast import BatchForecast, forecast_batches
from lit_transformer.training.module import LitModel

MANY_EPOCHS = 300
MANY_IDLE_STEPS = 0.02
MUCH_PADDING = 0.2
MAX_SAME_STEPS = 2
"""Steps of an epoch that is too short to mix its rows."""
LESS_PADDING = 0.8
"""A remedy leaves at most this part of the padding."""


def find_warnings(
    trainer: L.Trainer, module: LitModel, data: LoadedData, batches: BatchForecast, *, devices: int
) -> list[str]:
    """Return what would go wrong or surprise, each with its remedy.

    Args:
        trainer: Has the length of the run.
        module: Has the warm-up.
        data: Is set up.
        batches: The micro-batches of the run.
        devices: Their number over all nodes.
    """
    found: list[str] = []
    steps = planned_steps(trainer, data.epochs)
    if steps is not None:
        found += _wrong_length(trainer, module, data, steps)
    if devices > 1 and batches.idle_share > MANY_IDLE_STEPS:
        found.append(
            f"{batches.idle_share:.0%} of the steps have fewer {data.row}s than {devices} x {batches.accumulation} "
            f"micro-batches, so devices are idle: use fewer devices or raise {data.step_setting}"
        )
    if batches.padding_share > MUCH_PADDING:
        found.append(
            f"{batches.padding_share:.0%} of the positions are padding: {less_padding(data, batches, devices)}"
        )
    if data.plan.num_batches <= MAX_SAME_STEPS:
        rows = counted(len(data.plan.source_lengths), data.row)
        found.append(
            f"an epoch of {rows} has {counted(data.plan.num_batches, 'step')}, so the {data.row}s of a step hardly "
            f"change: lower {data.step_setting}, which is {data.plan.tokens_per_batch:,}, or give more data"
        )
    return [*found, *module.find_warnings(data), *data.warnings]


def _wrong_length(trainer: L.Trainer, module: LitModel, data: LoadedData, steps: int) -> list[str]:
    """Compare the steps of a run with its warm-up, its validations and its text."""
    found, epochs = [], data.epochs
    if isinstance(module.schedule, str) and steps <= module.rates.warmup_steps:
        found.append("the run ends before the warm-up does: raise max_steps or lower warmup_steps")
    times = steps / epochs.plan_steps
    if times > MANY_EPOCHS and not epochs.repeats_first:
        found.append(
            f"every {data.row} is seen {times:,.0f} times, and may be memorized: lower max_steps or max_epochs"
        )
    if steps < first_validation(trainer, epochs) and trainer.limit_val_batches:
        found.append("the run is never validated: lower val_check_interval or check_val_every_n_epoch")
    return found


def less_padding(data: LoadedData, batches: BatchForecast, devices: int) -> str:
    """Plan the batches with other sizes, and return which size leaves much less padding, if any."""
    plan, limit = data.plan, data.max_tokens_per_device
    size = plan.tokens_per_batch
    choices = [
        (f"raise {data.step_setting} to {2 * size}", 2 * size, limit),
        (f"lower {data.step_setting} to {size // 2}", size // 2, limit),
    ]
    if limit != "auto":
        for lower in (limit // 2, limit // 4):
            choices.append((f"lower {data.device_setting} to {lower} (the steps stay the same)", size, lower))
    shares: dict[str, float] = {}
    for remedy, tokens, most in choices:
        with suppress(UserError):  # fewer tokens than the longest sentence has
            other = type(plan)(plan.source_lengths, plan.target_lengths, tokens, plan.seed)
            accumulation = batches.accumulation
            if most != "auto":
                accumulation = other.accumulation(max_tokens_per_device=most, world_size=devices)
            forecast = forecast_batches(other, accumulation=accumulation, world_size=devices)
            shares[remedy] = forecast.padding_share
    best = min(shares, key=shares.__getitem__, default="")
    if not best or shares[best] > LESS_PADDING * batches.padding_share:
        return (
            f"other batches leave as much, because the lengths of {counted(len(plan.source_lengths), data.row)} differ"
        )
    return f"{best}, which leaves {shares[best]:.0%}"
