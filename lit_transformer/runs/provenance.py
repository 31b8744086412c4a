"""Provenance: what a run's numbers depend on. It is recorded in `starts.jsonl` and compared when the run resumes."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from lit_transformer.notes import print_note
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.parts import data_of, model_of
from lit_transformer.runs.ranks import check_ranks
from lit_transformer.runs.run_folder import STARTS, run_folder

LIBRARIES = ("torch", "lightning", "torchmetrics", "datasets", "sentencepiece", "sacrebleu", "numpy")
PACKAGE = Path(__file__).resolve().parents[1]


class RunRecord(Callback):
    """Lightning logs settings alone: this callback records the code, the data and the machine of every start.

    It refuses to train if ranks differ. On resuming, it prints what has changed since the checkpoint.
    """

    def __init__(self) -> None:
        self._former: dict[str, Any] = {}
        self._init_from: dict[str, Any] | None = None

    def record_origin(self, origin: dict[str, Any]) -> None:
        """Take over where the weights of this start come from."""
        self._init_from = origin

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._former = checkpoint[self.state_key]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[self.state_key] = facts_of(trainer)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Checked early: ranks with different data would try different micro-batches in `FitToMemory`.
        check_ranks({**facts_of(trainer), "rank": trainer.global_rank})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        facts = facts_of(trainer)
        check_ranks({**facts, "step": trainer.global_step, **model_of(trainer).facts, "rank": trainer.global_rank})
        for name, consequence in CONSEQUENCES.items():
            # Checkpoints of earlier versions have fewer facts.
            former = self._former.get(name, facts[name])
            if former != facts[name] and trainer.is_global_zero:
                print_note(f"the checkpoint was made with {name} {former}, this run has {facts[name]}: {consequence}")
        folder = run_folder(trainer)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined] # set, but not declared
            line = {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "first_step": trainer.global_step,
                "command": [sys.executable, *sys.orig_argv[1:]],
                "commit": commit(),
                **({"init_from": self._init_from} if self._init_from else {}),
                **facts,
                "machine": f"{platform.node()}, {platform.platform()}, {trainer.strategy.root_device}",
                "loggers": [(type(logger).__name__, logger.version) for logger in trainer.loggers],
                "versions": {name: importlib.metadata.version(name) for name in LIBRARIES}
                | {"python": platform.python_version()},
            }
            with CURVES_MAY_FAIL:
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / STARTS).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


CONSEQUENCES = {
    "devices": "each step has the same sentences, with different dropout",
    "micro_batches": "each step has the same sentences, with different dropout",
    "precision": "numbers are rounded differently",
    "data": "the sentences that follow are different ones",
    "code": "it may compute something different",
}


def facts_of(trainer: L.Trainer) -> dict[str, Any]:
    """Return what a run's numbers depend on, beside its settings."""
    return {
        "devices": trainer.world_size,
        "micro_batches": trainer.accumulate_grad_batches,
        "precision": trainer.precision,
        "data": data_of(trainer).fingerprint,
        "code": code_version(),
    }


@cache
def code_version() -> str:
    """Return a hash of the package's source, which equal code shares whether or not it is committed."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def commit() -> str | None:
    """Return the git commit of the package, with `-dirty` if files have changed, or None without a checkout."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return described.stdout.strip() or None
