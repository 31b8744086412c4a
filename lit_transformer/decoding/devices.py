"""The device to compute on, and its memory.

Legend: B batch, S source length.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lit_transformer.errors import UserError


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


def allow_tf32(device: torch.device) -> None:
    """Let a GPU round the factors of float32 products to TF32, which is faster.

    The setting holds for the whole process, so only commands call this.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch reports that a device or the system has no memory left."""
    return "out of memory" in str(error) or "allocate memory" in str(error)


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
    return f"lower {lower} or batch_tokens: the batch had {num_sentences} sentences of {length} tokens"
