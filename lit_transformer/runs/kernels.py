"""oneDNN on a CPU: what it multiplies, and its cache, because it makes a kernel for every shape of a product."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch

from lit_transformer.machine import limit_threads, prepare_products

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""The variable that oneDNN reads when it makes its first kernel."""
CACHED_KERNELS = 64
"""oneDNN's default is 1,024. Batches have hundreds of shapes, and 1,024 kernels take 600 MB more than these and are not
faster (180 steps of Multi30k, bf16-mixed)."""


def prepare_cpu(trainer: L.Trainer) -> None:
    """Choose the threads of a run on a CPU, and how it multiplies in float32.

    In other precisions, no large product of a step is in float32.
    """
    if trainer.strategy.root_device.type == "cpu":
        limit_threads()
        if trainer.precision == "32-true":
            prepare_products()


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
