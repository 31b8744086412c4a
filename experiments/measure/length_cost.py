"""Measures what attention costs against the length: full attention beside a sliding window, in the same run.

    OMP_NUM_THREADS=1 python experiments/measure/length_cost.py [--csv FILE] [--picture docs/long_range.png]
    python experiments/measure/length_cost.py --device cuda --dtype bfloat16

It measures one causal layer: the forward pass alone, the forward and backward pass ("training"), and one step of
decoding with a cache that holds a number of positions. The memory is the peak above what the process had before, and in
decoding the size of the cache. A kind of attention stops if the next length would take more memory than `--memory`. The
growth since the last length predicts that.

On a CPU, times are CPU seconds, the best of several repetitions, and peaks of memory come from /proc, so they need
Linux. Memory below a few MB is not exact there. It has not run on a GPU yet.
"""

import argparse
import csv
import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lit_transformer.model.attention import Cache, KeysValues
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import make_positions
from lit_transformer.model.stack import Stack

SHORTEST = 128
SECONDS_PER_LENGTH = 1.0
"""Repetitions of one measurement end after this time."""


@dataclass(frozen=True)
class Result:
    """One point of the picture."""

    device: str
    attention: str
    work: str
    """forward, training or decoding."""
    length: int
    seconds: float
    memory: int
    """Bytes."""


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--d_model", type=int, default=128)
    parser.add_argument("--num_heads", type=int, default=2)
    parser.add_argument("--longest", type=int, default=131_072)
    parser.add_argument("--memory", type=float, default=12.0, help="limit in GB")
    parser.add_argument("--csv", type=Path, help="file for the results")
    parser.add_argument("--picture", type=Path, help="file for the picture")
    args = parser.parse_args()
    torch.manual_seed(0)
    results = []
    for work in ("forward", "training", "decoding"):
        for result in compare(args, work):
            print(
                f"{result.work:9} {result.attention:6} {result.length:7,} positions {1e3 * result.seconds:12,.2f} ms "
                f"{result.memory / 1e6:10,.2f} MB",
                flush=True,
            )
            results.append(result)
    if args.csv:
        with args.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Result)])
            writer.writeheader()
            writer.writerows(asdict(result) for result in results)
    if args.picture:
        picture(results, args.window).savefig(args.picture, dpi=80)


def compare(args: argparse.Namespace, work: str) -> Iterator[Result]:
    """Full attention and a window at each length, one after the other."""
    names = {"full": None, "window": args.window}
    stacks = {name: make_stack(args, window) for name, window in names.items()}
    last: dict[str, int] = {}
    length = SHORTEST
    for stack in stacks.values():  # what is made once, at the first call
        measure_layer(stack, length, training=work == "training")
    while stacks and length <= args.longest:
        for name in list(stacks):
            growth = 4 if name == "full" and work != "decoding" else 2
            if growth * last.get(name, 0) > 1e9 * args.memory:
                print(f"{work:9} {name:6} {length:7,} positions: about {growth * last[name] / 1e9:.0f} GB, no further")
                del stacks[name]
                continue
            measure = measure_decoding if work == "decoding" else measure_layer
            seconds, last[name] = measure(stacks[name], length, training=work == "training")
            yield Result(args.device, name, work, length, seconds, last[name])
        length *= 2


def make_stack(args: argparse.Namespace, window: int | None) -> Stack:
    """One causal layer."""
    config = TransformerConfig(
        d_model=args.d_model,
        d_ff=4 * args.d_model,
        num_heads=args.num_heads,
        num_layers=1,
        dropout=0.0,
        positions="rotary",
        window=window,
    )
    return Stack(config, make_positions(config)).to(args.device, getattr(torch, args.dtype))


def measure_layer(stack: Stack, length: int, *, training: bool) -> tuple[float, int]:
    """Seconds and peak memory of one sequence."""
    weight = stack.layers[0].self_attention.output.weight
    vectors_BLD = torch.randn(1, length, weight.shape[0], device=weight.device, dtype=weight.dtype)

    def run() -> None:
        with torch.set_grad_enabled(training):
            states_BLD = stack(vectors_BLD, Mask(causal=True))
        if training:
            states_BLD.sum().backward()

    before = reset_peak(weight.device)
    run()
    memory = max(0, peak(weight.device) - before)
    return best_seconds(run, weight.device), memory


@torch.no_grad()
def measure_decoding(stack: Stack, length: int, *, training: bool) -> tuple[float, int]:  # noqa: ARG001 # as above
    """Seconds of a step after this many positions, and bytes of the cache."""
    attention = stack.layers[0].self_attention
    weight = attention.output.weight
    size = weight.shape[1] // attention.num_heads
    heads = torch.randn(2, 1, attention.num_heads, length, size, device=weight.device, dtype=weight.dtype)
    past = KeysValues(*heads).recent(stack.window)
    vector_11D = torch.randn(1, 1, weight.shape[0], device=weight.device, dtype=weight.dtype)

    def run() -> None:
        cache: Cache = {attention: past}
        stack(vector_11D, Mask(causal=True), cache=cache)

    return best_seconds(run, weight.device), past.key_BHMK.nbytes + past.value_BHMK.nbytes


def best_seconds(run: Callable[[], None], device: torch.device) -> float:
    """The shortest of several repetitions."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    best, end = float("inf"), time.perf_counter() + SECONDS_PER_LENGTH
    while True:
        begin = clock()
        run()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        best = min(best, clock() - begin)
        if time.perf_counter() > end:
            return best


def reset_peak(device: torch.device) -> int:
    """Begin to watch the peak of memory. Returns the bytes that are used now."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    ctypes.CDLL(None).malloc_trim(0)  # freed memory goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    return status("VmRSS")


def peak(device: torch.device) -> int:
    """Bytes at the peak since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status("VmHWM")


def status(name: str) -> int:
    """A number of bytes that Linux knows of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def picture(results: list[Result], window: int) -> Figure:
    """Time and memory of training and decoding, both axes logarithmic."""
    figure = Figure(figsize=(8.4, 6.0), layout="constrained")
    panels = (
        ("forward and backward pass of a layer", "training", "seconds", 1.0, "seconds"),
        ("its peak memory", "training", "memory", 1e-6, "MB"),
        ("one step of decoding", "decoding", "seconds", 1e3, "milliseconds"),
        ("its cache", "decoding", "memory", 1e-6, "MB"),
    )
    for axes, (title, work, value, factor, unit) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for name, label, marker in (("full", "full attention", "o"), ("window", f"window of {window}", "s")):
            chosen = [one for one in results if (one.work, one.attention) == (work, name)]
            lengths = [one.length for one in chosen]
            axes.plot(lengths, [factor * getattr(one, value) for one in chosen], marker=marker, ms=4, label=label)
        axes.set(title=title, xscale="log", yscale="log", xlabel="positions", ylabel=unit)
        axes.set_xscale("log", base=2)
        axes.set_xticks([2**power for power in range(7, 18, 2)])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value):,}"))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


if __name__ == "__main__":
    main()
