"""Epochs with a plain trainer: they end, and a run that is cut at any step goes on as if it had not been cut."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lit_transformer import LitTransformer, TransformerConfig, TranslationData
from tests.helpers.tiny import write_tiny_corpus

CONFIG = TransformerConfig(d_model=8, d_ff=12, num_heads=2, num_layers=1, dropout=0.3)
STEPS = 5
"""Optimizer steps of an epoch."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("epochs") / "corpus"
    write_tiny_corpus(folder)
    return folder


class Events(Callback):
    """Records what a run does at which step, and saves a checkpoint at a step: of its end, or before its validation."""

    def __init__(self, folder: Path | None = None, *, validated: bool = True) -> None:
        self.seen: list[tuple[str, int, int]] = []
        self._folder = folder
        self._validated = validated

    def path(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{step}.ckpt"

    def _see(self, what: str, trainer: L.Trainer) -> None:
        if not trainer.sanity_checking:
            self.seen.append((what, trainer.current_epoch, trainer.global_step))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._see("epoch begins", trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._see("step", trainer)
            if self._folder is not None:
                trainer.save_checkpoint(self.path(trainer.global_step))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._see("validation", trainer)
        if self._folder is not None and self._validated and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path(trainer.global_step))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._see("epoch ends", trainer)


def new_data(corpus: Path, **settings: Any) -> TranslationData:
    small: dict[str, Any] = {
        "character_coverage": 1.0,
        "tokens_per_batch": 100,
        "vocab_size": 40,
        "cache_dir": str(corpus.parent / "cache"),
    }
    return TranslationData(str(corpus), **(small | settings))


def new_model() -> LitTransformer:
    L.seed_everything(3)
    return LitTransformer(CONFIG, 40, warmup_steps=4, validation_beam_size=1)


def new_trainer(**settings: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "log_every_n_steps": 1}
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **(quiet | settings),
    )


def weights(model: LitTransformer) -> list[Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


RUNS: dict[str, dict[str, Any]] = {
    "two epochs": {"max_epochs": 2},
    "every two steps": {"max_epochs": 2, "val_check_interval": 2},
    "every two steps of the run": {"max_epochs": 2, "val_check_interval": 2, "check_val_every_n_epoch": None},
    "twice an epoch": {"max_epochs": 2, "val_check_interval": 0.5, "limit_train_batches": 4},
    "every second epoch": {"max_epochs": 4, "check_val_every_n_epoch": 2, "limit_train_batches": 2},
    "steps": {"max_steps": 7, "val_check_interval": 3, "check_val_every_n_epoch": None},
    "both": {"max_steps": 9, "max_epochs": 3, "limit_train_batches": 0.6},
    "overfit": {"max_epochs": 3, "overfit_batches": 3},
}


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("validated", [True, False], ids=["after validation", "before validation"])
def test_a_run_goes_on_from_any_step_as_if_it_had_not_been_cut(
    corpus: Path, tmp_path: Path, settings: dict[str, Any], micro_batches: int, validated: bool
) -> None:
    """Steps, epochs, validations, logged steps, and weights to the bit."""
    limit = {"max_tokens_per_device": 100 // micro_batches}
    whole = Events(tmp_path, validated=validated)

    def logged(trainer: L.Trainer) -> list[dict[str, Any]]:
        assert isinstance(trainer.logger, CSVLogger)
        return [dict(row) for row in trainer.logger.experiment.metrics]

    def run(events: Events, name: str, ckpt: Path | None = None) -> tuple[L.Trainer, LitTransformer, list[Any]]:
        logger = CSVLogger(tmp_path, name, flush_logs_every_n_steps=10**9)
        rows: list[Any] = []
        logger.log_metrics = lambda metrics, step=None: rows.extend(  # type: ignore[method-assign]
            (step, key, value) for key, value in sorted(metrics.items()) if key.startswith("lr-")
        )
        trainer = new_trainer(callbacks=[events, LearningRateMonitor("step")], logger=logger, **settings)
        model = new_model()
        trainer.fit(model, new_data(corpus, **limit), ckpt_path=ckpt, weights_only=True)
        return trainer, model, rows

    trainer, model, rows = run(whole, "whole")
    assert trainer.accumulate_grad_batches == micro_batches
    last = trainer.global_step
    for step in range(1, last + 1):
        events = Events()
        again, resumed, later = run(events, f"from{step}", whole.path(step))
        if step == last and settings.get("max_steps") == last:
            continue
        saved = [event for event in whole.seen if event[0] == ("validation" if validated else "step")]
        at = [event for event in saved if event[2] == step] or [
            e for e in whole.seen if e[0] == "step" and e[2] == step
        ]
        assert events.seen == whole.seen[whole.seen.index(at[0]) + 1 :], step
        assert again.global_step == last
        assert again.current_epoch == trainer.current_epoch
        assert later == [row for row in rows if row[0] >= step], step
        for mine, expected in zip(weights(resumed), weights(model), strict=True):
            assert torch.equal(mine, expected), step
