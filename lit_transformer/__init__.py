"""The Transformer of "Attention Is All You Need" as a PyTorch Lightning experiment project."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_transformer.decoding.settings import SearchSettings
    from lit_transformer.decoding.translator import Translator

__all__ = ["SearchSettings", "Translator"]

_MODULES = {
    "SearchSettings": "lit_transformer.decoding.settings",
    "Translator": "lit_transformer.decoding.translator",
}


def __getattr__(name: str) -> Any:
    # Imported on demand: importing torch takes seconds, and `--help` must not wait for it.
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
