"""Checkpoints of whole steps: what both kinds of a run's checkpoints have in common."""

import re
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lit_transformer.batch import Batch
from lit_transformer.checkpoints.names import BEST_NAME, CHECKPOINTS_FOLDER, INTERRUPTED, step_of
from lit_transformer.data.accumulation import ends_step, validates_now
from lit_transformer.errors import UserError
from lit_transformer.files import UNFINISHED, expanded
from lit_transformer.runs.checkpoint_io import WholeCheckpointIO
from lit_transformer.runs.private_names import SavingCheckpoint
from lit_transformer.runs.ranks import gather, on_all_ranks
from lit_transformer.runs.run_folder import run_folder


class RunCheckpoint(SavingCheckpoint):
    """Lightning's `ModelCheckpoint` saves inside an optimizer step, and before the validation of the same step.

    A resumed run would not repeat that validation. So this one saves whole steps, after their validation. It also keeps
    its scores when the run's folder is moved.
    """

    default_name: str
    """The name of its files without `.ckpt`, unless the user gives another one."""
    last_saved: Path | None = None
    """The last checkpoint that it has saved."""
    saved_step = 0
    owns_folder = False
    """Whether the folder is that of the run, so that no other run saves there."""
    _step_ended = False
    _former: Mapping[str, Any] | None = None
    """The state that was loaded."""

    def __init__(
        self,
        *,
        dirpath: str | None,
        filename: str,
        monitor: str,
        mode: Literal["min", "max"],
        save_top_k: int,
        save_last: bool | Literal["link"] | None,
        save_weights_only: bool,
        every_n_train_steps: int | None,
        every_n_epochs: int | None,
        train_time_interval: str | timedelta | None,
    ) -> None:
        is_best = self.default_name == BEST_NAME
        super().__init__(
            dirpath=None if dirpath is None else expanded(dirpath),
            filename=filename,
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            save_last=save_last,
            save_weights_only=save_weights_only,
            auto_insert_metric_name=filename != self.default_name,
            every_n_train_steps=every_n_train_steps,
            every_n_epochs=every_n_epochs,
            train_time_interval=to_timedelta(train_time_interval),
            save_on_train_epoch_end=not is_best,  # the score of the best one is that of a validation
            enable_version_counter=dirpath is not None,
        )
        check_file_name(self, best=is_best)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        with warnings.catch_warnings():
            if self.dirpath is None:
                self.owns_folder = True
                self.dirpath = str(run_folder(trainer) / CHECKPOINTS_FOLDER)
                # A run that is resumed has checkpoints.
                warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._former = state_dict
        if state_dict.get("last_model_path"):
            self.last_model_path = str(self._folder / Path(state_dict["last_model_path"]).name)
        # A start that has no step left to take must know the best one, too.
        scores = self._known_scores()
        for best in self._existing(scores)[:1]:
            self.best_model_path, self.best_model_score = str(self._folder / best), scores[best]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._take_over(trainer, self._former_scores(trainer))
        if trainer.is_global_zero:
            # A killed process of this run may have left unfinished files, as large as checkpoints.
            for path in self._folder.glob(f"*.ckpt.*{UNFINISHED}"):
                path.unlink(missing_ok=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._step_ended = ends_step(trainer, batch)
        # The last step of a run is validated, too. If the run goes on all the same, the next step begins first.
        if not (validates_now(trainer) or trainer.should_stop):
            self._save_if_due(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._save_if_due(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_if_due(trainer, pl_module)
        super().on_validation_end(trainer, pl_module)

    def on_saved(self, trainer: L.Trainer, path: Path) -> None:
        if isinstance(io := trainer.strategy.checkpoint_io, WholeCheckpointIO):
            on_all_ranks(io.raise_failure)
        self.last_saved, self.saved_step = path, trainer.global_step

    def _save_if_due(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._step_ended:
            self._step_ended = False
            super().on_train_batch_end(trainer, pl_module, None, None, 0)

    def _former_scores(self, trainer: L.Trainer) -> Mapping[str, Tensor]:
        """The scores of the checkpoints of the run that is continued, by file name."""
        return self._known_scores()

    def _known_scores(self) -> Mapping[str, Tensor]:
        """The scores of the checkpoints that the loaded state knows, by file name."""
        if self._former is None or self._former["monitor"] != self.monitor:
            return {}
        return {Path(path).name: score for path, score in self._former["best_k_models"].items()}

    def _take_over(self, trainer: L.Trainer, scores: Mapping[str, Tensor]) -> None:
        """Go on with the checkpoints that are in the folder. Lightning forgets all of them if the folder was moved."""
        names = self._existing(scores)
        kept = names if self.save_top_k < 1 else names[: self.save_top_k]
        self.best_k_models = {str(self._folder / name): scores[name] for name in kept}
        for name in names[len(kept) :]:  # save_top_k is lower than it was
            trainer.strategy.remove_checkpoint(self._folder / name)
        if kept:
            paths = list(self.best_k_models)
            self.best_model_path, self.best_model_score = paths[0], scores[kept[0]]
            self.kth_best_model_path, self.kth_value = paths[-1], scores[kept[-1]]

    def _existing(self, scores: Mapping[str, Tensor]) -> list[str]:
        """The names of the files that rank 0 finds, the best first."""
        names = gather([name for name in scores if (self._folder / name).is_file()])[0]
        return sorted(names, key=lambda name: float(scores[name]), reverse=self.mode == "max")

    @property
    def _folder(self) -> Path:
        assert self.dirpath is not None
        return Path(self.dirpath)


def check_file_name(callback: ModelCheckpoint, *, best: bool) -> None:
    """Raise UserError unless the names of checkpoints show their step and their kind.

    Raises:
        UserError: A run with such names would not be found again.
    """
    name = Path(callback.format_checkpoint_name({})).name
    if step_of(Path(name)) is None or name.startswith("best") != best or name.startswith(INTERRUPTED):
        begins = "begin with best" if best else f"not begin with best or {INTERRUPTED}"
        raise UserError(f"filename is {callback.filename}: it must {begins}, and contain {{step}}")


def to_timedelta(interval: str | timedelta | None) -> timedelta | None:
    """Read a time of the form HH:MM:SS or DD:HH:MM:SS.

    Raises:
        UserError: It has another form.
    """
    if not isinstance(interval, str):
        return interval
    match = re.fullmatch(r"(?:(?:(\d+):| *(\d+) days?, *))?(\d+):(\d+):(\d+)", interval.strip())
    if match is None:
        raise UserError(f"train_time_interval is {interval}: it must have the form HH:MM:SS or DD:HH:MM:SS")
    days, spelled, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days + spelled, hours=hours, minutes=minutes, seconds=seconds)
