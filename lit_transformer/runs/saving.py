"""Saving: when a checkpoint is written, where, and which are kept."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lit_transformer.batch import Batch
from lit_transformer.checkpoints.format import save_checkpoint
from lit_transformer.checkpoints.names import (
    CHECKPOINTS_FOLDER,
    best_path,
    interrupted_checkpoints,
    interrupted_path,
    regular_checkpoints,
    step_path,
)
from lit_transformer.checkpoints.plain_data import check_plain
from lit_transformer.data.accumulation import ends_step, validates_now
from lit_transformer.errors import UserError
from lit_transformer.files import expanded, remove_unfinished
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.ranks import on_all_ranks
from lit_transformer.runs.run_folder import run_folder


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's own can leave half a file on a full disk: this one writes a checkpoint whole or not at all.

    Args:
        content: A checkpoint that has been read already. The first `load_checkpoint` returns it.
    """

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._content = content
        self._failure: UserError | None = None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        content, self._content = self._content, None  # as large as the run's whole state
        return super().load_checkpoint(path, weights_only=weights_only) if content is None else content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        try:
            save_checkpoint(checkpoint, expanded(path))
        except UserError as error:
            # Rank 0 alone writes. The others wait at a barrier that it must reach before all of them raise this.
            self._failure = error

    def raise_failure(self) -> None:
        """Raise the UserError of the last save, if there was one."""
        if self._failure is not None:
            raise self._failure


class Checkpoints(CheckpointCallback):
    """The checkpoints of a run: the latest ones for averaging, and the best one.

    Lightning's `ModelCheckpoint` cannot keep both, nor save on request. The best one has the highest `val/selection`.
    All are in `checkpoints/` of the run's folder. There is always one of the last step.

    Args:
        every_n_steps: Optimizer steps between regular checkpoints. The paper's base model took 10 minutes for 1500.
        keep: Number of regular checkpoints to keep, the newest ones. The paper averages 5 of base and 20 of big.
    """

    def __init__(self, every_n_steps: int = 1500, keep: int = 5) -> None:
        if every_n_steps < 1 or keep < 1:
            raise UserError(f"every_n_steps is {every_n_steps} and keep is {keep}: both must be at least 1")
        self.every_n_steps = every_n_steps
        self.keep = keep
        self.best_selection = self.best_bleu = -math.inf
        self.best_step: int | None = None
        self.last_saved = Path()
        """The last checkpoint that was not written for its score."""
        self._due = False

    def state_dict(self) -> dict[str, Any]:
        return {"best_selection": self.best_selection, "best_bleu": self.best_bleu, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_bleu, self.best_step = state_dict["best_bleu"], state_dict["best_step"]
        # Older versions chose the best by BLEU alone. Below 1 that choice meant nothing.
        by_bleu = self.best_bleu if self.best_bleu >= 1.0 else -math.inf
        self.best_selection = state_dict.get("best_selection", by_bleu)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        check_states(trainer)
        folder = self._folder(trainer)
        if trainer.is_global_zero:
            # A killed process of this run may have left unfinished files, as large as checkpoints.
            for name in ("step-", "best-step-", "interrupted-step-"):
                remove_unfinished(folder, name)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if ends_step(trainer, batch) and trainer.global_step % self.every_n_steps == 0:
            self.request(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        if "val/selection" in metrics and float(metrics["val/selection"]) > self.best_selection:
            self.best_selection, self.best_bleu = float(metrics["val/selection"]), float(metrics["val/bleu"])
            self._save_best(trainer)
        if self._due:
            self._due = False
            self._save_requested(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer, step_path(self._folder(trainer), trainer.global_step))

    def request(self, trainer: L.Trainer) -> None:
        """Save this step. If a validation is due, save after it, because a resumed run would not repeat it."""
        self._due = validates_now(trainer)
        if not self._due:
            self._save_requested(trainer)

    def _save_best(self, trainer: L.Trainer) -> None:
        folder, former = self._folder(trainer), self.best_step
        self.best_step = trainer.global_step
        write(trainer, best_path(folder, self.best_step))
        if trainer.is_global_zero and former is not None and former != self.best_step:
            best_path(folder, former).unlink(missing_ok=True)

    def _save_requested(self, trainer: L.Trainer) -> None:
        regular = trainer.global_step % self.every_n_steps == 0
        path = step_path if regular else interrupted_path
        self._save(trainer, path(self._folder(trainer), trainer.global_step))

    def _save(self, trainer: L.Trainer, path: Path) -> None:
        # All ranks must decide alike. So they compare paths, and ignore the file, which rank 0 may be writing.
        if self.last_saved == path:
            return
        # A kill must not lose curves that the resumed run does not draw again.
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                with CURVES_MAY_FAIL:
                    logger.experiment.flush()
        write(trainer, path)
        self.last_saved = path
        if trainer.is_global_zero:
            former = [old for old in interrupted_checkpoints(path.parent) if old != path]
            for old in [*regular_checkpoints(path.parent)[: -self.keep], *former]:
                old.unlink(missing_ok=True)

    @staticmethod
    def _folder(trainer: L.Trainer) -> Path:
        return run_folder(trainer) / CHECKPOINTS_FOLDER


def check_states(trainer: L.Trainer) -> None:
    """Raise UserError on all ranks if a callback's state could not be read back from a checkpoint.

    Each save checks it again, but the first one may be hours away.
    """
    states = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set, but not declared
        with suppress(Exception):  # it may have no state before the first step
            states[callback.state_key] = callback.state_dict()
    on_all_ranks(lambda: check_plain({"callbacks": states}))


def write(trainer: L.Trainer, path: Path) -> None:
    """Write a checkpoint. All ranks must call it.

    Raises:
        UserError: Rank 0 cannot write it. All ranks raise it.
    """
    trainer.save_checkpoint(path)
    if isinstance(io := trainer.strategy.checkpoint_io, WholeCheckpointIO):
        on_all_ranks(io.raise_failure)
