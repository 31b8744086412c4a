"""What a run may be resumed from, and where its curves go on."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from lit_transformer.checkpoints.format import FORMAT, MODEL_ENTRY
from lit_transformer.checkpoints.names import step_path
from lit_transformer.errors import UserError
from lit_transformer.runs.resuming import Resuming, continued_run, find_start


class ReadsItself(SingleDeviceStrategy):
    """Like FSDP, it reads a checkpoint's file by itself."""

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True


def test_a_strategy_that_reads_the_file_itself_needs_the_newest_format(tmp_path: Path) -> None:
    trainer = L.Trainer(strategy=ReadsItself("cpu"), logger=False, enable_checkpointing=False, barebones=True)
    for written in (1, FORMAT):
        path = tmp_path / f"format-{written}.ckpt"
        entry = {"format": written}
        torch.save({"state_dict": {}, "optimizer_states": [], MODEL_ENTRY: entry}, path)
    assert Resuming().read(trainer, str(path)) == path
    with pytest.raises(UserError, match=r"format-1\.ckpt has format 1"):
        Resuming().read(trainer, str(tmp_path / "format-1.ckpt"))


def test_only_a_run_that_was_searched_for_is_continued() -> None:
    path = Path("runs/version_3/checkpoints/step-00000017.ckpt")
    for searched in ("auto", "last"):
        assert continued_run(path, searched) == (Path("runs/version_3"), 18)
    assert continued_run(path, str(path)) is None
    assert continued_run(Path("elsewhere/step-00000017.ckpt"), "last") is None
    assert continued_run(None, "auto") is None


@pytest.mark.parametrize("searched", ["auto", "last"])
def test_where_no_checkpoint_can_be_read_nothing_starts_afresh(
    tmp_path: Path, searched: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = step_path(tmp_path / "checkpoints", 7)
    path.parent.mkdir()
    torch.save({MODEL_ENTRY: {}, "callbacks": {"Mine": Path("x")}}, path)
    with pytest.raises(UserError, match=rf"ckpt_path is {searched}: .*{tmp_path}.*\b1 that cannot be resumed from"):
        find_start(searched, tmp_path)
    [note] = capsys.readouterr().err.splitlines()
    assert str(path) in note
    assert "pathlib" in note
