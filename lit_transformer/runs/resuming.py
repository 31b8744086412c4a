"""Resuming: the checkpoint that a run continues from."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, OnExceptionCheckpoint

from lit_transformer.checkpoints.format import (
    FORMAT,
    OPTIMIZER_ENTRY,
    note_foreign,
    owners_of,
    read_checkpoint,
    written_format,
)
from lit_transformer.checkpoints.names import CHECKPOINTS_FOLDER, step_of
from lit_transformer.checkpoints.places import FoundCheckpoint, find_checkpoint, newest_readable_checkpoint
from lit_transformer.errors import UserError
from lit_transformer.notes import print_note
from lit_transformer.runs.changed_settings import replay_other_schedule
from lit_transformer.runs.checkpoint_io import WholeCheckpointIO
from lit_transformer.runs.compatibility import (
    check_architecture,
    check_kind,
    check_moments,
    check_vocabularies,
    leave_out_foreign,
    own_parameters,
)
from lit_transformer.runs.parts import callbacks_of, data_of, model_of
from lit_transformer.runs.ranks import on_all_ranks, on_rank_zero
from lit_transformer.runs.run_folder import SEARCHED
from lit_transformer.runs.saving import Checkpoints


class Resuming(Callback):
    """Lightning loads what has the right names and shapes: this callback refuses a checkpoint of another model first.

    Some strategies load weights and moments by themselves, into parts of them. So it checks before anything is loaded.
    """

    def __init__(self) -> None:
        self._path = Path()
        self._content: dict[str, Any] | None = None

    def read(self, trainer: L.Trainer, ckpt_path: str | None, name: str | None = None) -> Path | None:
        """Read the checkpoint that `ckpt_path` means: rank 0 finds it, and each rank reads it once.

        Args:
            trainer: Gets the content.
            ckpt_path: As in `find_start`.
            name: The run's, if the user has named it. `last` and `auto` then look in that run only.

        Returns:
            Its path, or None if training starts afresh.

        Raises:
            UserError: There is none, it is damaged or too old for the strategy, or a rank cannot read it. All ranks
                raise it.
        """
        root = Path(trainer.default_root_dir, name or "")
        for checkpoints in callbacks_of(trainer, Checkpoints):
            root = Path(checkpoints.dirpath or root)
        found = _find_on_all_ranks(trainer, ckpt_path, root)
        if found:
            self._path, self._content = found
        if found and reads_itself(trainer) and (written := on_all_ranks(lambda: written_format(found.path))) != FORMAT:
            raise UserError(
                f"{found.path} has format {written}, which this strategy reads by itself and does not know: resume "
                "without strategy for some steps, whose checkpoint has the new format"
            )
        trainer.strategy.checkpoint_io = WholeCheckpointIO(None if reads_itself(trainer) else self._content)
        return found.path if found else None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._content is None:
            return
        model = model_of(trainer)
        check_kind(self._content, model.kind)
        check_vocabularies(self._content, data_of(trainer).tokenizers)
        check_architecture(self._content, model.config)
        foreign = leave_out_foreign(self._content, model)
        if foreign and reads_itself(trainer):
            raise UserError(
                f"{self._path} also holds {owners_of(foreign)}, and this strategy reads the file by itself: resume "
                "with the callback that adds them, or without strategy"
            )
        if trainer.is_global_zero:
            note_foreign(self._path, foreign)
        new: Any = model.configure_optimizers()
        check_moments(self._content, new["optimizer"], own_parameters(model))
        if replay_other_schedule(self._content, new["lr_scheduler"]["scheduler"]) and reads_itself(trainer):
            raise UserError(
                f"{self._path} has another schedule, and this strategy reads the file by itself: keep the schedule, or "
                "resume without strategy"
            )
        self._content = None  # as large as the run's whole state


def reads_itself(trainer: L.Trainer) -> bool:
    """Return whether the strategy reads parts of the checkpoint's file by itself, after its setup."""
    return trainer.strategy.restore_checkpoint_after_setup


def find_start(ckpt_path: str | None, root: Path) -> FoundCheckpoint | None:
    """Find the checkpoint that `ckpt_path` means, if any. A note names each one that cannot be read.

    Args:
        ckpt_path: A file, or `last` or `auto`. `auto` accepts that there is none, but not that none can be read.
        root: Folder in which `last` and `auto` look.

    Raises:
        UserError: There is none, or it has no training state.
    """
    if ckpt_path is None:
        return None
    if ckpt_path not in SEARCHED:
        path = find_checkpoint(ckpt_path)
        found = FoundCheckpoint(path, read_checkpoint(path))
    else:
        newest, unreadable = newest_readable_checkpoint(root)
        for error in unreadable.values():
            print_note(f"passed over a checkpoint: {error}")
        if newest is None:
            if ckpt_path == "auto" and not unreadable:
                return None
            unread = f", and {len(unreadable)} that cannot be resumed from" if unreadable else ""
            remedy = "Leave ckpt_path out" if unreadable else "Leave ckpt_path out or give auto"
            raise UserError(
                f"ckpt_path is {ckpt_path}: there is no checkpoint to resume from below {root}{unread}. "
                f"{remedy} to start afresh"
            )
        found = newest
    if OPTIMIZER_ENTRY not in found.content:
        raise UserError(
            f"ckpt_path {found.path} has weights only: give the newest step-STEP.ckpt of a run, which has the training "
            "state, or begin a new run with these weights by init_from"
        )
    return found


def saved_on_exception(trainer: L.Trainer) -> str | None:
    """Return the checkpoint that `OnExceptionCheckpoint` has saved when the last start failed, if there is one.

    Lightning resumes from it by itself if `ckpt_path` is left out.
    """
    paths = [callback.ckpt_path for callback in callbacks_of(trainer, OnExceptionCheckpoint)]
    return next((path for path in paths if Path(path).exists()), None)


def continued_run(resumed: Path | None, ckpt_path: str | None) -> tuple[Path, int] | None:
    """Return the folder of the run that is continued, and the first step whose curves are drawn anew.

    Returns:
        None if a new run begins. It does if `ckpt_path` named the checkpoint's file.
    """
    if resumed is None or ckpt_path not in SEARCHED or resumed.parent.name != CHECKPOINTS_FOLDER:
        return None
    return resumed.parent.parent, (step_of(resumed) or 0) + 1


def _find_on_all_ranks(trainer: L.Trainer, ckpt_path: str | None, root: Path) -> FoundCheckpoint | None:
    found: FoundCheckpoint | None = None

    def find() -> Path | None:
        nonlocal found
        found = find_start(ckpt_path, root)
        return found.path if found else None

    path = on_rank_zero(find, is_rank_zero=trainer.is_global_zero)
    if path is None:
        return None
    return on_all_ranks(lambda: found or _read_as_rank(path, trainer.global_rank))


def _read_as_rank(path: Path, rank: int) -> FoundCheckpoint:
    try:
        return FoundCheckpoint(path, read_checkpoint(path))
    except UserError as error:
        raise UserError(
            f"rank {rank} cannot read {path}, which rank 0 resumes from: all nodes must share the folder "
            f"default_root_dir ({error})"
        ) from error
