"""The cache of oneDNN, which makes a kernel for every shape of a product on a CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""The variable that oneDNN reads when it makes its first kernel."""
CACHED_KERNELS = 64
"""oneDNN's default is 1,024. Batches have hundreds of shapes, and 1,024 kernels take 600 MB more than these and are not
faster (180 steps of Multi30k, bf16-mixed)."""


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
