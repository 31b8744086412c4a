"""What a GPU has to answer: ceilings, training, attention, the loss, decoding, and attention over long sequences.

    python -m experiments.measure.gpu [PART ...]      every part when none is named

Each measurement is a process of its own. All of them start and compile at the same time. They then measure one after
the other, so that none disturbs another. Every result is one line: a name and its values. The tokens are random, with
the lengths of WMT14 (log-normal, means 30 and 31, correlation 0.91, at most 256).
"""

import argparse
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from experiments.measure.gpu import attention, decoding, loss, models, training
from experiments.measure.gpu.timing import milliseconds, report

PARTS = {
    "ceilings": ["ceilings"],
    "train": [
        *(f"train:base:{path}" for path in models.PATHS),
        *(f"train:big:{path}" for path in ("nn", "ours", "packed")),
    ],
    "loss": ["loss"],
    "attention": ["attention"],
    "decode": ["decode:bfloat16", "decode:float32", "decode:graph", "decode:compiled"],
    "long": ["long"],
}
"""The measurements of each part, `KIND[:MODEL][:PATH]`."""


def ceilings() -> None:
    """A large bfloat16 product and a large copy: the most that the arithmetic and the memory of this GPU can give."""
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product_seconds = milliseconds(lambda: left @ right) / 1e3
    source = torch.randn(2**30, device="cuda")
    target = torch.empty_like(source)
    copy_seconds = milliseconds(lambda: target.copy_(source)) / 1e3
    report(
        "ceilings",
        tflops=2 * 8192**3 / product_seconds / 1e12,
        terabytes_per_second=2 * source.nbytes / copy_seconds / 1e12,
    )


def measure(name: str) -> None:
    """One measurement, in a process of its own: build and compile, wait for the turn, measure."""
    kind, *rest = name.split(":")
    preparations: dict[str, Callable[..., Callable[[], None]]] = {
        "ceilings": lambda: ceilings,
        "train": training.prepare,
        "loss": loss.prepare,
        "attention": lambda: attention.short,
        "decode": decoding.prepare,
        "long": attention.prepare_long,
    }
    work = preparations[kind](*rest)
    torch.cuda.empty_cache()
    print("ready", flush=True)
    sys.stdin.readline()
    work()


def start(name: str, logs: Path) -> subprocess.Popen[str]:
    """The process of a measurement, which says "ready" and then waits for a line."""
    command = [sys.executable, "-m", "experiments.measure.gpu", "--one", name]
    with (logs / f"{name.replace(':', '-')}.log").open("w") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)


def wait_until_ready(processes: dict[str, subprocess.Popen[str]], seconds: float) -> list[str]:
    """The measurements that are ready by then. The others are ended."""
    deadline = time.monotonic() + seconds
    selector = selectors.DefaultSelector()
    for name, process in processes.items():
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ, name)
    ready = []
    while selector.get_map() and time.monotonic() < deadline:
        for key, _ in selector.select(timeout=1.0):
            output = processes[key.data].stdout
            assert output is not None
            selector.unregister(output)
            if output.readline() == "ready\n":
                ready.append(key.data)
            else:
                print(f"{key.data}: failed before it was ready")
    for key in selector.get_map().values():
        print(f"{key.data}: not ready in {seconds:.0f} s")
        processes[key.data].kill()
    return ready


def run(name: str, process: subprocess.Popen[str], seconds: float) -> None:
    """Let a process measure, and print what it says."""
    try:
        output, _ = process.communicate("go\n", timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output = f"{name}: stopped after {seconds:.0f} s\n{process.communicate()[0]}"
    print(output, end="", flush=True)
    if process.returncode:
        print(f"{name}: status {process.returncode}", flush=True)


def main() -> None:
    """Start all measurements, wait until they have compiled, and let them measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; or single measurements")
    parser.add_argument("--compile_seconds", type=float, default=200.0, help="how long the others wait for the slowest")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a measurement may take")
    parser.add_argument("--logs", type=Path, default=Path("gpu_logs"), help="where errors are written")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one)
        return
    options.logs.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    report("machine", gpu=gpu, torch=torch.__version__)
    names = [name for part in options.parts or PARTS for name in PARTS.get(part, [part])]
    processes = {name: start(name, options.logs) for name in names}
    ready = wait_until_ready(processes, options.compile_seconds)
    for name in names:
        if name in ready:
            run(name, processes[name], options.seconds)
    print(f"Errors are in {options.logs}.")


if __name__ == "__main__":
    main()
