"""oneDNN on a CPU: what it multiplies, and its cache, because it makes a kernel for every shape of a product."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch

from lit_transformer.machine import limit_threads, prepare_products, uses_onednn

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""The variable that oneDNN reads when it makes its first kernel."""
CACHED_KERNELS = 64
"""oneDNN's default is 1,024. Batches have hundreds of shapes, and 1,024 kernels take 600 MB more than these and are not
faster (180 steps of Multi30k, bf16-mixed)."""
BFLOAT16_KERNEL_BYTES, FLOAT32_KERNEL_BYTES = 500e6, 100e6
"""Memory of that many kernels and of what lies between them."""


def prepare_cpu(trainer: L.Trainer) -> None:
    """Choose the threads of a run on a CPU, and how it multiplies in float32."""
    if trainer.strategy.root_device.type == "cpu":
        limit_threads()
        if multiplies_in_float32(trainer):
            prepare_products()


def multiplies_in_float32(trainer: L.Trainer) -> bool:
    """Whether a run multiplies in float32 on a CPU. In other precisions, no large product of a step is in float32."""
    return trainer.strategy.root_device.type == "cpu" and trainer.precision == "32-true"


def kernel_bytes(trainer: L.Trainer, num_sizes: int) -> float:
    """Return the memory of the kernels that oneDNN keeps in a run on a CPU with `num_sizes` sizes of micro-batches.

    Every size needs kernels of its own. MKL, which multiplies in float32 on other processors, keeps none.
    """
    most = 0.0
    if "bf16" in trainer.precision:
        most = BFLOAT16_KERNEL_BYTES
    elif multiplies_in_float32(trainer) and uses_onednn():
        most = FLOAT32_KERNEL_BYTES
    return most * min(1.0, num_sizes / CACHED_KERNELS)


@contextmanager
def few_kernels_cached(device: torch.device) -> Iterator[None]:
    """Let oneDNN keep `CACHED_KERNELS` kernels on a CPU, unless the environment names another number.

    The environment is afterwards as it was.
    """
    if device.type != "cpu" or CAPACITY in os.environ:
        yield
        return
    os.environ[CAPACITY] = str(CACHED_KERNELS)
    try:
        yield
    finally:
        del os.environ[CAPACITY]
