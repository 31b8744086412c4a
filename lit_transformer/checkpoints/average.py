"""Checkpoint averaging (section 6.1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_transformer.checkpoints.format import (
    MODEL_ENTRY,
    VOCABULARY_ENTRIES,
    WEIGHTS_ENTRY,
    WEIGHTS_PREFIX,
    read_checkpoint,
    to_trained_model,
)
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.errors import UserError
from lit_transformer.progress import progress


def average_checkpoints(paths: Sequence[Path]) -> TrainedModel:
    """The mean of the weights of several checkpoints of one run. Everything else is taken from the last one.

    The paper averages the last 5 checkpoints of base and the last 20 of big, written at 10-minute intervals. Sums are
    in float64, so that the mean of copies equals the copy bit for bit.

    Raises:
        UserError: If a checkpoint cannot be read or is of another run.
    """
    with progress("averaging", len(paths), "checkpoint") as advance:
        first = last = read_checkpoint(paths[0])
        total = {name: value.double() for name, value in _own_weights(first).items()}
        for path in paths[1:]:
            advance(1)
            last = read_checkpoint(path)
            if differing := _differing(first, last):
                raise UserError(f"{path} has another {differing} than {paths[0]}: average checkpoints of one run")
            for name, value in _own_weights(last).items():
                total[name] += value
    weights = last[WEIGHTS_ENTRY]
    mean = {name: (value / len(paths)).to(weights[name].dtype) for name, value in total.items()}
    return to_trained_model({**last, WEIGHTS_ENTRY: weights | mean}, paths[-1])


def _own_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of the model, without those of other parts of the run."""
    return {name: value for name, value in checkpoint[WEIGHTS_ENTRY].items() if name.startswith(WEIGHTS_PREFIX)}


def _differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The part of the model in which two checkpoints differ, if there is one. Dropout may change within a run."""
    for part in ("transformer", *VOCABULARY_ENTRIES, "source", "target"):
        values = [checkpoint[MODEL_ENTRY].get(part) for checkpoint in (first, other)]
        if part == "transformer":
            values = [{**architecture, "dropout": None} for architecture in values]
        if values[0] != values[1]:
            return part
    if _own_weights(first).keys() != _own_weights(other).keys():
        return "set of weights"
    return None
