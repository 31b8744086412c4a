"""Epochs with a plain trainer: they end, and a run that is cut at any step goes on as if it had not been cut."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lit_transformer import LitTransformer, TransformerConfig, TranslationData
from lit_transformer.fit import main
from tests.helpers.corpora import make_corpus
from tests.helpers.plain import quiet_trainer, tiny_data
from tests.helpers.runs import arguments, events, load, same
from tests.helpers.tiny import write_tiny_corpus

CONFIG = TransformerConfig(d_model=8, d_ff=12, num_heads=2, num_layers=1, dropout=0.3)
STEPS = 5
"""Optimizer steps of an epoch."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("epochs") / "corpus"
    write_tiny_corpus(folder)
    return folder


ENDS = ("step", "validation", "epoch ends")
"""The ends at which Lightning's callbacks save, in the order in which they come after the same step."""


class Events(Callback):
    """Records what a run does at which step, and saves it there.

    Args:
        folder: Of the checkpoints.
        save_at: One of `ENDS`. A checkpoint is of the last one up to this one that came at its step.
    """

    def __init__(self, folder: Path | None = None, *, save_at: str = "validation") -> None:
        self.seen: list[tuple[str, int, int]] = []
        self.saved: dict[int, int] = {}
        """The events up to the checkpoint of each step."""
        self._folder = folder
        self._saving = ENDS[: ENDS.index(save_at) + 1]

    def path(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{step}.ckpt"

    def _see(self, what: str, trainer: L.Trainer) -> None:
        self.seen.append((what, trainer.current_epoch, trainer.global_step))
        if self._folder is not None and what in self._saving:
            self.saved[trainer.global_step] = len(self.seen)
            trainer.save_checkpoint(self.path(trainer.global_step))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._see("epoch begins", trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._see("step", trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._see("validation", trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._see("epoch ends", trainer)


def new_data(corpus: Path, **settings: Any) -> TranslationData:
    return tiny_data(corpus, **({"tokens_per_batch": 64, "vocab_size": 40} | settings))


def new_model() -> LitTransformer:
    L.seed_everything(3)
    return LitTransformer(CONFIG, 40, warmup_steps=4, validation_beam_size=1)


def new_trainer(**settings: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "log_every_n_steps": 1}
    return quiet_trainer(num_sanity_val_steps=0, **(quiet | settings))


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


CASES = [
    pytest.param(
        settings,
        micro_batches,
        save_at,
        id=f"{name}, {micro_batches} micro-batches, saved at {save_at}",
        marks=[] if (micro_batches, save_at) == (1 + number % 2, ENDS[number % 3]) else pytest.mark.slow,
    )
    for number, (name, settings) in enumerate(RUNS.items())
    for micro_batches in (1, 2)
    for save_at in ENDS
]
"""The fast suite has each run once."""


@pytest.mark.parametrize(("settings", "micro_batches", "save_at"), CASES)
def test_a_run_goes_on_from_any_step_as_if_it_had_not_been_cut(
    corpus: Path, tmp_path: Path, settings: dict[str, Any], micro_batches: int, save_at: str
) -> None:
    """Steps, epochs, validations, logged steps, and weights to the bit."""
    data = new_data(corpus, max_tokens_per_device=64 // micro_batches)
    whole = Events(tmp_path, save_at=save_at)

    def run(events: Events, name: str, ckpt: Path | None = None) -> tuple[L.Trainer, LitTransformer, list[Any]]:
        logger = CSVLogger(tmp_path, name, flush_logs_every_n_steps=10**9)
        rows: list[Any] = []
        logger.log_metrics = lambda metrics, step=None: rows.extend(  # type: ignore[method-assign]
            (step, key, value) for key, value in sorted(metrics.items()) if key.startswith("lr-")
        )
        trainer = new_trainer(callbacks=[events, LearningRateMonitor("step")], logger=logger, **settings)
        model = new_model()
        trainer.fit(model, data, ckpt_path=ckpt, weights_only=True)
        return trainer, model, rows

    trainer, model, rows = run(whole, "whole")
    assert trainer.accumulate_grad_batches == micro_batches
    last = trainer.global_step
    for step in range(1, last + 1):
        events = Events()
        again, resumed, later = run(events, f"from{step}", whole.path(step))
        if step == last and settings.get("max_steps") == last:
            continue
        assert events.seen == whole.seen[whole.saved[step] :], step
        assert again.global_step == last
        assert again.current_epoch == trainer.current_epoch
        assert later == [row for row in rows if row[0] >= step], step
        for mine, expected in zip(weights(resumed), weights(model), strict=True):
            assert torch.equal(mine, expected), step


def test_a_run_of_one_epoch_takes_every_pair_once(corpus: Path) -> None:
    """And the trainer's own counts are those of other projects."""
    data, trainer = new_data(corpus, max_tokens_per_device=32), new_trainer(max_epochs=1)
    rows: list[tuple[int, ...]] = []
    counted: list[float] = []

    class Reader(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, i: int) -> None:
            rows.extend(tuple(row) for row in batch.target_output_BT.tolist() if any(row))
            counted.extend([trainer.estimated_stepping_batches, trainer.num_training_batches])

    trainer.callbacks.append(Reader())  # type: ignore[attr-defined] # set, but not declared
    trainer.fit(new_model(), data)
    assert len(rows) == data.tokens.report.num_kept
    assert trainer.accumulate_grad_batches == 2
    assert set(counted) == {STEPS, 2 * STEPS}
    assert (trainer.global_step, trainer.current_epoch) == (STEPS, 1)
    assert trainer.train_dataloader is not None
    assert len(trainer.train_dataloader) == 2 * STEPS


@pytest.mark.parametrize("first", [{"max_steps": 3}, {"max_epochs": 1}], ids=["within an epoch", "after an epoch"])
def test_a_second_fit_goes_on(corpus: Path, first: dict[str, int]) -> None:
    """With the same trainer, as in a notebook. No micro-batch is multiplied twice."""
    whole, model = new_trainer(max_epochs=2), new_model()
    whole.fit(model, new_data(corpus, max_tokens_per_device=32))
    events, again = Events(), new_model()
    trainer, data = new_trainer(**first, callbacks=[events]), new_data(corpus, max_tokens_per_device=32)
    trainer.fit(again, data)
    trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps = 2, -1
    trainer.fit(again, data)
    assert trainer.accumulate_grad_batches == 2
    assert (trainer.global_step, trainer.current_epoch) == (whole.global_step, whole.current_epoch) == (2 * STEPS, 2)
    assert [step for what, _, step in events.seen if what == "step"] == [*range(1, 2 * STEPS + 1)]


class Foreseeing(LitTransformer):
    """Asks for the steps of the run before the state of a checkpoint is loaded, as many schedules do."""

    foreseen: float

    def configure_optimizers(self) -> Any:
        self.foreseen = self.trainer.estimated_stepping_batches
        return super().configure_optimizers()


def test_a_checkpoint_with_other_micro_batches_and_a_question_before_it_is_loaded(corpus: Path, tmp_path: Path) -> None:
    trainer = new_trainer(max_epochs=2, callbacks=[events := Events(tmp_path)])
    trainer.fit(new_model(), new_data(corpus))
    for micro_batches in (1, 2):
        for step in (3, 5, 8):
            L.seed_everything(3)
            model = Foreseeing(CONFIG, 40, warmup_steps=4, validation_beam_size=1)
            again, trainer = Events(), new_trainer(max_epochs=2)
            trainer.callbacks.append(again)  # type: ignore[attr-defined] # set, but not declared
            data = new_data(corpus, max_tokens_per_device=64 // micro_batches)
            trainer.fit(model, data, ckpt_path=events.path(step), weights_only=True)
            assert model.foreseen == 2 * STEPS
            assert trainer.accumulate_grad_batches == micro_batches
            assert again.seen == events.seen[-len(again.seen) :]
            assert [s for what, _, s in again.seen if what == "step"] == [*range(step + 1, 2 * STEPS + 1)]


def test_reloading_the_data_changes_nothing(corpus: Path) -> None:
    """The loader goes on counting how long training has waited."""
    models = []
    loaders: list[Any] = []

    class Reader(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            loaders.append(trainer.train_dataloader)

    for every in (0, 1):
        settings: dict[str, Any] = {"limit_train_batches": 2, "reload_dataloaders_every_n_epochs": every}
        models.append(new_model())
        loaders.clear()
        new_trainer(max_epochs=3, callbacks=[Reader()], **settings).fit(models[-1], new_data(corpus))
        assert len(loaders) == 6
        assert len(set(map(id, loaders))) == 1
    for mine, expected in zip(*map(weights, models), strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.parametrize(("limit", "batches"), [(1, 1), (2, 2), (0.5, 4), (1.0, 9)])
def test_a_limited_validation_takes_batches_of_all_lengths(corpus: Path, limit: float, batches: int) -> None:
    data = new_data(corpus, validation_batch_tokens=40)
    taken: list[Any] = []

    class Reader(Callback):
        def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *index: int) -> None:
            taken.append(batch)

    new_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=limit, callbacks=[Reader()]).fit(
        new_model(), data
    )
    assert len(taken) == batches


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_from_the_command_line(tmp_path: Path, devices: int) -> None:
    """With accumulation, shares of an epoch and of the validation set, and a second start within the second epoch."""
    changes: dict[str, Any] = {
        "trainer__devices": devices,
        "trainer__limit_train_batches": 4,
        "trainer__limit_val_batches": 1,
        "trainer__val_check_interval": 0.5,
        "trainer__max_epochs": 2,
        "data__tokens_per_batch": 200,
        "data__max_tokens_per_device": 70,
    }
    corpus = make_corpus(tmp_path / "corpus")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    starts: list[tuple[Path, dict[str, Any]]] = [
        (whole, {}),
        (cut, {"trainer__max_steps": 5}),
        (cut, {"ckpt_path": "auto"}),
    ]
    for root, start in starts:
        run = [sys.executable, "-m", "lit_transformer.fit", *arguments(corpus, root, **changes | start)]
        if devices == 1:
            main(run[3:])
        else:
            subprocess.run(run, check=True, capture_output=True, timeout=200)
    [mine], [theirs] = ([*root.rglob("checkpoints/step-00000008.ckpt")] for root in (cut, whole))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(load(mine)[part], load(theirs)[part]), part
    steps = [[event.step for event in events(path.parents[1]).Scalars("val/loss")] for path in (mine, theirs)]
    assert steps == [[2, 4, 6, 8], [2, 4, 6, 8]]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(
    ("limits", "last_step"),
    [
        ({"max_epochs": 2}, 2 * STEPS),
        ({"max_epochs": 3, "limit_train_batches": 3}, 9),
        ({"max_epochs": 2, "limit_train_batches": 0.6}, 6),
        ({"max_epochs": 9, "max_steps": 7}, 7),
    ],
    ids=str,
)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_schedule_that_ends_ends_with_the_run(
    schedule: Any, limits: dict[str, Any], last_step: int, micro_batches: int, corpus: Path
) -> None:
    """At the last step its rate is that of the last of equal parts, and it would be 0 at the next one."""
    L.seed_everything(3)
    model = LitTransformer(CONFIG, 40, warmup_steps=4, learning_rate=0.1, schedule=schedule)
    trainer = new_trainer(limit_val_batches=0, **limits)
    trainer.fit(model, new_data(corpus, **({"max_tokens_per_device": 40} if micro_batches > 1 else {})))
    assert (trainer.global_step, trainer.accumulate_grad_batches) == (last_step, micro_batches)
    share = 1 / (last_step - 3)
    last = share if schedule == "linear" else (1 - math.cos(math.pi * share)) / 2
    assert float(trainer.callback_metrics["train/learning_rate"]) == pytest.approx(0.1 * last, rel=1e-5)
    [rate] = trainer.lr_scheduler_configs[0].scheduler.get_last_lr()
    assert rate == pytest.approx(0.0, abs=1e-9)
