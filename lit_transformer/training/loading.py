"""From a checkpoint to the arguments of the model that wrote it: also for checkpoints that do not hold them."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from lit_transformer.batch import EOS_ID
from lit_transformer.checkpoints.format import MODEL_ENTRY, NAME_ENTRY, vocabularies_in
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig

ARGUMENTS_ENTRY = "hyper_parameters"
"""Lightning's. Checkpoints of earlier versions have none."""


def saved_arguments(
    model: type, kind: str | None, checkpoint: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments with which a checkpoint's model was made.

    Args:
        model: The class of the module.
        kind: The kind of model that it trains, as in a checkpoint's entry. None if it translates.
        checkpoint: Its content, as `read_checkpoint` returns it.
        changes: Arguments to change. They may be those of `TransformerConfig`, such as `dropout`.

    Raises:
        UserError: There is no such argument, or the checkpoint holds a model of another kind.
    """
    if (found := checkpoint[MODEL_ENTRY].get(NAME_ENTRY)) != kind:
        raise UserError(f"the checkpoint holds a {found or 'translation'} model: {model.__name__} cannot take it")
    entry, parts = checkpoint[MODEL_ENTRY], {field.name for field in fields(TransformerConfig)}
    parameters = inspect.signature(model).parameters
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    if not takes_any and (unknown := changes.keys() - parameters.keys() - parts):
        raise UserError(f"{model.__name__} has no argument {', '.join(sorted(unknown))}: leave it out")
    arguments = dict(checkpoint.get(ARGUMENTS_ENTRY, {}))
    if vocabularies := vocabularies_in(entry):
        arguments["vocab_size"] = vocabularies.target.vocab_size
        if kind is None:
            arguments["source_vocab_size"] = vocabularies.source_vocab_size
    arguments["transformer"] = TransformerConfig(
        **entry["transformer"] | {name: value for name, value in changes.items() if name in parts}
    )
    return arguments | {name: value for name, value in changes.items() if name not in parts}


@contextmanager
def large_models_refused() -> Iterator[None]:
    """Turn what torch raises for a model that is too large into a user error."""
    try:
        yield
    # torch raises these if there is not enough memory, or if a size does not fit into an integer.
    except (RuntimeError, TypeError, OverflowError) as error:
        raise UserError(
            f"the model is too large for this machine ({str(error).splitlines()[0]}): lower vocab_size, d_model or d_ff"
        ) from error


def check_module(*, label_smoothing: float, **sizes: int | None) -> None:
    """Raise UserError for arguments that no module can have.

    Args:
        label_smoothing: Epsilon of section 5.4.
        sizes: The sizes of vocabularies by their names.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise UserError(f"label_smoothing is {label_smoothing}: it must be at least 0 and below 1")
    for name, size in sizes.items():
        if size is not None and size < EOS_ID + 2:
            raise UserError(f"{name} is {size}: it must be at least {EOS_ID + 2}")
