"""Divergence: a run that can no longer improve ends with a message, and what it saved before stays whole."""

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from lit_transformer.batch import Batch
from lit_transformer.data.accumulation import ends_step
from lit_transformer.errors import UserError
from lit_transformer.runs.parts import data_of, model_of

MAX_SKIPPED_IN_A_ROW = 100
"""A float16 run lowers its loss scale by skipping steps, a few at a time. This many show that no scale works."""
DIVERGED_BY = 1.0
DIVERGED_REPORTS = 20
"""A run has diverged if this many reports in a row have a loss per token this far above the lowest one. A warm-up that
fails jumps by several nats and does not come back. Noise between reports is hundredths."""
REMEDY = "with a lower learning_rate or a higher warmup_steps"


class Divergence(Callback):
    """Lightning trains on with gradients that are not finite: this callback ends the run and names the step.

    It also ends a run whose loss stays high. The statistics stay on the device, so that no step waits for them.
    """

    def __init__(self) -> None:
        # An error before `on_fit_start` may save a checkpoint, too.
        self._broken_step = torch.tensor(-1)
        """The step that broke the run, counted from 0. -1 if there is none."""
        self._bad_in_a_row = torch.tensor(0)
        self._lowest_loss = math.inf
        self._reports_above = 0

    @property
    def state_key(self) -> str:
        return "Progress"  # the callback that had this state in format 1

    def state_dict(self) -> dict[str, Any]:
        return {"lowest_loss": self._lowest_loss, "reports_above": self._reports_above}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._lowest_loss, self._reports_above = state_dict["lowest_loss"], state_dict["reports_above"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        device = trainer.strategy.root_device
        self._broken_step = torch.tensor(-1, device=device)
        self._bad_in_a_row = torch.tensor(0, device=device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if not ends_step(trainer, batch):
            return
        model = model_of(trainer)
        # A loss that is not finite has gradients that are not finite, too.
        bad = ~model.meter.gradient_norm.isfinite()
        self._bad_in_a_row = torch.where(bad, self._bad_in_a_row + 1, 0)
        skips = getattr(trainer.precision_plugin, "scaler", None) is not None
        broken = (self._broken_step < 0) & (self._bad_in_a_row >= (MAX_SKIPPED_IN_A_ROW if skips else 1))
        self._broken_step = torch.where(broken, trainer.global_step - 1, self._broken_step)
        if model.is_reported(trainer.global_step):
            self.check_gradients(trainer)
            self.check_loss(float(trainer.callback_metrics["train/loss"]), trainer.global_step)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.check_gradients(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.check_gradients(trainer)

    def check_gradients(self, trainer: L.Trainer) -> None:
        """Check the steps since the last call. All ranks must call it.

        Raises:
            UserError: A step had gradients that are not finite.
        """
        step = int(trainer.strategy.reduce(self._broken_step, reduce_op="max"))
        if step >= 0:
            raise UserError(
                f"training has diverged: the gradients of step {step + 1} are not finite. The run was stopped. "
                f"Resume from an earlier checkpoint (ckpt_path) {REMEDY}. The step had "
                f"{data_of(trainer).describe_step(step)}"
            )

    def check_loss(self, loss: float, step: int) -> None:
        """Add the loss that was reported at a step.

        Raises:
            UserError: The loss has been far above its lowest for `DIVERGED_REPORTS` reports.
        """
        self._lowest_loss = min(self._lowest_loss, loss)
        self._reports_above = self._reports_above + 1 if loss > self._lowest_loss + DIVERGED_BY else 0
        if self._reports_above == DIVERGED_REPORTS:
            raise UserError(
                f"training has diverged: at step {step} the loss has been more than {DIVERGED_BY:g} above its lowest, "
                f"{self._lowest_loss:.3f}, for {DIVERGED_REPORTS} reports. Resume from an earlier checkpoint that "
                f"has the training state, such as the best one (ckpt_path), {REMEDY}"
            )
