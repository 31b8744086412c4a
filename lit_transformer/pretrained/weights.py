"""Weights of another program: safetensors files, and a table that says which of their tensors make one of ours."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from lit_transformer.checkpoints.folder import WEIGHTS_FILE, read_json, read_weights
from lit_transformer.checkpoints.trained_model import WEIGHT_TYPES, assign_weights
from lit_transformer.errors import UserError, innermost_reason

Module = TypeVar("Module", bound=nn.Module)
INDEX_FILE = "model.safetensors.index.json"
"""Names the files of a model that is cut into several."""
UNSAFE_FILES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
"""Weights in other formats. The first two can run code when they are read."""


@dataclass(frozen=True)
class Recipe:
    """How a tensor of ours is made.

    Args:
        names: Their tensors.
        make: From these tensors to ours.
    """

    names: tuple[str, ...]
    make: Callable[[list[Tensor]], Tensor] = lambda tensors: tensors[0]


Table = Mapping[str, Recipe]
"""Our names, and how each tensor is made."""


def same(name: str) -> Recipe:
    """Their tensor as it is."""
    return Recipe((name,))


def transposed(name: str) -> Recipe:
    """Their matrix, transposed."""
    return Recipe((name,), lambda tensors: tensors[0].t().contiguous())


def scaled(name: str, factor: float) -> Recipe:
    """Their tensor, times a number."""
    return Recipe((name,), lambda tensors: tensors[0] * factor)


def joined(*names: str, first_factor: float = 1.0) -> Recipe:
    """Their tensors, one below the other. The first one is multiplied by a number."""
    return Recipe(names, lambda tensors: torch.cat([tensors[0] * first_factor, *tensors[1:]]))


def both(ours: str, theirs: str) -> dict[str, Recipe]:
    """Weight and bias of a module."""
    return {f"{ours}.{part}": same(f"{theirs}.{part}") for part in ("weight", "bias")}


def both_joined(ours: str, *theirs: str) -> dict[str, Recipe]:
    """Weight and bias of our module, each joined from those of their modules."""
    return {f"{ours}.{part}": joined(*(f"{name}.{part}" for name in theirs)) for part in ("weight", "bias")}


def per_layer(num_layers: int, ours: str, theirs: str, layer: Table) -> dict[str, Recipe]:
    """A table of one layer for each of the layers.

    Args:
        num_layers: How many there are.
        ours: Our name of the list of layers.
        theirs: Their name of it.
        layer: The table, with names within a layer.
    """
    return {
        f"{ours}.{number}.{name}": Recipe(tuple(f"{theirs}.{number}.{each}" for each in recipe.names), recipe.make)
        for number in range(num_layers)
        for name, recipe in layer.items()
    }


class ForeignWeights:
    """The weights in a folder, in float32, or in float64 if they were saved so.

    Args:
        folder: A folder in Hugging Face's layout.
        prefix: What some programs put before every name. It is removed.

    Raises:
        UserError: If there are no weights in safetensors files, or they cannot be read or have another type.
    """

    def __init__(self, folder: Path, *, prefix: str = "") -> None:
        self.folder = folder
        self._tensors = {name.removeprefix(prefix): _in_float(each) for name, each in _read(folder).items()}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def num_rows(self, name: str) -> int:
        """The first size of a tensor. Raises UserError if there is no such tensor."""
        if name not in self._tensors or self._tensors[name].ndim == 0:
            raise UserError(f"{self.folder} lacks {name}: copy the folder again, or take another model")
        return len(self._tensors[name])

    def rename(self, endings: Mapping[str, str]) -> None:
        """Replace the endings of names that older versions wrote."""
        for old, new in endings.items():
            self._tensors = {
                name.removesuffix(old) + new if name.endswith(old) else name: each
                for name, each in self._tensors.items()
            }

    def check_equal(self, name: str, copies: Collection[str]) -> None:
        """Remove copies of a tensor that is stored several times. Raises UserError if one differs."""
        for copy in copies:
            other = self._tensors.get(copy)
            if other is None or name not in self._tensors:
                continue
            if not torch.equal(other, self._tensors[name]):
                raise UserError(
                    f"{self.folder} has other values in {copy} than in {name}, which the model ties; take another model"
                )
            del self._tensors[copy]

    def load_into(self, model: Module, table: Table, *, ignored: Collection[str] = ()) -> Module:
        """Give a model that was built in `no_memory` its weights.

        Args:
            model: The model.
            table: How its weights are made.
            ignored: Patterns of names of tensors that the model does not compute with.

        Raises:
            UserError: If tensors are missing, left over, of another shape or not finite.
        """
        needed = {name for recipe in table.values() for name in recipe.names}
        if missing := sorted(needed - self._tensors.keys()):
            raise UserError(f"{self.folder} lacks {_listed(missing)}: copy the folder again, or take another model")
        surplus = [
            name
            for name in self._tensors
            if name not in needed and not any(fnmatchcase(name, pattern) for pattern in ignored)
        ]
        if surplus:
            raise UserError(
                f"{self.folder} also has {_listed(surplus)}, which this model has no place for; take another model"
            )
        try:
            weights = {
                ours: recipe.make([self._tensors[name] for name in recipe.names]) for ours, recipe in table.items()
            }
        except (RuntimeError, IndexError) as error:
            raise UserError(
                f"{self.folder} has tensors of other shapes: {innermost_reason(error)}; take another model"
            ) from error
        return assign_weights(model, weights, self.folder)


def _read(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS_FILE).exists():
        return read_weights(folder / WEIGHTS_FILE)
    if not (folder / INDEX_FILE).exists():
        unsafe = [name for name in UNSAFE_FILES if (folder / name).exists()]
        found = f", only {unsafe[0]}, which is not read because such files can run code" if unsafe else ""
        raise UserError(
            f"{folder} has no {WEIGHTS_FILE}{found}: convert it with transformers, "
            "AutoModel.from_pretrained(OLD).save_pretrained(NEW), or take another model"
            if unsafe
            else f"{folder} has no {WEIGHTS_FILE}: copy the folder again"
        )
    files = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(files, dict) or not all(_is_plain_name(name) for name in files.values()):
        raise UserError(f"{folder / INDEX_FILE} does not name safetensors files in weight_map: copy the folder again")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(files.values())):
        tensors |= read_weights(folder / name)
    return tensors


def _is_plain_name(name: object) -> bool:
    """Whether this is a file beside the index and not elsewhere."""
    return isinstance(name, str) and name.endswith(".safetensors") and not set(name) & set("/\\\0:")


def _in_float(tensor: Tensor) -> Tensor:
    """A weight in float32, or in float64 if it is. Tensors of other types are no weights and stay."""
    return tensor.float() if tensor.dtype in WEIGHT_TYPES - {torch.float64} else tensor


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more tensors" if len(names) > 3 else ""
    return f"{', '.join(names[:3]):.200}{rest}"
