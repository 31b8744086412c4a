"""The `config.json` of another program, read setting by setting.

A setting that this project does not have is refused, so no model computes something else than its author meant.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from lit_transformer.checkpoints.trained_model import no_memory
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.model.config import TransformerConfig

Value = TypeVar("Value")
Module = TypeVar("Module", bound=nn.Module)
REQUIRED = object()
"""The default of a setting that has none."""
ACTIVATIONS: dict[str, str] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""Their names of activations, and ours."""


class ForeignConfig:
    """The settings of a model. Every setting that is asked for is noted in `known`.

    Args:
        path: The file.
        settings: Its content.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self._settings = path, settings
        self.known: set[str] = set()

    @property
    def model_type(self) -> str:
        """The name that the other program has for this architecture."""
        return self.text("model_type")

    def integer(self, name: str, default: object = REQUIRED) -> int:
        """A whole number from 0 on."""
        value = self._get(name, default)
        if type(value) is not int or value < 0:
            raise self.refused(name, value, "it must be a whole number")
        return value

    def number(self, name: str, default: object = REQUIRED) -> float:
        """A number."""
        value = self._get(name, default)
        if type(value) not in (int, float):
            raise self.refused(name, value, "it must be a number")
        return float(value)

    def text(self, name: str, default: object = REQUIRED) -> str:
        """A string."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self.refused(name, value, "it must be a string")
        return value

    def flag(self, name: str, default: object = REQUIRED) -> bool:
        """True or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.refused(name, value, "it must be true or false")
        return value

    def token(self, name: str, default: object = None) -> int | None:
        """The id of a special token, or None if there is none."""
        return None if self._get(name, default) is None else self.integer(name, default)

    def strings(self, name: str, default: object = REQUIRED) -> dict[str, str]:
        """Strings by name."""
        value = self._get(name, default)
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise self.refused(name, value, "it must be names and strings")
        return value

    def choice(self, name: str, choices: Mapping[str, Value], default: object = REQUIRED) -> Value:
        """What one of several strings stands for."""
        value = self.text(name, default)
        if value not in choices:
            raise self.refused(name, value, f"only {', '.join(choices)} can be read")
        return choices[value]

    def equal(self, encoder: str, decoder: str, default: int) -> int:
        """A whole number that encoder and decoder must have in common."""
        value, other = self.integer(encoder, default), self.integer(decoder, default)
        if value != other:
            raise self.refused(decoder, other, f"{encoder} is {value}, and this project has one number for both")
        return value

    def has(self, name: str) -> bool:
        """Whether a setting is there and not null."""
        return self._get(name, None) is not None

    def architecture(self, fields: Mapping[str, Any], *, num_weights: int) -> TransformerConfig:
        """The architecture with these fields.

        Args:
            fields: Arguments of `TransformerConfig`.
            num_weights: Number of weights that are there. An architecture with more layers is refused.

        Raises:
            UserError: If there is no such architecture.
        """
        try:
            config = TransformerConfig(**fields)
        except (UserError, ArithmeticError) as error:
            raise UserError(f"{self.path}: {error}; take another model") from error
        if config.num_layers > num_weights:  # building layers that do not exist could take hours
            raise UserError(
                f"{self.path} has {config.num_layers} layers, but there are {num_weights} weights; "
                "copy the folder again"
            )
        return config

    def empty(self, make: Callable[[], Module]) -> Module:
        """The model that `make` builds, with weights that take no memory.

        Raises:
            UserError: If there is no model of this size.
        """
        try:
            with no_memory():
                return make()
        except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
            raise UserError(
                f"{self.path} describes no model that can be built: {innermost_reason(error)}; take another model"
            ) from error

    def only(self, **values: Any) -> None:
        """Raise UserError if one of these settings is there with another value. None stands for false, too."""
        for name, value in values.items():
            found = self._get(name, value)
            if found != value and (found or value):
                raise self.refused(name, found, f"only {value!r} can be read")

    def refused(self, name: str, value: Any, reason: str) -> UserError:
        """The error about a setting."""
        return UserError(f"{self.path}: {name} is {value!r:.80}, but {reason}; take another model")

    def _get(self, name: str, default: object) -> Any:
        self.known.add(name)
        value = self._settings.get(name, default)
        if value is REQUIRED:
            raise UserError(f"{self.path} lacks {name}: copy the folder again")
        return value
