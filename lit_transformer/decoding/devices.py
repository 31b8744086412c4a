"""The device to compute on, and its memory.

Legend: B batch, S source length.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lit_transformer.decoding.settings import BATCH_TOKENS
from lit_transformer.errors import UserError
from lit_transformer.notes import counted

Module = TypeVar("Module", bound=nn.Module)

MOST_BATCH_TOKENS = 32_768
"""The most that `default_batch_tokens` gives: no more were measured."""

if hasattr(os, "register_at_fork"):
    # A process that has computed on several threads has OpenMP's pool of them. A fork copies the pool without its
    # threads, and the child would wait for them forever. So forked processes compute on one thread.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def default_device() -> str:
    """The first GPU, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def usable_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        UserError: If it does not exist, or cannot compute.
    """
    try:
        device = torch.device(name)
        # Some kinds of device have a name and cannot compute.
        torch.ones(1, device=device).item()
    # torch raises the last two if it was built without this kind of device.
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise UserError(f"device {name!r} cannot be used here: {reason}; give cpu, or a GPU that is there") from error
    return device


def default_batch_tokens(device: torch.device) -> int:
    """Padded source tokens per batch of a search: more on NVIDIA GPUs, which wait for the host if batches are small.

    On an H100, 32,768 are 4 times as fast as 2,048. They take 7 GB with the base model in float32, and twice as much
    with the big one (docs/gpu.md). So a GPU has 1,024 tokens for each GB of its memory, and no more than 32,768.
    """
    if device.type != "cuda":
        return BATCH_TOKENS
    gigabytes = torch.cuda.get_device_properties(device).total_memory // 10**9
    return max(BATCH_TOKENS, min(MOST_BATCH_TOKENS, 1024 * gigabytes))


def allow_tf32(device: torch.device) -> None:
    """Let a GPU round the factors of float32 products to TF32, which is faster.

    The setting holds for the whole process, so only commands call this.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch reports that a device or the system has no memory left."""
    return "out of memory" in str(error) or "allocate memory" in str(error)


def moved(module: Module, device: torch.device) -> Module:
    """The module if it is on this device, else a copy of it there.

    Raises:
        UserError: If the device has not enough memory.
    """
    weight = next(module.parameters())
    # `cuda` is the current GPU, whose weights are on `cuda:0`.
    if torch.empty(0, device=device).device == weight.device:
        return module
    with enough_memory("translate on the cpu"), torch.no_grad():
        # What `deepcopy` finds here it does not copy. So each weight is copied once, to the device, without gradients.
        copies: dict[int, object] = {
            id(weight): nn.Parameter(weight.to(device), requires_grad=weight.requires_grad)
            for weight in module.parameters()
        }
        copies |= {id(buffer): buffer.to(device) for buffer in module.buffers()}
        return deepcopy(module, copies)


@dataclass
class _Use:
    """The computations of a module that are under way, in several threads perhaps."""

    num_computations: int = 0
    in_training: list[nn.Module] = field(default_factory=list)
    """Parts whose mode the last computation gives back."""


_USES: WeakKeyDictionary[nn.Module, _Use] = WeakKeyDictionary()
_USES_LOCK = Lock()


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Compute without dropout and gradients. Afterwards, a model that is being trained is in training mode again.

    It may be one whose parts have different modes. If several threads compute with it, the last one gives the modes
    back.
    """
    with _USES_LOCK:
        use = _USES.setdefault(module, _Use())
        use.num_computations += 1
        if in_training := [part for part in module.modules() if part.training]:
            use.in_training += in_training
            module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        with _USES_LOCK:
            use.num_computations -= 1
            if not use.num_computations:
                for part in use.in_training:
                    part.training = True
                use.in_training.clear()


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Turn torch's error for a lack of memory into a `UserError` with the remedy."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"there is not enough memory ({str(error).splitlines()[0]}): {remedy}") from error


def memory_remedy(source_BS: Tensor, *, lower: str) -> str:
    """What to do if a batch does not fit into memory: lower something, or `batch_tokens`."""
    num_sentences, length = source_BS.shape
    return f"lower {lower} or batch_tokens: the batch had {counted(num_sentences, 'sentence')} of {length} tokens"
