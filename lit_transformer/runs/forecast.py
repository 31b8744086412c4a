"""Forecast: the batches and the costs of a run before it starts.

The final EOS of a sentence is one of its tokens. A multiplication and an addition are two FLOPs.
"""

import mmap
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from lit_transformer.batch import AnyBatch, IntArray
from lit_transformer.data.accumulation import planned_steps
from lit_transformer.data.batching import ORDERS, BatchPlan
from lit_transformer.data.loaders import LoadedData
from lit_transformer.files import existing_folder
from lit_transformer.model.stack import Stack
from lit_transformer.runs.fit_to_memory import Trial
from lit_transformer.runs.kernels import kernel_bytes
from lit_transformer.runs.parts import callbacks_of
from lit_transformer.runs.saving import Checkpoints
from lit_transformer.runs.whole_steps import RunCheckpoint
from lit_transformer.training.module import LitModel
from lit_transformer.training.optimizer import state_bytes

PAPER_FLOPS = {"base": 3.3e18, "big": 2.3e19}
"""Table 2: training time times the sustained rate of the paper's GPUs. Ours counts operations instead."""
ALLOCATED_ON_CPU = 2.2
"""Memory that the C library takes from the system, per byte of activations: freed blocks are not all used again."""
MEASURED_TOKENS = 2048
"""Padded tokens per side of the measured batch, few enough for a laptop."""
NUM_SAMPLED_BATCHES = 1000
HISTOGRAM_BINS = (0, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True, kw_only=True)
class BatchForecast:
    """The global batches of a plan and their micro-batches on the devices."""

    accumulation: int
    source_tokens: float
    """Mean per step. So are `target_tokens`, `pairs` and `padding_share`."""
    target_tokens: float
    pairs: float
    padding_share: float
    imbalance: float
    """How many more positions the fullest device has than the mean, as a share, over all micro-batches."""
    idle_share: float
    """Share of the steps that have fewer pairs than all devices have micro-batches."""
    num_sizes: int
    """Micro-batches of different sizes among the steps that were counted."""


def forecast_batches(plan: BatchPlan, *, accumulation: int, world_size: int) -> BatchForecast:
    """Count the steps of an epoch. Padding and imbalance are those of evenly spaced batches of the epochs' orders."""
    tokens = 0
    positions, slowest = 0, 0
    all_sizes: set[int] = set()
    num_batches = len(ORDERS) * plan.num_batches
    for batch in np.unique((np.arange(NUM_SAMPLED_BATCHES) + 0.5) * num_batches // NUM_SAMPLED_BATCHES):
        source, target = plan.batch_lengths(*divmod(int(batch), plan.num_batches))
        rows, longer = np.arange(len(source)), np.maximum(source, target)
        parts = [
            plan.micro_batch_rows(rows, longer, micro_batch, accumulation, rank, world_size)
            for micro_batch in range(accumulation)
            for rank in range(world_size)
        ]
        sizes = [plan.num_positions((source[part], target[part]), accumulation * world_size) for part in parts]
        tokens += int(source.sum() + target.sum())
        positions += sum(sizes)
        all_sizes.update(sizes)
        slowest += int(np.max(np.reshape(sizes, (accumulation, world_size)), axis=1).sum())
    return BatchForecast(
        accumulation=accumulation,
        source_tokens=float(plan.source_lengths.sum() / plan.num_batches),
        target_tokens=float(plan.target_lengths.sum() / plan.num_batches),
        pairs=len(plan.source_lengths) / plan.num_batches,
        padding_share=1.0 - tokens / positions,
        imbalance=slowest * world_size / positions - 1.0,
        idle_share=float((np.diff(plan.borders) < accumulation * world_size).mean()),
        num_sizes=len(all_sizes),
    )


def planned_accumulation(trainer: L.Trainer, module: LitModel, data: LoadedData, *, devices: int) -> int:
    """Return the micro-batches per step that `FitToMemory` will choose. For `auto`, this machine's device is tried."""
    if data.max_tokens_per_device != "auto":
        return data.plan.accumulation(max_tokens_per_device=data.max_tokens_per_device, world_size=devices)
    trial = Trial(module, data, trainer.strategy.root_device, trainer.precision_plugin, devices)
    return trial.fewest_micro_batches(agree=lambda fits: fits)


@dataclass(frozen=True, kw_only=True)
class CostForecast:
    """The costs of a run, or of an epoch of a run that neither steps nor epochs limit."""

    flops: float
    tokens_per_second: float
    """Target tokens of one device."""
    measured: str
    """The origin of `tokens_per_second`."""
    hours: float
    weight_bytes: float
    """Of weights, gradients and the optimizer's state, on each device."""
    activation_bytes: float
    """Of the largest micro-batch."""
    program_bytes: float
    """Of this program, its libraries and kernels. 0 on a GPU."""
    checkpoint_bytes: float
    free_bytes: float
    """Disk space in the run's folder."""


def forecast_costs(
    trainer: L.Trainer,
    module: LitModel,
    data: LoadedData,
    batches: BatchForecast,
    *,
    devices: int,
    tokens_per_second: float | None,
) -> CostForecast:
    """Predict the costs of a run. Speed and activations are measured on part of its largest micro-batch."""
    steps = planned_steps(trainer, data.epochs)
    if steps is None:
        steps = data.epochs.steps
    flops = module.training_flops(
        source_tokens=steps * batches.source_tokens,
        target_tokens=steps * batches.target_tokens,
        lengths=(batches.source_tokens / batches.pairs, batches.target_tokens / batches.pairs),
    )
    on_cpu = trainer.strategy.root_device.type == "cpu"
    # Before anything is measured.
    program = resident_bytes() + kernel_bytes(trainer, batches.num_sizes) if on_cpu else 0
    rate, measured, activations = _measure(trainer, module, data, batches, devices=devices)
    if tokens_per_second is not None:
        rate, measured = tokens_per_second, "as given"
    weights = sum(weight.nbytes for weight in module.parameters())
    parameters = sum(weight.numel() for weight in module.parameters())
    state = parameters * state_bytes(module.optimizer, module, peak=module.rates.peak)
    return CostForecast(
        flops=flops,
        tokens_per_second=rate,
        measured=measured,
        hours=steps * batches.target_tokens / (rate * devices) / 3600,
        weight_bytes=2 * weights + state,
        activation_bytes=activations * (ALLOCATED_ON_CPU if on_cpu else 1),
        program_bytes=program,
        checkpoint_bytes=sum(
            checkpoint_bytes(callback, weights, weights + state, steps)
            for callback in callbacks_of(trainer, RunCheckpoint)
        ),
        free_bytes=shutil.disk_usage(existing_folder(trainer.default_root_dir)).free,
    )


def checkpoint_bytes(callback: RunCheckpoint, weights: int, whole: float, steps: int) -> float:
    """Return the disk space that a callback's checkpoints take at most.

    Args:
        callback: Either of the two.
        weights: Bytes of the weights.
        whole: Bytes of the weights and the optimizer's state.
        steps: Of the run.
    """
    number = callback.save_top_k
    if not isinstance(callback, Checkpoints):
        return max(number, 1) * (weights if callback.save_weights_only else whole)
    if number < 0:
        number = steps // (callback.every_n_train_steps or steps or 1)
    # A new one is written before an old one is removed.
    older = weights if callback.older_weights_only else whole
    return max(number - 1, 0) * older + 2 * whole


def _measure(
    trainer: L.Trainer, module: LitModel, data: LoadedData, batches: BatchForecast, *, devices: int
) -> tuple[float, str, float]:
    """Return target tokens per second, how they were measured, and the activation bytes of the largest micro-batch."""
    device, plan = trainer.strategy.root_device, data.plan
    trainer.precision_plugin.convert_module(module.to(device)).train()
    largest = plan.largest_micro_batches(accumulation=batches.accumulation, world_size=devices)
    count = batches.accumulation * devices
    positions, rows = max(
        ((plan.num_positions((plan.source_lengths[rows], plan.target_lengths[rows]), count), rows) for rows in largest),
        key=lambda each: each[0],
    )
    longest = max(plan.source_lengths[rows].max(), plan.target_lengths[rows].max())
    measured_rows = rows[-max(1, MEASURED_TOKENS // longest) :]
    batch = move_data_to_device(data.assembler().batch(measured_rows), device)
    tokens = int(plan.target_lengths[measured_rows].sum())
    with trainer.precision_plugin.forward_context():
        activations = activation_bytes(module, batch) * positions / batch.num_positions
        rate = tokens / seconds_of_step(module, batch)
    measured = f"measured on {device.type} with {tokens:,} at a time, without the optimizer"
    return rate, measured, activations


def resident_bytes() -> int:
    """Return the memory of this process, or 0 if the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * mmap.PAGESIZE


def activation_bytes(module: LitModel, batch: AnyBatch) -> int:
    """Return the bytes that autograd keeps between forward and backward. Shared memory counts once.

    With activation checkpointing, those of one layer are added, which the backward pass computes again.
    """
    sizes: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in module.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    stacks = [part for part in module.modules() if isinstance(part, Stack) and part.activation_checkpointing]
    calls = list[tuple[Any, Any]]()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), ExitStack() as hooks:
        if stacks and not module.compiles:
            layer = stacks[-1].layers[-1]
            hooks.enter_context(layer.register_forward_pre_hook(lambda _, *call: calls.append(call), with_kwargs=True))
        sums = module.loss_sums(batch)
        for arguments, others in calls[:1]:
            layer(*arguments, **others)
    sums.smoothed.backward()
    module.zero_grad(set_to_none=True)
    return sum(sizes.values())


def seconds_of_step(module: LitModel, batch: AnyBatch) -> float:
    """Measure forward and backward. The first of three runs warms up, and the better one of the others counts."""
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        sums = module.loss_sums(batch)
        sums.smoothed.backward()
        module.zero_grad(set_to_none=True)
        if sums.smoothed.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def histogram(lengths: IntArray) -> list[tuple[str, float]]:
    """Return ranges of lengths and the share of sentences in each, without empty ranges at both ends."""
    # Length n is in the first range that ends at n or above.
    counts = np.bincount(np.searchsorted(HISTOGRAM_BINS[1:], lengths), minlength=len(HISTOGRAM_BINS))
    shares = counts / len(lengths)
    names = [f"{low + 1} to {high}" for low, high in pairwise(HISTOGRAM_BINS)]
    names.append(f"above {HISTOGRAM_BINS[-1]}")
    used = np.flatnonzero(counts)
    return [(names[index], float(shares[index])) for index in range(used[0], used[-1] + 1)]
