"""The time until a command answers. Each is started as a process of its own, as a person starts it."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from lit_transformer.batch import PAD_ID
from lit_transformer.benchmarks.decoding import make_endless
from lit_transformer.benchmarks.usage import children_seconds
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.translator import Translator
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer

SMALL_VOCABULARY = 40
SENTENCE = "The cat that sleeps is black."


@dataclass(frozen=True, kw_only=True)
class StartJob:
    """Which starts are measured.

    Args:
        commands: The commands whose help is shown.
        checkpoint: The model that translates a line. None is a base model with random weights.
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
    with TemporaryDirectory() as folder:
        checkpoint = job.checkpoint or write_base_model(Path(folder, "base"))
        starts["translate, one line"] = ["-m", "lit_transformer.translate", "--checkpoint", checkpoint]
        if job.first_step:
            starts["fit, first step of the demo"] = _first_step(folder)
            _seconds(starts["fit, first step of the demo"])  # prepares the data
        return [_measured(name, arguments, job.repeats) for name, arguments in starts.items()]


def write_base_model(folder: Path) -> str:
    """Write a base model with random weights, and with a small vocabulary: a large one needs text to learn it from."""
    sentences = [SENTENCE, "Die Katze, die schläft, ist schwarz."]
    tokenizer = Tokenizer.train(sentences, vocab_size=SMALL_VOCABULARY, character_coverage=1.0)
    transformer = Transformer(TransformerConfig(), vocab_size=tokenizer.vocab_size, pad_id=PAD_ID)
    make_endless(transformer)
    Translator(transformer, tokenizer, source="en", target="de").save_pretrained(folder)
    return str(folder)


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
