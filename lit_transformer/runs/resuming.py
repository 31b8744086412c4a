"""What a checkpoint must hold so that a run can go on from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from lit_transformer.errors import UserError


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
