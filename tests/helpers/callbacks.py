"""Callbacks of users, which `trainer.callbacks` names."""

from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn


class Probe(Callback):
    """Adds a module that is not trained."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        pl_module.probe = nn.Linear(2, 2)


class Compiled(Callback):
    """Puts the model into a wrapper."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        pl_module.transformer = torch.compile(pl_module.transformer, backend="eager")  # type: ignore[assignment, arg-type]


class Best(Callback):
    """Keeps a number of NumPy, from the start or after the first validation.

    Args:
        after_validation: When.
    """

    def __init__(self, after_validation: bool = False) -> None:
        self._best = None if after_validation else np.float64(1.5)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._best = np.float64(2.5)


class Stop(Callback):
    """Ends a run at the second step."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        trainer.should_stop = trainer.global_step >= 2


class Fail(Callback):
    """Has a defect that shows at the second step."""

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        assert 1 / (2 - trainer.global_step)


class Weights(Callback):
    """Keeps the weights of the last run by step: those that are trained, and those that are validated."""

    trained: ClassVar[dict[int, Tensor]] = {}
    validated: ClassVar[dict[int, Tensor]] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.trained.clear()
        self.validated.clear()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.trained[trainer.global_step] = flat(dict(pl_module.named_parameters()))

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.validated[trainer.global_step] = flat(dict(pl_module.named_parameters()))


def flat(weights: Mapping[str, Tensor]) -> Tensor:
    """A copy of weights as one vector."""
    return torch.cat([weight.detach().flatten() for weight in weights.values()])
