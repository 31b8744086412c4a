"""Training (section 5): an optimizer step of any model that has `loss_sums(batch)`. It knows neither text nor runs."""

import math
import warnings
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lit_transformer.errors import UserError
from lit_transformer.training.loss import LossSums
from lit_transformer.training.metrics import loss_metrics
from lit_transformer.training.schedule import learning_rate


class LitModel(L.LightningModule):
    """The training recipe of section 5. A subclass defines the model and `loss_sums`.

    Batches have the fields `step`, `micro_batch`, `step_target_tokens` and `num_target_tokens` of `Batch`.

    Args:
        d_model: Width of the model. The learning rate depends on it (section 5.3).
        warmup_steps: Optimizer steps over which the learning rate rises.
        learning_rate_scale: Factor on the paper's learning rate.
        seed: Dropout is a function of the seed, the optimizer step, the micro-batch and the rank.
    """

    def __init__(self, *, d_model: int, warmup_steps: int, learning_rate_scale: float, seed: int) -> None:
        super().__init__()
        # Lightning 2.6 calls what torch 2.13 has renamed. Users can do nothing about it.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        if warmup_steps < 1:
            raise UserError(f"warmup_steps is {warmup_steps}: it must be at least 1")
        if not 0.0 < learning_rate_scale < math.inf:
            raise UserError(f"learning_rate_scale is {learning_rate_scale}: it must be above 0")
        self.d_model = d_model
        self.warmup_steps = warmup_steps
        self.learning_rate_scale = learning_rate_scale
        self.seed = seed
        self.val_losses = loss_metrics()

    def loss_sums(self, batch: Any) -> LossSums:
        """Return the losses of a micro-batch, summed over its target tokens."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the micro-batch's share of the step's mean loss per target token, and the sums for callbacks."""
        assert batch.step == self.trainer.global_step, "the data stream and the optimizer are at different steps"
        self._seed_dropout(batch.step, batch.micro_batch)
        sums = self.loss_sums(batch)
        # DDP averages gradients over ranks, and Lightning averages them over micro-batches. This factor undoes both,
        # so that every target token of the step has the same weight.
        shares = self.trainer.world_size * self.trainer.accumulate_grad_batches
        loss = sums.smoothed * (shares / batch.step_target_tokens)
        return {"loss": loss, "smoothed": sums.smoothed.detach(), "nll": sums.nll}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam (section 5.3) and a schedule that sets the learning rate at every optimizer step.

        Raises:
            UserError: The weights are float16, in which the squares of gradients are 0.
        """
        if self.dtype == torch.float16:
            raise UserError(
                "precision is 16-true, in which Adam's squared gradients are 0: give precision 16-mixed or bf16-true"
            )
        # Gradient clipping needs the gradients that mixed precision hides inside the fused step.
        fused = not self.trainer.gradient_clip_val
        optimizer = torch.optim.Adam(self.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9, fused=fused)
        schedule = LambdaLR(optimizer, self._learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the validation loss and perplexity."""
        sums = self.loss_sums(batch)
        if batch.num_target_tokens:  # a rank may get a batch without sentences
            self.val_losses.update(sums, batch.num_target_tokens)

    def on_validation_epoch_start(self) -> None:
        for metric in self.val_losses.values():  # bf16-true converts metrics, too
            metric.set_dtype(torch.promote_types(metric.dtype, torch.float32))

    def on_validation_epoch_end(self) -> None:
        # Callbacks log them, because Lightning's own logging is one step behind.
        self.log_dict(self.val_losses, logger=False)

    def _learning_rate(self, steps_done: int) -> float:
        return learning_rate(
            steps_done + 1, d_model=self.d_model, warmup_steps=self.warmup_steps, scale=self.learning_rate_scale
        )

    def _seed_dropout(self, step: int, micro_batch: int) -> None:
        """Seed this micro-batch's dropout, so that a resumed run repeats it."""
        place = (self.seed, step, micro_batch, self.global_rank)
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
        # The same streams as after `torch.manual_seed`. That function also seeds unused devices, which takes 0.1 to
        # 1 ms, because it records a stack trace for each of them.
        torch.default_generator.manual_seed(seed)
        device = self.trainer.strategy.root_device
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
