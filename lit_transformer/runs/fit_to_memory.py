"""Fit to memory: micro-batches that a device cannot hold are found before the first step."""

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
from lit_transformer.data.loaders import LoadedData
from lit_transformer.decoding.devices import is_out_of_memory
from lit_transformer.errors import UserError
from lit_transformer.notes import counted
from lit_transformer.runs.parts import data_of, model_of
from lit_transformer.runs.ranks import on_all_ranks
from lit_transformer.training.module import LitModel
from lit_transformer.training.optimizer import state_bytes

if sys.platform != "win32":
    import resource

MARGIN = 1.1
"""Safety factor for `auto`: micro-batches this much larger must fit, because memory fragments over a long run."""
BUCKET_BYTES = 4
"""DDP's copy of the gradient per parameter, in which it is summed over devices."""


class FitToMemory(Callback):
    """Lightning's `BatchSizeFinder` has no token batches: this callback tries the largest micro-batches of the plan.

    It runs them forward and backward before training, and discards the gradients. If they do not fit, the run ends
    with a message at once. If `max_tokens_per_device` is `auto`, it finds the fewest micro-batches per step that fit
    on every device.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Other programs may use memory of one device. A rank that fails alone would leave the others waiting.
        on_all_ranks(lambda: self._set_micro_batches(trainer))

    def _set_micro_batches(self, trainer: L.Trainer) -> None:
        data, strategy = data_of(trainer), trainer.strategy
        limit = data.max_tokens_per_device
        # Other strategies split the model over devices, and do so only when training begins.
        if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
            if limit == "auto":
                raise UserError(
                    f"{data.device_setting} is auto, which needs one device or strategy ddp: give a number of "
                    f"{data.unit}s"
                )
            return
        trial = Trial(model_of(trainer), data, strategy.root_device, trainer.precision_plugin, trainer.world_size)
        if trainer.is_global_zero:
            tried = (
                "which micro-batches fit" if limit == "auto" else f"the largest micro-batches of {limit:,} {data.unit}s"
            )
            print(f"memory trial on {strategy.root_device}: {tried}", flush=True)
        if limit == "auto":
            accumulate(trainer, trial.fewest_micro_batches(agree=strategy.reduce_boolean_decision))
            if trainer.is_global_zero:
                tokens = data.plan.most_tokens(trainer.world_size * trainer.accumulate_grad_batches)
                size = counted(tokens, data.unit) if data.plan.is_one_sided else f"{tokens:,} padded tokens per side"
                print(f"{data.device_setting} auto: {size}", flush=True)
        elif not trial.fits(trainer.accumulate_grad_batches):
            rank = f" of rank {trainer.global_rank}" if trainer.world_size > 1 else ""
            raise UserError(
                f"micro-batches of {data.device_setting} {limit} do not fit into the memory of {strategy.root_device}"
                f"{rank}: give fewer, or auto (the optimizer steps stay the same), or lower {data.length_setting}"
            )


class Trial:
    """Runs micro-batches on a device as training does.

    Args:
        module: The model.
        data: Has a plan of batches.
        device: Where to run them.
        precision: As in training.
        world_size: Number of devices of the run.
    """

    def __init__(
        self, module: LitModel, data: LoadedData, device: torch.device, precision: Precision, world_size: int
    ) -> None:
        self._module = module
        self._data = data
        self._device = device
        self._precision = precision
        self._world_size = world_size

    def fits(self, micro_batches: int, margin: float = 1.0) -> bool:
        """Return whether the largest micro-batches fit if a step has this many per device, enlarged by the margin."""
        fit = True
        try:
            self._run(micro_batches, margin)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fit = False
        # The error's frames hold tensors until the `except` block ends.
        self._module.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return fit

    def _run(self, micro_batches: int, margin: float) -> None:
        module = self._precision.convert_module(self._module.to(self._device))
        parameters = sum(weight.numel() for weight in module.parameters())
        # The optimizer allocates its state at the first step.
        state = state_bytes(self._module.optimizer, module, peak=self._module.rates.peak)
        later = round(parameters * (state + BUCKET_BYTES * (self._world_size > 1)))
        reserved = torch.empty(later, dtype=torch.uint8, device=self._device)
        if micro_batches > 1:  # all but the first micro-batch of a step add to gradients that exist
            for weight in module.parameters():
                weight.grad = torch.zeros_like(weight)
        largest = self._data.plan.largest_micro_batches(accumulation=micro_batches, world_size=self._world_size)
        assembler = self._data.assembler(count=micro_batches * self._world_size, margin=margin)
        for rows in largest:
            enlarged = np.resize(rows, round(margin * len(rows)))
            batch = move_data_to_device(assembler.batch(enlarged), self._device)
            with self._precision.forward_context():
                loss = self._module.loss_sums(batch).smoothed
            loss.backward()
        del reserved

    def fewest_micro_batches(self, agree: Callable[[bool], bool]) -> int:
        """Find the fewest micro-batches per step that fit with a margin.

        Args:
            agree: Called with this device's answer. Returns whether all devices answer yes.

        Returns:
            Their number on each device.

        Raises:
            UserError: Not even one sentence at a time fits, or this is a CPU without a limit of memory.
        """
        # Without a limit the system kills a process that allocates too much.
        if self._device.type == "cpu" and not _has_memory_limit():
            raise UserError(
                f"{self._data.device_setting} is auto, which needs a limit of memory on a CPU: give a number of "
                f"{self._data.unit}s, or set a limit with `ulimit -v KILOBYTES`"
            )
        plan = self._data.plan
        most = -(-int(np.diff(plan.borders).max()) // self._world_size)
        found = fewest(lambda micro_batches: agree(self.fits(micro_batches, MARGIN)), most)
        if found is None:
            data, longest = self._data, counted(int(plan.longest.max()), self._data.unit)
            size = "" if data.row == data.unit else f" of {longest}"
            raise UserError(
                f"not even one {data.row}{size} fits into the memory of {self._device}: lower {data.length_setting} or "
                "the size of the model"
            )
        return found


def fewest(enough: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest number from 1 to `most` that is enough, or None. All larger numbers must be enough, too."""
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
