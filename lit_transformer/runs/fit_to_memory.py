"""Whether the micro-batches fit into the device's memory: known before the first step, not after the first epoch."""

import sys
from collections.abc import Callable

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lit_transformer.data.accumulation import accumulate
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.decoding.devices import is_out_of_memory
from lit_transformer.errors import UserError
from lit_transformer.runs.parts import data_of, model_of
from lit_transformer.runs.ranks import on_all_ranks
from lit_transformer.training.translation import LitTransformer

if sys.platform != "win32":
    import resource

MARGIN = 1.1
"""What is found by trial must hold for days, and memory fragments: so much larger micro-batches must fit."""
ADAM_BYTES = 8
"""A parameter's two moments, which are made at the first step."""
BUCKET_BYTES = 4
"""A parameter's copy of its gradient in DDP, where it is summed over devices."""


class FitToMemory(Callback):
    """Runs the worst micro-batches of the plan before training, forward and backward, and forgets what they gave.

    So the run ends at once, and says what to change, where its memory would not suffice. With
    `data.max_tokens_per_device auto` it finds the fewest micro-batches a step that fit on every device.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Devices differ in what else they hold, and a rank that fails alone would leave the others waiting.
        on_all_ranks(lambda: self._set_micro_batches(trainer))

    def _set_micro_batches(self, trainer: L.Trainer) -> None:
        data, strategy = data_of(trainer), trainer.strategy
        limit = data.max_tokens_per_device
        # The others cut the model itself into parts, and nothing is cut before training begins.
        if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
            if limit == "auto":
                raise UserError(
                    "data.max_tokens_per_device is auto, which only one device and trainer.strategy ddp can have: "
                    "give a number of tokens"
                )
            return
        trial = Trial(model_of(trainer), data, strategy.root_device, trainer.precision_plugin, trainer.world_size)
        if limit == "auto":
            accumulate(trainer, trial.fewest_micro_batches(agree=strategy.reduce_boolean_decision))
            if trainer.is_global_zero:
                tokens = data.plan.micro_batch_tokens(trainer.world_size * trainer.accumulate_grad_batches).max()
                print(f"data.max_tokens_per_device auto: {tokens:,} padded tokens a side", flush=True)
        elif not trial.fits(trainer.accumulate_grad_batches):
            rank = f" of rank {trainer.global_rank}" if trainer.world_size > 1 else ""
            raise UserError(
                f"micro-batches of data.max_tokens_per_device {limit} do not fit into the memory of "
                f"{strategy.root_device}{rank}: give fewer, or auto (the optimizer steps stay the same), or lower "
                "data.max_length"
            )


class Trial:
    """Micro-batches on a device, as training would have them."""

    def __init__(
        self, module: LitTransformer, data: TranslationData, device: torch.device, precision: Precision, world_size: int
    ) -> None:
        self._module = module
        self._data = data
        self._device = device
        self._precision = precision
        self._world_size = world_size

    def fits(self, micro_batches: int, margin: float = 1.0) -> bool:
        """Whether there is memory for the worst of so many micro-batches a step, made larger by the margin."""
        fit = True
        try:
            self._run(micro_batches, margin)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fit = False
        # Only here are the error and its frames gone, which hold what did not fit.
        self._module.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return fit

    def _run(self, micro_batches: int, margin: float) -> None:
        module = self._precision.convert_module(self._module.to(self._device))
        parameters = sum(weight.numel() for weight in module.parameters())
        later = parameters * (ADAM_BYTES + BUCKET_BYTES * (self._world_size > 1))
        reserved = torch.empty(later, dtype=torch.uint8, device=self._device)
        if micro_batches > 1:  # all but the first micro-batch of a step add to gradients that exist
            for weight in module.parameters():
                weight.grad = torch.zeros_like(weight)
        for rows in self._data.plan.largest_micro_batches(micro_batches * self._world_size):
            batch = self._data.batch(np.resize(rows, round(margin * len(rows))))
            batch = move_data_to_device(batch, self._device)
            with self._precision.forward_context():
                loss = self._module.loss_sums(batch).smoothed
            loss.backward()
        del reserved

    def fewest_micro_batches(self, agree: Callable[[bool], bool]) -> int:
        """The fewest micro-batches a step that fit with a margin; `agree` says whether something is so on all devices.

        Raises:
            UserError: Not even one sentence at a time fits, or the device would not say so.
        """
        # There the system ends the process that asks for too much, unless it has a limit.
        if self._device.type == "cpu" and not _has_memory_limit():
            raise UserError(
                "data.max_tokens_per_device is auto, which on a CPU needs a limit to stop at: give a number of tokens, "
                "or set one with `ulimit -v KILOBYTES`"
            )
        plan = self._data.plan
        most = -(-int(np.diff(plan.borders).max()) // self._world_size)
        found = fewest(lambda micro_batches: agree(self.fits(micro_batches, MARGIN)), most)
        if found is None:
            raise UserError(
                f"not even one pair of {plan.longest.max()} pieces fits into the memory of {self._device}: lower "
                "data.max_length, or the size of the model"
            )
        return found


def fewest(enough: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from 1 to `most` that is enough, if any is; all above it must be enough, too."""
    too_few, number = 0, 1
    while not enough(number):
        if number == most:
            return None
        too_few, number = number, min(2 * number, most)
    while number - too_few > 1:
        middle = (too_few + number) // 2
        if enough(middle):
            number = middle
        else:
            too_few = middle
    return number


def _has_memory_limit() -> bool:
    return sys.platform != "win32" and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
