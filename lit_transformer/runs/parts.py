"""The parts of a trainer with their types, which Lightning does not declare."""

from typing import TypeVar, cast

import lightning as L
from lightning.pytorch.callbacks import Callback

from lit_transformer.data.loaders import LoadedData
from lit_transformer.training.module import LitModel

Kind = TypeVar("Kind", bound=Callback)


def data_of(trainer: L.Trainer) -> LoadedData:
    """Return the data that the trainer trains on."""
    return cast(LoadedData, trainer.datamodule)  # type: ignore[attr-defined]


def model_of(trainer: L.Trainer) -> LitModel:
    """Return the model that the trainer trains."""
    return cast(LitModel, trainer.lightning_module)


def callbacks_of(trainer: L.Trainer, kind: type[Kind]) -> list[Kind]:
    """Return the trainer's callbacks of a class."""
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


def callback_of(trainer: L.Trainer, kind: type[Kind]) -> Kind:
    """Return the trainer's first callback of a class."""
    return callbacks_of(trainer, kind)[0]


def unknown_callbacks(trainer: L.Trainer) -> list[Callback]:
    """Return the callbacks that neither Lightning nor this package defines."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined] # set, but not declared
    return [callback for callback in callbacks if package_of(callback) not in ("lightning", "lit_transformer")]


def package_of(part: object) -> str:
    """Return the package that defines the class of a part."""
    return type(part).__module__.partition(".")[0]
