from pathlib import Path
from typing import Any, NoReturn

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy

from lit_transformer.errors import UserError
from lit_transformer.runs import ranks, saving
from tests.helpers.runs import fit, make_corpus

FULL = "cannot write the checkpoint: the disk is full"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus")


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
