"""A trained model: what translating needs, whichever kind of file it was read from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lit_transformer.batch import PAD_ID
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

Module = TypeVar("Module", bound=nn.Module)
SEARCH_ENTRY = "search"
"""The field of a model folder and the part of a checkpoint that hold a model's own search settings."""
WEIGHT_TYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


@dataclass(frozen=True)
class TrainedModel:
    """A model with its vocabulary and languages.

    Args:
        transformer: The model, in float32 and in evaluation mode.
        vocabularies: Its vocabularies.
        source: Language that it translates from.
        target: Language that it translates into.
        step: Optimizer steps that it was trained for.
        path: The file or folder that it was read from.
        search: How it searches for translations unless it is told otherwise.
    """

    transformer: Transformer
    vocabularies: Vocabularies
    source: str
    target: str
    step: int
    path: Path
    search: SearchSettings = SearchSettings()

    @property
    def about(self) -> dict[str, Any]:
        """What is neither weights nor vocabulary nor place."""
        return {"source": self.source, "target": self.target, "step": self.step, "search": self.search}

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary that both sides share. Raises UserError if each has its own."""
        return self.vocabularies.tokenizer


def search_entry(search: SearchSettings) -> dict[str, dict[str, Any]]:
    """A model's own search settings as files hold them: what differs from the paper's, or nothing.

    A model never samples unless it is told to.
    """
    changes = {name: value for name, value in search.changes.items() if name != "sampling"}
    return {SEARCH_ENTRY: changes} if changes else {}


def search_in(entry: Mapping[str, Any], path: Path | str) -> SearchSettings:
    """The search settings in what `search_entry` was written to.

    Args:
        entry: The names and values beside them.
        path: The file that all this was read from, for errors.

    Raises:
        UserError: If they are no search settings.
    """
    saved = entry.get(SEARCH_ENTRY, {})
    defaults = {name: default for name, default in asdict(SearchSettings()).items() if name != "sampling"}
    kinds = {name: int if default is None else type(default) for name, default in defaults.items()}
    try:
        for name, value in saved.items():
            if isinstance(value, dict | list) or (kinds[name] in (int, bool) and type(value) is not kinds[name]):
                raise TypeError(f"{name} is {value!r:.50}")
        return SearchSettings(**saved)
    except (AttributeError, KeyError, TypeError, UserError) as error:
        reason = innermost_reason(error)
        raise UserError(f"{path}: {SEARCH_ENTRY} cannot be used ({reason}); take another model") from error


def check_sizes(transformer: Transformer, vocabularies: Vocabularies) -> None:
    """Raise UserError unless the model has the sizes of the vocabularies."""
    sizes = vocabularies.target.vocab_size, vocabularies.source_vocab_size
    if sizes != (transformer.vocab_size, transformer.source_vocab_size):
        raise UserError(
            f"the vocabularies have vocab_size {sizes[0]} and source_vocab_size {sizes[1]}, but the model has "
            f"{transformer.vocab_size} and {transformer.source_vocab_size}: give both the same"
        )


def build_transformer(
    architecture: Mapping[str, Any], weights: Mapping[str, Tensor], *, vocabularies: Vocabularies, path: Path
) -> Transformer:
    """Build a model around its weights, in float32 and in evaluation mode.

    Args:
        architecture: The fields of `TransformerConfig`.
        weights: The model's state dict.
        vocabularies: The vocabularies, whose numbers of tokens the weights must fit.
        path: The file or folder that all this was read from, for errors.

    Raises:
        UserError: If this is no architecture, or if the weights do not fit it, have another type or are not finite.
    """
    transformer = empty_transformer(architecture, vocabularies=vocabularies, num_weights=len(weights), path=path)
    return load_weights(transformer, weights, path)


def empty_transformer(
    architecture: Mapping[str, Any], *, vocabularies: Vocabularies, num_weights: int, path: Path
) -> Transformer:
    """Build a model whose weights take no memory. `load_weights` gives it some.

    Args:
        architecture: The fields of `TransformerConfig`.
        vocabularies: The vocabularies, whose numbers of tokens the weights must fit.
        num_weights: Number of weights that are there. An architecture with more layers is refused.
        path: The file or folder that all this was read from, for errors.

    Raises:
        UserError: If this is no architecture.
    """
    try:
        config = TransformerConfig(**architecture)
        if config.num_layers > num_weights:  # building layers that do not exist could take hours
            raise ValueError(f"num_layers is {config.num_layers}, but there are {num_weights} weights")
        return without_memory(config, vocabularies.target.vocab_size, vocabularies.source_vocab_size)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f"{path} holds no model of lit_transformer: {innermost_reason(error)}; take another one"
        ) from error


def without_memory(config: TransformerConfig, vocab_size: int, source_vocab_size: int | None) -> Transformer:
    """A model whose weights have names, shapes and no memory."""
    with no_memory():
        return Transformer(config, vocab_size=vocab_size, pad_id=PAD_ID, source_vocab_size=source_vocab_size)


@contextmanager
def no_memory() -> Iterator[None]:
    """Models that are built in this block have weights with names, shapes and no memory."""
    with torch.device("meta"), _WithoutInitialization():
        yield


class _WithoutInitialization(TorchFunctionMode):
    """Skips `nn.init.normal_`.

    Weights without memory have no values, and drawing them would load torch's compiler, which takes a second.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)


def load_weights(model: Module, weights: Mapping[str, Tensor], path: Path) -> Module:
    """Give an empty model its weights, in float32 and in evaluation mode. They are not copied.

    Raises:
        UserError: If the weights do not fit the model, have another type or are not finite.
    """
    return assign_weights(model, weights, path).float()


def assign_weights(model: Module, weights: Mapping[str, Tensor], path: Path) -> Module:
    """What `load_weights` does, in the types that the weights have.

    Raises:
        UserError: As `load_weights`.
    """
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise UserError(
            f"{path} has weights of another architecture: {innermost_reason(error)}; take another one"
        ) from error
    if other := {weight.dtype for weight in model.parameters()} - WEIGHT_TYPES:
        raise UserError(f"{path} has weights of type {other.pop()}: take another one")
    # The extremes tell it 14 times as fast as `isfinite` of all elements: those of a tensor with NaN are NaN.
    if not all(bool(torch.stack(weight.aminmax()).isfinite().all()) for weight in model.parameters()):
        raise UserError(f"{path} has weights that are not finite: its training diverged; take an earlier checkpoint")
    return model.requires_grad_(False).eval()
