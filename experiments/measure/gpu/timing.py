"""What the measurements share: timing, and how a result is printed."""

import time
from collections.abc import Callable

import numpy as np
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # a CPU shows that the scripts run, and nothing else
SMALL = DEVICE == "cpu"


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def milliseconds(work: Callable[[], object], repeats: int = 10, warm_up: int = 3) -> float:
    """The median time of one call, measured between events on the device."""
    for _ in range(warm_up):
        work()
    if SMALL:
        before = time.perf_counter()
        work()
        return (time.perf_counter() - before) * 1e3
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return float(np.median(times))


def graph_milliseconds(work: Callable[[], object], repeats: int = 10) -> float:
    """The time of one call when it is replayed as a CUDA graph: the time of its kernels without that of launching."""
    if SMALL:
        return milliseconds(work, warm_up=0)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(5):
            work()
    return milliseconds(graph.replay, repeats) / 5


def peak_gigabytes() -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else 0.0


def reset_peak() -> None:
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def report(name: str, **values: float | str) -> None:
    """One result: a line."""
    shown = (
        f"{key} {value:,.4g}"
        if isinstance(value, float) and value < 1e4
        else f"{key} {value:,.0f}"
        if isinstance(value, float)
        else f"{key} {value}"
        for key, value in values.items()
    )
    print(f"{name:32} {'  '.join(shown)}", flush=True)
