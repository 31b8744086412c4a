"""Format 1, in which weights had other names than in format 2. The two are the same in all else.

In format 1 the positions and the last norm of encoder and decoder were the model's, now they are the stacks'. This
module is all that is left of it.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_RENAMED = {
    r"^source_positions\.": "encoder.positions.",
    r"^target_positions\.": "decoder.positions.",
    r"^(encoder|decoder)_norm\.": r"\1.norm.",
    r"^(encoder|decoder)\.(\d+)\.": r"\1.layers.\2.",
}
"""How the name of a weight began in format 1, and how it begins in format 2."""
_ORDER = (
    "embedding.",
    "encoder.positions.",
    "encoder.layers.",
    "encoder.norm.",
    "decoder.positions.",
    "decoder.layers.",
    "decoder.norm.",
)
"""The beginnings of names in format 2, in the order of the model's weights."""
_COPY = re.compile(r"(encoder|decoder)\.\d+\.self_attention\.positions\.")
"""Version 0.1.0 saved learned positions again with every layer."""
_PREFIX = "transformer."
"""What names in a checkpoint begin with. In a model folder they do not."""


def format_2_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's weights with their names in format 2, in the order in which they are given."""
    return {_renamed(name): value for name, value in weights.items() if not _COPY.match(name)}


def to_format_2(checkpoint: dict[str, Any]) -> None:
    """Change the content of a checkpoint from format 1 to format 2."""
    weights = format_2_weights({name.removeprefix(_PREFIX): value for name, value in checkpoint["state_dict"].items()})
    names = sorted(weights, key=_place)
    checkpoint["state_dict"] = {_PREFIX + name: weights[name] for name in names}
    # Optimizers number the weights in the model's order, which is another one now.
    old_numbers = {name: number for number, name in enumerate(weights)}
    for optimizer in checkpoint.get("optimizer_states", []):
        moments = optimizer["state"]
        optimizer["state"] = {
            number: moments[old_numbers[name]] for number, name in enumerate(names) if old_numbers[name] in moments
        }
    checkpoint["lit_transformer"]["format"] = 2


def _renamed(name: str) -> str:
    for beginning, new_beginning in _RENAMED.items():
        name = re.sub(beginning, new_beginning, name)
    return name


def _place(name: str) -> int:
    return next((place for place, beginning in enumerate(_ORDER) if name.startswith(beginning)), len(_ORDER))
