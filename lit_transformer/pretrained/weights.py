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
"""Weights in other formats. They are not read: some of them can run code."""


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
    """The weights in a folder. A model has them in float32, or in float64 if all were saved so.

    Args:
        folder: A folder in Hugging Face's layout.
        prefix: What some programs put before every name. It is removed.

    Raises:
        UserError: If there are no weights in safetensors files, or they cannot be read.
    """

    def __init__(self, folder: Path, *, prefix: str = "") -> None:
        self.folder = folder
        self._tensors = {name.removeprefix(prefix): tensor for name, tensor in _read(folder).items()}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors by their names."""
        return self._tensors

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
            UserError: If tensors are missing, left over, of another shape or type, or not finite.
        """
        tensors = self._needed({name for recipe in table.values() for name in recipe.names}, ignored)
        shapes = {name: weight.shape for name, weight in model.state_dict().items()}
        weights = {}
        for ours, recipe in table.items():
            theirs = ", ".join(recipe.names)
            try:
                weights[ours] = recipe.make([tensors[name] for name in recipe.names])
            except (RuntimeError, IndexError) as error:
                reason = innermost_reason(error)
                raise UserError(f"{self.folder} has {theirs} of another shape: {reason}; take another model") from error
            if weights[ours].shape != shapes[ours]:
                raise UserError(
                    f"{self.folder} has {theirs} of another shape: the settings need {list(shapes[ours])}, but it is "
                    f"{list(weights[ours].shape)}; copy the folder again"
                )
        return assign_weights(model, weights, self.folder)

    def _needed(self, names: Collection[str], ignored: Collection[str]) -> dict[str, Tensor]:
        """The tensors of these names, all in float32 or all in float64."""
        if missing := sorted(set(names) - self._tensors.keys()):
            raise UserError(f"{self.folder} lacks {_listed(missing)}: copy the folder again, or take another model")
        others = [name for name in self._tensors if name not in names]
        if surplus := [name for name in others if not any(fnmatchcase(name, pattern) for pattern in ignored)]:
            raise UserError(
                f"{self.folder} also has {_listed(surplus)}, which this model has no place for; take another model"
            )
        needed = {name: self._tensors[name] for name in names}
        for name, tensor in needed.items():
            if tensor.dtype not in WEIGHT_TYPES:
                raise UserError(f"{self.folder} has {name} of type {tensor.dtype}; take another model")
        is_double = all(tensor.dtype == torch.float64 for tensor in needed.values())
        return needed if is_double else {name: tensor.float() for name, tensor in needed.items()}


def _read(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS_FILE).exists():
        return read_weights(folder / WEIGHTS_FILE)
    if not (folder / INDEX_FILE).exists():
        raise UserError(f"{folder} has no {WEIGHTS_FILE}{_remedy(folder)}")
    files = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(files, dict) or not all(_is_plain_name(name) for name in files.values()):
        raise UserError(f"{folder / INDEX_FILE} does not name safetensors files in weight_map: copy the folder again")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(files.values())):
        tensors |= read_weights(folder / name)
    return tensors


def _remedy(folder: Path) -> str:
    for name in UNSAFE_FILES:
        if (folder / name).exists():
            return (
                f", only {name}, and such files can run code when they are read: convert it with transformers, "
                "AutoModel.from_pretrained(OLD).save_pretrained(NEW)"
            )
    return ": copy the folder again"


def _is_plain_name(name: object) -> bool:
    """Whether this is a file beside the index and not elsewhere."""
    return isinstance(name, str) and name.endswith(".safetensors") and not set(name) & set("/\\\0:")


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more tensors" if len(names) > 3 else ""
    return f"{', '.join(names[:3]):.200}{rest}"
