"""Saving: when a checkpoint is written, where, and which are kept."""

import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lit_transformer.checkpoints.format import remove_training_state
from lit_transformer.checkpoints.names import (
    BEST_NAME,
    INTERRUPTED,
    STEP_NAME,
    best_path,
    interrupted_path,
    regular_checkpoints,
    step_of,
)
from lit_transformer.checkpoints.plain_data import check_plain
from lit_transformer.notes import counted, print_note
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.parts import callbacks_of
from lit_transformer.runs.ranks import on_all_ranks, on_rank_zero
from lit_transformer.runs.whole_steps import RunCheckpoint

STEPS_BETWEEN = 1500
"""Optimizer steps between regular checkpoints. The paper's base model took 10 minutes for them."""


class BestCheckpoint(RunCheckpoint):
    """The best checkpoint, by default the one with the highest validation BLEU. It has the training state.

    Args:
        monitor: The value that selects it. `val/selection` is BLEU, or exp(-loss) as long as BLEU is below 1.
        mode: `max` if the highest value is the best, `min` if the lowest is.
        save_top_k: Number of checkpoints to keep, the best ones. -1 keeps all.
        save_weights_only: Leave out the training state, so that no run can be resumed from it.
        dirpath: Folder of the checkpoints. By default, it is `checkpoints` in the run's folder.
        filename: Name of the files without `.ckpt`. It must begin with `best` and contain `{step}`.
        save_last: Also write each checkpoint as `last.ckpt`. `link` makes a link instead.
        every_n_train_steps: Optimizer steps between comparisons. By default, they follow each validation.
        every_n_epochs: Epochs between comparisons.
        train_time_interval: Time between comparisons, as HH:MM:SS or DD:HH:MM:SS.
    """

    default_name = BEST_NAME

    def __init__(
        self,
        monitor: str = "val/selection",
        mode: Literal["min", "max"] = "max",
        save_top_k: int = 1,
        save_weights_only: bool = False,
        dirpath: str | None = None,
        filename: str = BEST_NAME,
        save_last: bool | Literal["link"] | None = None,
        every_n_train_steps: int | None = None,
        every_n_epochs: int | None = None,
        train_time_interval: str | timedelta | None = None,
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            save_last=save_last,
            save_weights_only=save_weights_only,
            every_n_train_steps=every_n_train_steps,
            every_n_epochs=every_n_epochs,
            train_time_interval=train_time_interval,
        )

    @property
    def state_key(self) -> str:
        return "best_checkpoint"  # the section, because Lightning's key changes with the intervals

    @property
    def best_step(self) -> int | None:
        """The optimizer step of the best checkpoint."""
        return step_of(Path(self.best_model_path))

    def _known_scores(self) -> Mapping[str, Tensor]:
        if self._former is None or "best_step" not in self._former:
            return super()._known_scores()
        # The state of version 0.1. There, `best_selection` may be missing, because BLEU alone chose the best. Below 1
        # that choice meant nothing.
        bleu, step = self._former["best_bleu"], self._former["best_step"]
        score = self._former.get("best_selection", bleu if bleu >= 1.0 else -math.inf)
        return {} if step is None else {best_path(Path(), step).name: torch.tensor(score)}


class Checkpoints(RunCheckpoint):
    """The latest checkpoints, for averaging and resuming.

    There is always one of the last step. A signal saves one more.

    Args:
        monitor: The value that selects the checkpoints to keep. `step` keeps the latest ones.
        mode: `max` if the highest values are kept, `min` if the lowest are.
        save_top_k: Number of checkpoints to keep. The paper averages 5 of base and 20 of big. -1 keeps all.
        save_weights_only: Remove the training state from a checkpoint when the next one is saved. Averaging needs the
            weights alone, which take a third of the space. The newest checkpoint always has the training state.
        dirpath: Folder of the checkpoints. By default, it is `checkpoints` in the run's folder.
        filename: Name of the files without `.ckpt`. It must contain `{step}`.
        save_last: Also write each checkpoint as `last.ckpt`. `link` makes a link instead.
        every_n_train_steps: Optimizer steps between checkpoints. The paper's base model took 10 minutes for 1500.
        every_n_epochs: Epochs between checkpoints, in place of steps.
        train_time_interval: Time between checkpoints, as HH:MM:SS or DD:HH:MM:SS, in place of steps.
    """

    default_name = STEP_NAME

    def __init__(
        self,
        monitor: str = "step",
        mode: Literal["min", "max"] = "max",
        save_top_k: int = 5,
        save_weights_only: bool = True,
        dirpath: str | None = None,
        filename: str = STEP_NAME,
        save_last: bool | Literal["link"] | None = None,
        every_n_train_steps: int | None = STEPS_BETWEEN,
        every_n_epochs: int | None = None,
        train_time_interval: str | timedelta | None = None,
    ) -> None:
        if every_n_train_steps == STEPS_BETWEEN and (every_n_epochs or train_time_interval):
            every_n_train_steps = None  # the other interval replaces the default
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            save_last=save_last,
            save_weights_only=False,
            every_n_train_steps=every_n_train_steps,
            every_n_epochs=every_n_epochs,
            train_time_interval=train_time_interval,
        )
        self.older_weights_only = save_weights_only
        """Whether only the newest checkpoint has the training state."""
        self.every_n_train_steps = every_n_train_steps
        self._requested = False

    @property
    def state_key(self) -> str:
        return "checkpoints"  # the section, because Lightning's key changes with the intervals

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        check_states(trainer)
        super().on_train_start(trainer, pl_module)
        resumed = Path(trainer.ckpt_path or "")
        if resumed.parent == self._folder and resumed.name.startswith(INTERRUPTED):
            self.last_saved = resumed

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # A kill must not lose curves that the resumed run does not draw again.
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                with CURVES_MAY_FAIL:
                    logger.experiment.flush()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self.save_last_step(trainer)

    def save_last_step(self, trainer: L.Trainer) -> None:
        """Save the step that training has ended with. Does nothing if it was saved."""
        if self.save_top_k != 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined] # set, but not declared
            self.save_now(trainer)
            self._save_unless_saved(trainer)

    def request(self) -> None:
        """Save this step when it ends, after its validation."""
        self._requested = True

    def on_saved(self, trainer: L.Trainer, path: Path) -> None:
        former = self.last_saved
        super().on_saved(trainer, path)
        if trainer.is_global_zero and former and former.name.startswith(INTERRUPTED) and former != path:
            former.unlink(missing_ok=True)
        if self.older_weights_only and str(path) in self.best_k_models:
            older = [Path(other) for other in self.best_k_models if other != str(path)]
            on_rank_zero(lambda: [*map(remove_training_state, older)], is_rank_zero=trainer.is_global_zero)

    def _save_if_due(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        ended = self._step_ended
        super()._save_if_due(trainer, pl_module)
        if ended and self._requested:
            self._requested = False
            self._save_unless_saved(trainer)

    def _save_unless_saved(self, trainer: L.Trainer) -> None:
        if self.saved_step != trainer.global_step:
            path = interrupted_path(self._folder, trainer.global_step)
            trainer.save_checkpoint(path)
            self.on_saved(trainer, path)

    def _former_scores(self, trainer: L.Trainer) -> Mapping[str, Tensor]:
        if not self.owns_folder or self.monitor != "step" or not self._folder.exists():
            return super()._former_scores(trainer)
        # Version 0.1 kept no list, and a process that was killed may have left one file too many. Later files are those
        # of steps that the run takes again.
        steps = {path.name: step_of(path) or 0 for path in regular_checkpoints(self._folder)}
        scores = {name: torch.tensor(step) for name, step in steps.items() if step <= trainer.global_step}
        if self._former is None and len(scores) > 1 and self.older_weights_only and trainer.is_global_zero:
            print_note(
                f"when the next checkpoint is saved, {counted(len(scores), 'checkpoint')} of version 0.1 will keep "
                "only the weights (checkpoints.save_weights_only false keeps the training state)"
            )
        return scores


class LastStep(Callback):
    """`WeightAveraging` replaces the trained weights when training ends: this callback, the first, saves before."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for checkpoints in callbacks_of(trainer, Checkpoints):
            checkpoints.save_last_step(trainer)


def check_states(trainer: L.Trainer) -> None:
    """Raise UserError on all ranks if a callback's state could not be read back from a checkpoint.

    Each save checks it again, but the first one may be hours away.
    """
    states = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set, but not declared
        with suppress(Exception):  # it may have no state before the first step
            states[callback.state_key] = callback.state_dict()
    on_all_ranks(lambda: check_plain({"callbacks": states}))
