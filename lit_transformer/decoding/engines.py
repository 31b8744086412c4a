"""The engines by name. What is installed never changes translations, so the default is always the plain one."""

from typing import Literal, get_args

from lit_transformer.decoding.engine import Engine
from lit_transformer.decoding.transformer_search import TransformerSearch
from lit_transformer.errors import UserError
from lit_transformer.model.transformer import Transformer

EngineName = Literal["torch"]


def make_engine(name: EngineName, transformer: Transformer, *, batch_tokens: int) -> Engine:
    """Make the engine of this name.

    Args:
        name: The engine.
        transformer: The model, on the device that it computes on.
        batch_tokens: Padded source tokens per batch.

    Raises:
        UserError: There is no such engine, or it cannot be used here.
    """
    if name not in get_args(EngineName):
        raise UserError(f"engine is {name!r}: choose one of {', '.join(get_args(EngineName))}")
    return TransformerSearch(transformer, batch_tokens)
