"""Resuming: the checkpoint that a run continues from, and the checks that it fits this run."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer

from lit_transformer.checkpoints.format import (
    FORMAT,
    MODEL_ENTRY,
    VOCABULARY_ENTRIES,
    read_checkpoint,
    vocabulary_entries,
    written_format,
)
from lit_transformer.checkpoints.names import CHECKPOINTS_FOLDER, step_of
from lit_transformer.checkpoints.places import FoundCheckpoint, find_checkpoint, newest_readable_checkpoint
from lit_transformer.data.accumulation import recount
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.notes import print_note
from lit_transformer.runs.parts import data_of, model_of
from lit_transformer.runs.ranks import on_all_ranks, on_rank_zero
from lit_transformer.runs.saving import WholeCheckpointIO

SEARCHED = ("last", "auto")
"""Values of `ckpt_path` that look for a checkpoint and continue in its run's folder."""


class Resuming(Callback):
    """Lightning loads what has the right names and shapes: this callback refuses a checkpoint of another model first.

    Some strategies load weights and moments by themselves, into parts of them. So it checks before anything is loaded.
    """

    def __init__(self) -> None:
        self._content: dict[str, Any] | None = None

    def read(self, trainer: L.Trainer, ckpt_path: str | None) -> Path | None:
        """Read the checkpoint that `ckpt_path` means: rank 0 finds it, and each rank reads it once.

        Returns:
            Its path, or None if training starts afresh.

        Raises:
            UserError: There is none, it is damaged or too old for the strategy, or a rank cannot read it. All ranks
                raise it.
        """
        found = _find_on_all_ranks(trainer, ckpt_path)
        self._content = found.content if found else None
        # A strategy that restores after its setup reads parts of the file by itself.
        reads_itself = trainer.strategy.restore_checkpoint_after_setup
        if found and reads_itself and (written := on_all_ranks(lambda: written_format(found.path))) != FORMAT:
            raise UserError(
                f"{found.path} has format {written}, which this strategy reads by itself and does not know: resume "
                "without strategy for some steps, whose checkpoint has the new format"
            )
        trainer.strategy.checkpoint_io = WholeCheckpointIO(None if reads_itself else self._content)
        return found.path if found else None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._content is None:
            return
        model = model_of(trainer)
        check_vocabularies(self._content, data_of(trainer).vocabularies)
        check_architecture(self._content, model.transformer.config)
        check_moments(self._content, model.configure_optimizers()["optimizer"])
        self._content = None  # as large as the run's whole state

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        recount(checkpoint, trainer.accumulate_grad_batches)


def find_start(ckpt_path: str | None, root: Path) -> FoundCheckpoint | None:
    """Find the checkpoint that `ckpt_path` means, if any. A note names each damaged one that is passed over.

    Args:
        ckpt_path: A file, or `last` or `auto`. `auto` accepts that there is none.
        root: Folder in which `last` and `auto` look.

    Raises:
        UserError: There is none, or it has no training state.
    """
    if ckpt_path is None:
        return None
    if ckpt_path not in SEARCHED:
        path = find_checkpoint(ckpt_path)
        found = FoundCheckpoint(path, read_checkpoint(path))
    else:
        newest, damaged = newest_readable_checkpoint(root)
        for file in damaged:
            print_note(f"passed over {file}: it is damaged")
        if newest is None:
            if ckpt_path == "auto":
                return None
            raise UserError(
                f"ckpt_path is last: there is no readable checkpoint below default_root_dir {root}. "
                "Leave ckpt_path out or give auto to start afresh"
            )
        found = newest
    if "optimizer_states" not in found.content:
        raise UserError(f"ckpt_path {found.path} has no training state, as an average has none: give a step-STEP.ckpt")
    return found


def continued_run(resumed: Path | None, ckpt_path: str | None) -> tuple[Path, int] | None:
    """Return the folder of the run that is continued, and the first step whose curves are drawn anew.

    Returns:
        None if a new run begins. It does if `ckpt_path` named the checkpoint's file.
    """
    if resumed is None or ckpt_path not in SEARCHED or resumed.parent.name != CHECKPOINTS_FOLDER:
        return None
    return resumed.parent.parent, (step_of(resumed) or 0) + 1


def check_vocabularies(checkpoint: Mapping[str, Any], vocabularies: Vocabularies) -> None:
    """Raise UserError unless the checkpoint has these SentencePiece models."""
    saved = {name: value for name, value in checkpoint[MODEL_ENTRY].items() if name in VOCABULARY_ENTRIES}
    if saved != vocabulary_entries(vocabularies):
        raise UserError(
            "the checkpoint of ckpt_path was trained with another vocabulary: resume with the same corpus, vocab_size "
            "and source_vocab_size (and with normalization nmt_nfkc and byte_fallback false if its config.yaml has no "
            "normalization), or start afresh without ckpt_path"
        )


def check_architecture(checkpoint: Mapping[str, Any], config: TransformerConfig) -> None:
    """Raise UserError unless the checkpoint has this architecture. Dropout may differ."""
    saved, mine = checkpoint[MODEL_ENTRY]["transformer"], asdict(config)
    if other := [name for name in mine if name != "dropout" and saved.get(name) != mine[name]]:
        settings = ", ".join(f"model.transformer.{name} {saved.get(name)}" for name in other)
        raise UserError(f"the checkpoint of ckpt_path has another architecture: resume with its {settings}")


def check_moments(checkpoint: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Raise UserError unless the moments have the shapes of the weights. Fused Adam would write past their end."""
    saved = {
        (index, name, state[name].shape)
        for index, state in checkpoint["optimizer_states"][0]["state"].items()
        for name in ("exp_avg", "exp_avg_sq")
    }
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if saved != {(i, name, weight.shape) for i, weight in enumerate(weights) for name in ("exp_avg", "exp_avg_sq")}:
        raise UserError(
            "the checkpoint of ckpt_path has the optimizer state of other weights: resume with the versions that its "
            "run's starts.jsonl names, take another checkpoint, or start afresh without ckpt_path"
        )


def _find_on_all_ranks(trainer: L.Trainer, ckpt_path: str | None) -> FoundCheckpoint | None:
    found: FoundCheckpoint | None = None

    def find() -> Path | None:
        nonlocal found
        found = find_start(ckpt_path, Path(trainer.default_root_dir))
        return found.path if found else None

    path = on_rank_zero(find, is_rank_zero=trainer.is_global_zero)
    if path is None:
        return None
    return on_all_ranks(lambda: found or _read_as_rank(path, trainer.global_rank))


def _read_as_rank(path: Path, rank: int) -> FoundCheckpoint:
    try:
        return FoundCheckpoint(path, read_checkpoint(path))
    except UserError as error:
        raise UserError(
            f"rank {rank} cannot read {path}, which rank 0 resumes from: all nodes must share the folder "
            f"default_root_dir ({error})"
        ) from error
