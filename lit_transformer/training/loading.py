"""From a checkpoint to the arguments of the model that wrote it: also for checkpoints that do not hold them."""

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lit_transformer.checkpoints.format import MODEL_ENTRY, vocabularies_in
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig

ARGUMENTS_ENTRY = "hyper_parameters"
"""Lightning's. Checkpoints of earlier versions have none."""


def saved_arguments(kind: type, checkpoint: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which a checkpoint's model was made.

    Args:
        kind: The class of the model.
        checkpoint: Its content, as `read_checkpoint` returns it.
        changes: Arguments to change. They may be those of `TransformerConfig`, such as `dropout`.

    Raises:
        UserError: There is no such argument.
    """
    entry, parts = checkpoint[MODEL_ENTRY], {field.name for field in fields(TransformerConfig)}
    parameters = inspect.signature(kind).parameters
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    if not takes_any and (unknown := changes.keys() - parameters.keys() - parts):
        raise UserError(f"{kind.__name__} has no argument {', '.join(sorted(unknown))}: leave it out")
    arguments = dict(checkpoint.get(ARGUMENTS_ENTRY, {}))
    if vocabularies := vocabularies_in(entry):
        arguments["vocab_size"] = vocabularies.target.vocab_size
        arguments["source_vocab_size"] = vocabularies.source_vocab_size
    arguments["transformer"] = TransformerConfig(
        **entry["transformer"] | {name: value for name, value in changes.items() if name in parts}
    )
    return arguments | {name: value for name, value in changes.items() if name not in parts}
