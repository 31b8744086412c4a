"""Checkpoint averaging (section 6.1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_transformer.checkpoints.format import (
    MODEL_ENTRY,
    VOCABULARY_ENTRIES,
    WEIGHTS_ENTRY,
    read_checkpoint,
    to_trained_model,
)
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.errors import UserError


def average_checkpoints(paths: Sequence[Path]) -> TrainedModel:
    """The mean of the weights of several checkpoints of one run. Everything else is taken from the last one.

    The paper averages the last 5 checkpoints of base and the last 20 of big, written at 10-minute intervals. Sums are
    in float64, so that the mean of copies equals the copy bit for bit.

    Raises:
        UserError: If a checkpoint cannot be read or is of another run.
    """
    first = last = read_checkpoint(paths[0])
    total = {name: value.double() for name, value in first[WEIGHTS_ENTRY].items()}
    for path in paths[1:]:
        last = read_checkpoint(path)
        if differing := _differing(first, last):
            raise UserError(f"{path} has another {differing} than {paths[0]}: average checkpoints of one run")
        for name, value in last[WEIGHTS_ENTRY].items():
            total[name] += value
    mean = {name: (value / len(paths)).to(last[WEIGHTS_ENTRY][name].dtype) for name, value in total.items()}
    return to_trained_model({**last, WEIGHTS_ENTRY: mean}, paths[-1])


def _differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The part of the model in which two checkpoints differ, if there is one. Dropout may change within a run."""
    for part in ("transformer", *VOCABULARY_ENTRIES, "source", "target"):
        values = [checkpoint[MODEL_ENTRY].get(part) for checkpoint in (first, other)]
        if part == "transformer":
            values = [{**architecture, "dropout": None} for architecture in values]
        if values[0] != values[1]:
            return part
    return None
