"""The Transformer of "Attention Is All You Need" as a PyTorch Lightning experiment project."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_transformer.decoding.translator import Translator

__all__ = ["Translator"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: importing torch takes seconds, which `--help` should not.
    if name == "Translator":
        from lit_transformer.decoding.translator import Translator

        return Translator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
