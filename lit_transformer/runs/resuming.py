"""Resuming: which checkpoint a run goes on from, and what the checkpoint must hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from torch.optim import Optimizer

from lit_transformer.checkpoints.format import read_checkpoint
from lit_transformer.checkpoints.places import FoundCheckpoint, find_checkpoint, newest_readable_checkpoint
from lit_transformer.errors import UserError
from lit_transformer.runs.ranks import note, on_all_ranks, on_rank_zero

SEARCHED = ("last", "auto")
"""Values of --ckpt_path that look for a checkpoint and continue in its run's folder."""


def resume_point(trainer: L.Trainer, ckpt_path: str | None) -> FoundCheckpoint | None:
    """The checkpoint that rank 0 finds for `--ckpt_path`, read once on each rank.

    Raises:
        UserError: There is none, it is damaged, or a rank cannot read it. All ranks raise it.
    """
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
            f"trainer.default_root_dir ({error})"
        ) from error


def find_start(ckpt_path: str | None, root: Path) -> FoundCheckpoint | None:
    """The checkpoint that `--ckpt_path` means, if any; damaged ones are named on stderr and passed over."""
    if ckpt_path is None:
        return None
    if ckpt_path not in SEARCHED:
        path = find_checkpoint(ckpt_path)
        found = FoundCheckpoint(path, read_checkpoint(path))
    else:
        newest, damaged = newest_readable_checkpoint(root)
        for file in damaged:
            note(f"passed over {file}: it is damaged")
        if newest is None:
            if ckpt_path == "auto":
                return None
            raise UserError(
                f"--ckpt_path last: there is no readable checkpoint below {root} (trainer.default_root_dir): "
                "leave --ckpt_path out or give --ckpt_path auto to start afresh"
            )
        found = newest
    check_start(found.content, found.path)
    return found


def check_start(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Raise UserError if there is no training state to go on from."""
    if "optimizer_states" not in checkpoint:
        raise UserError(f"--ckpt_path {path} has no training state, as an average has none: give a step-STEP.ckpt")


def check_moments(checkpoint: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Raise UserError unless the moments have the shapes of the weights: fused Adam would write past their end."""
    saved = {
        (index, name, state[name].shape)
        for index, state in checkpoint["optimizer_states"][0]["state"].items()
        for name in ("exp_avg", "exp_avg_sq")
    }
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if saved != {(i, name, weight.shape) for i, weight in enumerate(weights) for name in ("exp_avg", "exp_avg_sq")}:
        raise UserError(
            "the checkpoint of --ckpt_path has the optimizer state of other weights: go on with the versions that its "
            "run's starts.jsonl names, take another checkpoint, or start afresh without --ckpt_path"
        )
