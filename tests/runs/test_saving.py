import json
import math
import shutil
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn, cast

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn

from lit_transformer.checkpoints.format import read_checkpoint
from lit_transformer.checkpoints.names import step_of
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.cli.training import FitCLI, parse
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.runs import checkpoint_io, ranks
from lit_transformer.runs.saving import BestCheckpoint, Checkpoints
from lit_transformer.runs.whole_steps import to_timedelta
from lit_transformer.training.metrics import selection_score
from lit_transformer.training.translation import LitTransformer
from tests.helpers.runs import SHORT, arguments, fit, own_lines

TINY = TransformerConfig(d_model=8, d_ff=8, num_heads=2, num_layers=1)
FULL = "cannot write the checkpoint: the disk is full"


def test_what_a_killed_process_left_is_removed_at_the_next_start(corpus: Path, tmp_path: Path) -> None:
    run = fit(corpus, tmp_path / "runs", trainer__max_steps=2)
    left = ["step-00000003.ckpt.77.tmp", "best-step-00000003.ckpt.0123.tmp", "interrupted-step-00000003.ckpt.0.tmp"]
    for name in [*left, "mine.tmp"]:
        (run.folder / "checkpoints" / name).touch()
    again = fit(corpus, tmp_path / "runs", trainer__max_steps=3, ckpt_path="auto")
    assert again.names() == {"step-00000002.ckpt", "step-00000003.ckpt", "mine.tmp"}


@pytest.mark.parametrize(("save_top_k", "steps"), [(2, [4, 5]), (-1, [1, 3, 4, 5]), (0, [1, 3, 4])])
def test_one_file_too_many_is_removed_at_the_next_start(
    save_top_k: int, steps: list[int], corpus: Path, tmp_path: Path
) -> None:
    """A kill between a save and the removal of a former one leaves it."""
    settings = {"checkpoints__every_n_train_steps": 1, "trainer__val_check_interval": 9}
    run = fit(corpus, tmp_path / "runs", **settings, checkpoints__save_top_k=2, trainer__max_steps=4)
    shutil.copy(run.checkpoint(3), run.checkpoint(4).with_name("step-00000001.ckpt"))
    last = {"checkpoints__save_top_k": save_top_k, "trainer__max_steps": 5, "ckpt_path": "auto"}
    again = fit(corpus, tmp_path / "runs", **settings, **last)
    assert {step_of(Path(name)) for name in again.names()} == {*steps}


def test_a_disk_that_is_full_for_rank_0_ends_the_others(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They have no error of their own."""

    def fail_elsewhere(*_: Any) -> None:
        monkeypatch.setattr(ranks, "gather", lambda mine: [UserError(FULL), mine])

    monkeypatch.setattr(checkpoint_io, "save_checkpoint", fail_elsewhere)
    with pytest.raises(SystemExit) as status:
        fit(corpus, tmp_path / "runs", trainer__max_steps=2)
    assert status.value.code == 2
    assert FULL in capfd.readouterr().err


def test_rank_0_does_not_leave_the_others_at_the_barrier(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reached = []

    def fail(*_: Any) -> NoReturn:
        raise UserError(FULL)

    monkeypatch.setattr(checkpoint_io, "save_checkpoint", fail)
    monkeypatch.setattr(SingleDeviceStrategy, "barrier", lambda self, name=None: reached.append(name))
    with pytest.raises(SystemExit) as status:
        fit(corpus, tmp_path / "runs", trainer__max_steps=2)
    assert status.value.code == 2
    assert FULL in capfd.readouterr().err
    assert "Trainer.save_checkpoint" in reached


# BLEU and loss of a run on 200 Japanese sentences, scored with 13a: noise beat what was learnt.
EARLY, LATE = {"bleu": 0.20, "loss": 5.44}, {"bleu": 0.03, "loss": 4.91}


class Best:
    """What the callback takes for the best, validation by validation."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.callback = BestCheckpoint(dirpath=str(folder), **settings)
        self.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
        self.trainer.state.fn = TrainerFn.FITTING
        self.trainer.strategy.connect(LitTransformer(TINY, vocab_size=11))
        self.callback.setup(self.trainer, self.trainer.lightning_module, "fit")

    def start(self, state: dict[str, Any]) -> None:
        self.callback.load_state_dict(state)
        self.callback.on_train_start(self.trainer, self.trainer.lightning_module)

    def validate(self, step: int, *, bleu: float, loss: float) -> None:
        metrics = {"bleu": bleu, "loss": loss, "selection": selection_score(bleu=bleu, loss=loss)}
        trainer = cast(Any, self.trainer)
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
        with pytest.MonkeyPatch.context() as patch:
            values = {f"val/{name}": torch.tensor(value) for name, value in metrics.items()}
            patch.setattr(L.Trainer, "callback_metrics", property(lambda self: values))
            patch.setattr(trainer, "save_checkpoint", lambda path, weights_only: Path(path).touch())
            self.callback.on_validation_end(trainer, trainer.lightning_module)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def test_noise_does_not_beat_a_better_model(tmp_path: Path) -> None:
    best = Best(tmp_path)
    best.validate(50, **EARLY)
    best.validate(100, **LATE)
    assert best.names() == ["best-step-00000100.ckpt"]
    best.validate(150, bleu=0.03, loss=4.91)  # a tie
    best.validate(200, bleu=0.5, loss=5.0)
    assert best.callback.best_step == 100
    best.validate(250, bleu=1.5, loss=5.0)
    best.validate(300, bleu=1.4, loss=4.0)
    assert best.names() == ["best-step-00000250.ckpt"]


@pytest.mark.parametrize(("best_bleu", "is_kept"), [(30.0, True), (0.2, False), (-math.inf, False)])
def test_the_best_of_an_older_version_is_taken_over(best_bleu: float, is_kept: bool, tmp_path: Path) -> None:
    best = Best(tmp_path)
    (tmp_path / "best-step-00000050.ckpt").touch()
    best.start({"best_bleu": best_bleu, "best_step": 50})
    best.validate(100, bleu=0.1, loss=5.0)
    assert best.names() == [f"best-step-{50 if is_kept else 100:08}.ckpt"]


@pytest.mark.parametrize(("settings", "names"), [({}, [50]), ({"monitor": "val/bleu"}, [50, 100])])
def test_scores_of_another_value_are_not_compared(settings: dict[str, str], names: list[int], tmp_path: Path) -> None:
    former = Best(tmp_path)
    former.validate(50, bleu=90.0, loss=1.0)
    best = Best(tmp_path, **settings)
    best.start(former.callback.state_dict())
    best.validate(100, bleu=70.0, loss=1.0)
    assert best.names() == [f"best-step-{step:08}.ckpt" for step in names]


def test_fewer_are_kept_if_the_number_is_lowered(tmp_path: Path) -> None:
    """Lightning would never again remove one."""
    former = Best(tmp_path, save_top_k=3)
    for step, bleu in ((10, 30.0), (20, 10.0), (30, 20.0)):
        former.validate(step, bleu=bleu, loss=1.0)
    best = Best(tmp_path, save_top_k=2)
    best.start(former.callback.state_dict())
    assert best.names() == ["best-step-00000010.ckpt", "best-step-00000030.ckpt"]
    best.validate(40, bleu=25.0, loss=1.0)
    assert best.names() == ["best-step-00000010.ckpt", "best-step-00000040.ckpt"]


def test_a_moved_run_goes_on_with_its_files(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The newest checkpoint alone has the training state."""
    short = {"checkpoints__save_top_k": 2, "checkpoints__every_n_train_steps": 2, "trainer__val_check_interval": 3}
    short["checkpoints__save_weights_only"] = True
    fit(corpus, tmp_path / "runs", **short, trainer__max_steps=5)
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    capfd.readouterr()
    run = fit(corpus, tmp_path / "moved", **short, trainer__max_steps=8, ckpt_path="auto")
    error = capfd.readouterr().err
    assert "dirpath has changed" not in error
    assert "exists and is not empty" not in error
    assert len(own_lines(error)) == 1  # max_steps differs
    names = run.names()
    assert {name for name in names if name.startswith("step")} == {"step-00000006.ckpt", "step-00000008.ckpt"}
    assert len(names) == 3
    assert not (tmp_path / "runs").exists()
    contents = {step: read_checkpoint(run.checkpoint(step)) for step in (6, 8)}
    assert "optimizer_states" in contents[8]
    assert not contents[6].keys() & {"optimizer_states", "lr_schedulers", "callbacks"}
    assert run.checkpoint(6).stat().st_size < 0.5 * run.checkpoint(8).stat().st_size


@pytest.mark.parametrize("interval", [{"train_time_interval": "0:00:00"}, {"every_n_train_steps": 1}])
def test_steps_are_saved_whole_and_after_their_validation(
    interval: dict[str, Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's own would save after each micro-batch, and before a validation."""
    events: list[tuple[str, int]] = []
    saved, trained = L.Trainer.save_checkpoint, LitTransformer.training_step
    validated = LitTransformer.on_validation_epoch_end

    def save(trainer: L.Trainer, path: Path, *args: Any) -> None:
        if "best" not in str(path):
            events.append(("saved", trainer.global_step))
        saved(trainer, path, *args)

    def validate(model: LitTransformer) -> None:
        events.append(("validated", model.trainer.global_step))
        validated(model)

    def step(model: LitTransformer, *args: Any) -> Any:
        events.append(("micro-batch", model.trainer.global_step))
        return trained(model, *args)

    monkeypatch.setattr(L.Trainer, "save_checkpoint", save)
    monkeypatch.setattr(LitTransformer, "on_validation_epoch_end", validate)
    monkeypatch.setattr(LitTransformer, "training_step", step)
    settings = {f"checkpoints__{name}": value for name, value in interval.items()}
    micro_batches = {"data__max_tokens_per_device": 230, "trainer__max_steps": 3, "trainer__val_check_interval": 2}
    fit(corpus, tmp_path, **settings, **micro_batches)
    assert events.count(("micro-batch", 0)) > 1
    one, two, three = ([("micro-batch", step), ("saved", step + 1)] for step in range(3))
    two.insert(1, ("validated", 2))
    assert [event for event, _ in groupby(events)] == one + two + three


def test_the_users_own_checkpoints_are_added(corpus: Path, tmp_path: Path) -> None:
    callbacks = [{"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/loss", "filename": "mine-{step}"}}]
    line = arguments(corpus, tmp_path, **SHORT, trainer__callbacks=json.dumps(callbacks))
    trainer = parse(line, FitCLI).trainer
    kinds = [type(callback) for callback in trainer.checkpoint_callbacks]
    assert kinds == [BestCheckpoint, ModelCheckpoint, Checkpoints]
    assert trainer.checkpoint_callback is trainer.checkpoint_callbacks[0]
    run = fit(corpus, tmp_path, **SHORT, trainer__callbacks=json.dumps(callbacks))
    assert run.names() == {"best-step-00000004.ckpt", "step-00000004.ckpt", "mine-step=4.ckpt"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"filename": "{epoch}"}, r"filename is .*\{step"),
        ({"filename": "best-{step}"}, "filename is best"),
        ({"train_time_interval": "ten"}, "train_time_interval is ten"),
        ({"dirpath": "s3://bucket/x"}, "s3://bucket/x"),
    ],
)
def test_what_cannot_be_found_or_read_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Checkpoints(**cast(Any, given))
    if "epoch" not in said:
        BestCheckpoint(filename="best-{epoch}-{step}")
        with pytest.raises(UserError, match=r"filename is \{step"):
            BestCheckpoint(filename="{step}")


def test_times_are_read_in_both_forms() -> None:
    expected = timedelta(days=1, hours=2, minutes=3, seconds=4)
    for text in ("01:02:03:04", "26:03:04", "1 day, 2:03:04", " 1:2:3:4"):
        assert to_timedelta(text) == expected
    assert to_timedelta(str(expected)) == to_timedelta(expected) == expected


@pytest.mark.parametrize(("after_validation", "last_saved"), [(False, 0), (True, 2)])
def test_a_state_that_cannot_be_read_back_is_refused(
    after_validation: bool,
    last_saved: int,
    corpus: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the first step if the callback has it then, else at the first save that would hold it."""
    if not after_validation:
        monkeypatch.setattr(LitTransformer, "training_step", lambda *_: pytest.fail("a step was taken"))
    best = [{"class_path": "tests.helpers.callbacks.Best", "init_args": {"after_validation": after_validation}}]
    changes = {"trainer__max_steps": 8, "trainer__val_check_interval": 3, "checkpoints__every_n_train_steps": 2}
    with pytest.raises(SystemExit) as status:
        fit(corpus, tmp_path / "runs", **changes, trainer__callbacks=json.dumps(best))
    assert status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert "callback Best" in error
    assert "numpy.float64" in error
    saved = [step_of(path) or 0 for path in (tmp_path / "runs").rglob("*.ckpt")]
    assert max(saved, default=0) == last_saved
    if last_saved:
        read_checkpoint(find_checkpoint(tmp_path / "runs"))


def test_a_run_stands_for_the_best_of_several_best(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for the latest, which is the worst one here."""
    scores = iter([30.0, 20.0, 10.0])

    def names(model: LitTransformer) -> list[str]:
        return [name for name in model.metric_names if name.startswith("val/")]

    monkeypatch.setattr(LitTransformer, "validation_values", lambda model: dict.fromkeys(names(model), next(scores)))
    settings = {"best_checkpoint__save_top_k": 3, "trainer__max_steps": 3, "trainer__val_check_interval": 1}
    run = fit(corpus, tmp_path, **settings)
    assert len([name for name in run.names() if name.startswith("best")]) == 3
    assert find_checkpoint(run.folder).name == "best-step-00000001.ckpt"
    shutil.move(run.folder, tmp_path / "moved")
    assert find_checkpoint(tmp_path / "moved").name == "best-step-00000001.ckpt"
