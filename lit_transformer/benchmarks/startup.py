"""The time until a command answers. Each is started as a process of its own, as a person starts it."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from lit_transformer.benchmarks.usage import children_seconds
from lit_transformer.errors import UserError

SENTENCE = "The cat that sleeps is black."


@dataclass(frozen=True, kw_only=True)
class StartJob:
    """Which starts are measured.

    Args:
        commands: The commands whose help is shown.
        checkpoint: The model that translates a line. None leaves it out.
        first_step: Whether the recipe `demo` is started, and ended after its first step.
        repeats: How often each is measured.
    """

    commands: Sequence[str]
    checkpoint: str | None
    first_step: bool = True
    repeats: int = 3


def measure_startup(job: StartJob) -> list[dict[str, Any]]:
    """Measure all starts, each several times."""
    starts = {"import torch": ["-c", "import torch"]}
    starts |= {f"help of {command}": ["-m", f"lit_transformer.{command}", "--help"] for command in job.commands}
    if job.checkpoint is not None:
        starts["translate, one line"] = ["-m", "lit_transformer.translate", "--checkpoint", job.checkpoint]
    with TemporaryDirectory() as folder:
        if job.first_step:
            starts["fit, first step of the demo"] = _first_step(folder)
            _seconds(starts["fit, first step of the demo"])  # prepares the data
        return [_measured(name, arguments, job.repeats) for name, arguments in starts.items()]


def _first_step(folder: str) -> list[str]:
    places = ["--data.cache_dir", f"{folder}/cache", "--trainer.default_root_dir", f"{folder}/runs"]
    without = ["--trainer.limit_val_batches=0", "--trainer.enable_checkpointing=false", "--trainer.logger=false"]
    return ["-m", "lit_transformer.fit", "--config", "demo", "--trainer.max_steps=1", *places, *without]


def _measured(name: str, arguments: list[str], repeats: int) -> dict[str, Any]:
    wall, cpu = zip(*(_seconds(arguments) for _ in range(repeats)), strict=True)
    return {"name": name, "seconds": median(wall), "cpu_seconds": median(cpu)}


def _seconds(arguments: list[str]) -> tuple[float, float]:
    """Seconds on the clock and of all cores that a start takes.

    Raises:
        UserError: The command failed.
    """
    begin, before = time.perf_counter(), children_seconds()
    done = subprocess.run(
        [sys.executable, *arguments], input=f"{SENTENCE}\n", capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"`{' '.join(arguments[1:])}` ended with status {done.returncode}: {last}")
    return time.perf_counter() - begin, children_seconds() - before
