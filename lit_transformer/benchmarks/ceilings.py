"""The most that a device can give: the arithmetic of a large product, and the bandwidth of a large copy."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from lit_transformer.benchmarks.torch_work import TorchWork

SIDE = {"cpu": 1024, "cuda": 8192}
COPIED_BYTES = {"cpu": 2**26, "cuda": 2**32}
"""More than any cache holds."""
REPEATS = 10


def measure_ceilings(device: str) -> dict[str, Any]:
    """Measure both. The product is in bfloat16 on a GPU and in float32 on a CPU."""
    kind = torch.device(device).type
    dtype = torch.float32 if kind == "cpu" else torch.bfloat16
    side = SIDE[kind]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = _seconds(lambda: left @ right, device)
    source = torch.zeros(COPIED_BYTES[kind] // 4, device=device)
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source), device)
    return {
        "name": "ceilings",
        "flops_per_second": 2 * side**3 / product,
        "bytes_per_second": 2 * source.nbytes / copy,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _seconds(work: Callable[[], object], device: str) -> float:
    times = []
    wait = TorchWork(device, threads=1).synchronize
    for _ in range(REPEATS + 2):
        wait()
        begin = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - begin)
    return median(times[2:])
