"""A small training run: its recipe, how it is started and what it writes."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lit_transformer.fit import main

EVERY = 50
MAX_STEPS = 230
D_MODEL = 64
WARMUP_STEPS = 60
RATE_SCALE = 0.7

RECIPE = {
    "model.transformer.d_model": D_MODEL,
    "model.transformer.d_ff": 128,
    "model.transformer.num_heads": 4,
    "model.transformer.num_layers": 1,
    "model.vocab_size": 400,
    "model.warmup_steps": WARMUP_STEPS,
    "model.learning_rate_scale": RATE_SCALE,
    "data.character_coverage": 1.0,
    "data.tokens_per_batch": 450,
    "data.max_tokens_per_device": 450,
    "data.validation_batch_tokens": 150,
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.precision": "32-true",
    "trainer.max_steps": MAX_STEPS,
    "trainer.val_check_interval": EVERY,
    "trainer.log_every_n_steps": 10,
    "checkpoints.every_n_train_steps": EVERY,
    "checkpoints.save_top_k": 4,
    "checkpoints.save_weights_only": False,  # tests resume from older ones
    "attention.sentences": 0,  # pictures take longer than these runs' validation
}
SHORT = {"trainer__max_steps": 4, "trainer__val_check_interval": 4, "checkpoints__every_n_train_steps": 4}
"""Changes that make the run four steps long, with one validation and one checkpoint at the end."""


class Run(NamedTuple):
    folder: Path
    output: str

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"step-{step:08}.ckpt"

    def names(self) -> set[str]:
        return {path.name for path in (self.folder / "checkpoints").iterdir()}

    def curve(self, tag: str) -> dict[int, float]:
        return {event.step: event.value for event in events(self.folder).Scalars(tag)}


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def arguments(corpus: Path, root: Path, **changes: Any) -> list[str]:
    """The recipe on a corpus as command-line arguments. `__` in a keyword stands for a dot."""
    settings = RECIPE | {
        "data.corpus": corpus,
        "data.cache_dir": corpus.parent / "cache",
        "trainer.default_root_dir": root,
    }
    settings |= {name.replace("__", "."): value for name, value in changes.items()}
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def fit(corpus: Path, root: Path, **changes: Any) -> Run:
    """Train in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main(arguments(corpus, root, **changes))
    return Run(root / "version_0", output.getvalue())


def load(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def own_lines(stderr: str) -> list[str]:
    """The lines that this project writes to stderr. Warnings of libraries depend on the machine."""
    # torchrun logs tracebacks of its own agents, which may end in any order, behind a prefix.
    assert not re.search("^Traceback", stderr, re.MULTILINE), stderr
    return [line for line in stderr.splitlines() if line.startswith(("error: ", "note: "))]


def same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, Tensor):
        return torch.equal(mine, theirs)
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(same(mine[key], theirs[key]) for key in mine)
    if isinstance(mine, list):
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    return bool(mine == theirs)
