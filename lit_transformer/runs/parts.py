"""The parts of a trainer with their types, which Lightning does not declare."""

from typing import TypeVar, cast

import lightning as L
from lightning.pytorch.callbacks import Callback

from lit_transformer.data.datamodule import TranslationData
from lit_transformer.training.translation import LitTransformer

Kind = TypeVar("Kind", bound=Callback)


def data_of(trainer: L.Trainer) -> TranslationData:
    """Return the data that the trainer trains on."""
    return cast(TranslationData, trainer.datamodule)  # type: ignore[attr-defined]


def model_of(trainer: L.Trainer) -> LitTransformer:
    """Return the model that the trainer trains."""
    return cast(LitTransformer, trainer.lightning_module)


def callback_of(trainer: L.Trainer, kind: type[Kind]) -> Kind:
    """Return the trainer's callback of a class."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))  # type: ignore[attr-defined]
