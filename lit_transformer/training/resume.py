"""What a checkpoint must hold so that a run can go on from it: the types and sizes that this run would write.

Lightning and torch take a training state as it comes. Adam would read and write moments of another size past their
end, and everything else that is wrong would show later, as an error somewhere in training.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from lit_transformer import checkpoint as checkpoints
from lit_transformer.errors import UserError

_VERSION = re.compile(r"[2-9]\.\d{1,4}\.\d{1,4}((rc|\.post|\.dev)\d{1,4})?")
"""Lightning would bring up to date what an older one wrote, and that has its own ways to fail."""
_SWITCHES = ("amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay", "params")
"""With other values Adam would look for other moments."""


def check_start(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Raises where there is no training state that Lightning could begin with; `check_training_state` does the rest."""
    if "loops" not in checkpoint:
        raise UserError(f"--ckpt_path {path} is an average, which has no training state: give a step-STEP.ckpt")
    version, callbacks = checkpoint.get("pytorch-lightning_version"), checkpoint.get("callbacks")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        _refuse("pytorch-lightning_version")
    if not isinstance(callbacks, dict) or not all(isinstance(name, str) for name in callbacks):
        _refuse("callbacks")


def check_training_state(
    checkpoint: Mapping[str, Any],
    *,
    weights: Mapping[str, Tensor],
    loop: Mapping[str, Any],
    schedule: LRScheduler,
) -> None:
    """Raises where a checkpoint differs in kind from what a run with these objects writes.

    Args:
        checkpoint: As `checkpoint.read` gives it.
        weights: The LightningModule's state.
        loop: The state of Lightning's loop over the training data.
        schedule: The learning rate of the Adam that is to go on, before its first step.
    """
    parameters = [weight for group in schedule.optimizer.param_groups for weight in group["params"]]
    moments = {
        index: {"step": torch.tensor(0.0), "exp_avg": weight, "exp_avg_sq": weight}
        for index, weight in enumerate(parameters)
    }
    [group] = schedule.optimizer.state_dict()["param_groups"]
    for name, like in {
        checkpoints.WEIGHTS: dict(weights),
        "optimizer_states": [{"state": moments, "param_groups": [group]}],
        "lr_schedulers": [schedule.state_dict()],
        "global_step": 0,
    }.items():
        check_like(checkpoint.get(name), like, name)
    [saved_group] = checkpoint["optimizer_states"][0]["param_groups"]
    if any(saved_group[name] != group[name] for name in _SWITCHES):
        _refuse("optimizer_states")
    loops = checkpoint["loops"]
    check_like(loops.get("fit_loop") if isinstance(loops, dict) else None, loop, "loops")
    taken = loops["fit_loop"]["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
    if not checkpoint["global_step"] == checkpoint[checkpoints.ENTRY]["step"] == taken["completed"]:
        _refuse("global_step")


def check_like(value: Any, like: Any, name: str) -> None:
    """Raises where a value is of another type or size than the one that it is to replace; for None a count does."""
    if isinstance(like, dict):
        if not isinstance(value, dict) or value.keys() != like.keys():
            _refuse(name)
        parts = [(value[key], like[key]) for key in like]
    elif isinstance(like, list | tuple):
        if not isinstance(value, type(like)) or len(value) != len(like):
            _refuse(name)
        parts = list(zip(value, like, strict=True))
    elif not _is_like(value, like):
        _refuse(name)
    else:
        return
    for part, like_part in parts:
        check_like(part, like_part, name)


def _is_like(value: Any, like: Any) -> bool:
    if isinstance(like, Tensor):
        return checkpoints.is_weight(value) and value.shape == like.shape and value.is_contiguous()
    if isinstance(like, int | None):
        return (value is None and like is None) or checkpoints.is_value(value, int)
    return isinstance(value, type(like))


def _refuse(name: str) -> NoReturn:
    raise UserError(
        f"the checkpoint of --ckpt_path has no training state of this version ({name}): go on with the versions that "
        "its run's starts.jsonl names, take another checkpoint, or start afresh without --ckpt_path"
    )
