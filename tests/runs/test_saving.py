import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from lit_transformer.checkpoints.format import read_checkpoint
from lit_transformer.checkpoints.names import step_of
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.errors import UserError
from lit_transformer.runs import ranks, saving
from lit_transformer.runs.saving import Checkpoints
from lit_transformer.training.metrics import selection_score
from lit_transformer.training.translation import LitTransformer
from tests.helpers.runs import fit, own_lines

FULL = "cannot write the checkpoint: the disk is full"


def test_what_a_killed_process_left_is_removed_at_the_next_start(corpus: Path, tmp_path: Path) -> None:
    run = fit(corpus, tmp_path / "runs", trainer__max_steps=2)
    left = ["step-00000003.ckpt.77.tmp", "best-step-00000003.ckpt.0123.tmp", "interrupted-step-00000003.ckpt.0.tmp"]
    for name in [*left, "mine.tmp"]:
        (run.folder / "checkpoints" / name).touch()
    again = fit(corpus, tmp_path / "runs", trainer__max_steps=3, ckpt_path="auto")
    assert again.names() == {"step-00000002.ckpt", "step-00000003.ckpt", "mine.tmp"}


def test_a_disk_that_is_full_for_rank_0_ends_the_others(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They have no error of their own."""

    def fail_elsewhere(*_: Any) -> None:
        monkeypatch.setattr(ranks, "gather", lambda mine: [UserError(FULL), mine])

    monkeypatch.setattr(saving, "save_checkpoint", fail_elsewhere)
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

    monkeypatch.setattr(saving, "save_checkpoint", fail)
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

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.callback = Checkpoints()
        self.folder = folder / "checkpoints"
        self.folder.mkdir()
        monkeypatch.setattr(saving, "run_folder", lambda trainer: folder)
        monkeypatch.setattr(saving, "write", lambda trainer, path: path.touch())

    def validate(self, step: int, *, bleu: float, loss: float) -> None:
        metrics = {"bleu": bleu, "loss": loss, "selection": selection_score(bleu=bleu, loss=loss)}
        trainer = SimpleNamespace(
            state=SimpleNamespace(fn="fit"),
            sanity_checking=False,
            is_global_zero=True,
            global_step=step,
            callback_metrics={f"val/{name}": torch.tensor(value) for name, value in metrics.items()},
        )
        self.callback.on_validation_end(cast(L.Trainer, trainer), cast(L.LightningModule, None))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def test_noise_does_not_beat_a_better_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = Best(tmp_path, monkeypatch)
    best.validate(50, **EARLY)
    best.validate(100, **LATE)
    assert best.names() == ["best-step-00000100.ckpt"]
    assert best.callback.best_bleu == pytest.approx(0.03)
    best.validate(150, bleu=0.03, loss=4.91)  # a tie
    best.validate(200, bleu=0.5, loss=5.0)
    assert best.callback.best_step == 100
    best.validate(250, bleu=1.5, loss=5.0)
    best.validate(300, bleu=1.4, loss=4.0)
    assert best.names() == ["best-step-00000250.ckpt"]


@pytest.mark.parametrize(("best_bleu", "is_kept"), [(30.0, True), (0.2, False), (-math.inf, False)])
def test_the_best_of_an_older_version_is_taken_over(
    best_bleu: float, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = Best(tmp_path, monkeypatch)
    (best.folder / "best-step-00000050.ckpt").touch()
    state: dict[str, Any] = {"best_bleu": best_bleu, "best_step": 50}
    content = {"callbacks": {best.callback.state_key: state}}
    best.callback.on_load_checkpoint(cast(L.Trainer, None), cast(L.LightningModule, None), content)
    best.callback.load_state_dict(state)
    assert best.callback.best_bleu == best_bleu
    best.validate(100, bleu=0.1, loss=5.0)
    assert best.names() == [f"best-step-{50 if is_kept else 100:08}.ckpt"]


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
    changes = {"trainer__max_steps": 8, "trainer__val_check_interval": 3, "checkpoints__every_n_steps": 2}
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
