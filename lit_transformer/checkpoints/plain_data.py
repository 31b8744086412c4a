"""Plain data: what a checkpoint may hold so that it can be read without running code.

The model's own entries are plain. Callbacks and other foreign parts can put anything into a checkpoint.
"""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lit_transformer.errors import UserError

_PLAIN = (type(None), bool, int, float, str, bytes, Tensor, nn.Parameter)
"""Types that are read back. They are not tried, because tensors can be large."""
_CONTAINERS = (dict, list, tuple)


def check_plain(checkpoint: Mapping[str, Any]) -> None:
    """Raise UserError, with the name of the part, unless the content of a checkpoint can be read back."""
    found = _first_unreadable(checkpoint)
    if found is None:
        return
    (entry, *place), kind = found
    in_callback = entry == "callbacks" and place
    owner = f"the state of callback {place.pop(0)}" if in_callback else f"the checkpoint's entry {entry}"
    where = f" ({'.'.join(map(str, place))})" if place else ""
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    raise UserError(
        f"{owner} has a value of type {name}{where}, which could not be read back from a checkpoint: convert it to "
        "numbers, strings, lists, dictionaries or tensors"
    )


def _first_unreadable(value: Any, *place: Any) -> tuple[list[Any], type] | None:
    """The keys that lead to the first value that cannot be read back, and its type."""
    if type(value) in _PLAIN:
        return None
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        parts = [(key, part) for key, content in value.items() for part in (key, content)]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = enumerate(value)
    for key, part in parts:
        if found := _first_unreadable(part, *place, key):
            return found
    return None if type(value) in _CONTAINERS or _is_read_back(value) else ([*place], type(value))


def _is_read_back(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # pickle and torch raise AttributeError, TypeError, PicklingError, RuntimeError, ...
        return False
    return True
