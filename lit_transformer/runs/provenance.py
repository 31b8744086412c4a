"""What a run is made of: written into its folder at every start, and compared between ranks and with the checkpoint."""

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
from lit_transformer.runs.dispensable import CURVES
from lit_transformer.runs.parts import callback_of, data_of, model_of
from lit_transformer.runs.ranks import check_ranks
from lit_transformer.runs.run_folder import run_folder
from lit_transformer.runs.saving import Checkpoints

FILE = "starts.jsonl"
LIBRARIES = ("torch", "lightning", "torchmetrics", "datasets", "sentencepiece", "sacrebleu", "numpy")
PACKAGE = Path(__file__).resolve().parents[1]


class RunRecord(Callback):
    """Appends a line to `starts.jsonl` whenever the run is started, and refuses ranks that do not fit together."""

    def __init__(self) -> None:
        self._former: dict[str, Any] = {}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Of any run: what it says is compared when this one starts.
        self._former = checkpoint[self.state_key]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[self.state_key] = facts_of(trainer)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Before ranks with other data try how much of it fits into memory.
        check_ranks({**facts_of(trainer), "rank": trainer.global_rank})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        facts, saved = facts_of(trainer), callback_of(trainer, Checkpoints)
        own = {
            "step": trainer.global_step,
            "best step": saved.best_step,
            "best score": saved.best_selection,
            "BLEU tokenizer": model_of(trainer).val_scores["bleu"].tokenize,  # a node without MeCab has another one
        }
        check_ranks({**facts, **own, "rank": trainer.global_rank})
        for name, consequence in CONSEQUENCES.items():
            # A checkpoint of an earlier version has fewer facts.
            former = self._former.get(name, facts[name])
            if former != facts[name] and trainer.is_global_zero:
                print_note(f"the checkpoint was made with {name} {former}, this run has {facts[name]}: {consequence}")
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            line = {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "first_step": trainer.global_step,
                "command": [sys.executable, *sys.orig_argv[1:]],
                "commit": commit(),
                **facts,
                "machine": f"{platform.node()}, {platform.platform()}, {trainer.strategy.root_device}",
                "versions": {name: importlib.metadata.version(name) for name in LIBRARIES}
                | {"python": platform.python_version()},
            }
            with CURVES:
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / FILE).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


CONSEQUENCES = {
    "devices": "the same sentences step by step, with other dropout",
    "micro_batches": "the same sentences step by step, with other dropout",
    "precision": "it computes with other rounding",
    "data": "it goes on with other sentences than it would have had",
    "code": "it may compute something else",
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
    """A hash of the package's source: equal where the code is, whether or not it is committed."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def commit() -> str | None:
    """The git commit of the package, `-dirty` where it is changed; none where it is not in a checkout of its own."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return described.stdout.strip() or None
