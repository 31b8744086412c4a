"""Which errors are Lightning's words about a setting, and which are defects or code of the user's."""

import os
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import BaseFinetuning, Callback, LearningRateMonitor

from lit_transformer.runs.lightning_errors import lightning_error


class Mine(Callback):
    """A user's callback with a defect."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        raise ValueError("mine")


def error_of(action: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as raised:
        action()
    return raised.value


def trainer(**settings: Any) -> L.Trainer:
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **settings)


def wrong_type_in_torch() -> None:
    torch.zeros(2) @ torch.zeros(3)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: LearningRateMonitor().on_train_start(trainer()), ["LearningRateMonitor: ", "no logger"]),
    ],
)
def test_what_lightning_raises_on_purpose(action: Callable[[], Any], words: list[str]) -> None:
    """Before the first step and after it."""
    error = error_of(action)
    for in_training in (False, True):
        message = lightning_error(error, in_training=in_training)
        assert message is not None
        assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: BaseFinetuning().freeze_before_training(L.LightningModule()), ["BaseFinetuning", "NotImplemented"]),
        (lambda: SLURMEnvironment().world_size(), ["SLURMEnvironment", "SLURM_NTASKS is not set"]),
    ],
)
def test_what_lightning_trips_over_before_training(
    action: Callable[[], Any], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    message = lightning_error(error_of(action), in_training=False)
    assert message is not None
    assert all(word in message for word in words)


def test_a_wrong_setting_of_the_trainer() -> None:
    error = error_of(lambda: trainer(limit_val_batches=-1))
    assert isinstance(error, MisconfigurationException)
    message = lightning_error(error, in_training=False)
    assert message is not None
    assert "limit_val_batches" in message


@pytest.mark.parametrize(
    "action",
    [
        lambda: Mine().on_fit_end(trainer(), L.LightningModule()),
        wrong_type_in_torch,
        lambda: os.environ["="],
    ],
)
@pytest.mark.parametrize("in_training", [False, True])
def test_other_errors_stay(action: Callable[[], Any], in_training: bool) -> None:
    assert lightning_error(error_of(action), in_training=in_training) is None
