"""Training (section 5): an optimizer step of any model that has `loss_sums(batch)`. It knows neither text nor runs."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion, OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric, MetricCollection

from lit_transformer.errors import UserError
from lit_transformer.training.described_model import DescribedModel
from lit_transformer.training.loss import LossSums
from lit_transformer.training.meter import TRAIN_CURVES, Meter
from lit_transformer.training.metrics import SELECTION, loss_metrics, selection_score
from lit_transformer.training.optimizer import last_step, make_optimizer, make_schedule, monitor_of
from lit_transformer.training.samples import Sample
from lit_transformer.training.schedule import ENDING, Rates, ScheduleName

UNREPORTED = "Progress"
"""Checkpoint entry with the losses since the last report. The name is that of format 1."""
ON_BAR = ("train/loss", "val/loss", "val/bleu")
"""Values that progress bars show."""


class LitModel(DescribedModel):
    """The training recipe of section 5. A subclass defines the model and `loss_sums`.

    Batches have the numbers of `Batch`. Every `trainer.log_every_n_steps` optimizer steps, the values of `meter` go to
    the loggers, the progress bar and the callbacks. Those of validation do after each validation. If
    `step_target_tokens` is 0, no plan has made the steps, and a step averages over its micro-batches.

    Args:
        d_model: Width of the model. The learning rate depends on it (section 5.3).
        warmup_steps: Optimizer steps over which the learning rate rises.
        learning_rate_scale: Factor on the paper's learning rate.
        seed: Dropout is a function of the seed, the optimizer step, the micro-batch and the rank.
        optimizer: From the parameters to an optimizer. None is Adam with the paper's settings.
        learning_rate: The peak rate. None is the paper's rate.
        schedule: The course of the learning rate, by name, or from the optimizer to a scheduler of torch.
    """

    def __init__(
        self,
        *,
        d_model: int,
        warmup_steps: int,
        learning_rate_scale: float,
        seed: int,
        optimizer: OptimizerCallable | None,
        learning_rate: float | None,
        schedule: ScheduleName | LRSchedulerCallable,
    ) -> None:
        super().__init__()
        # Lightning 2.6 calls what torch 2.13 has renamed. Users can do nothing about it.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        if isinstance(schedule, str) and schedule not in get_args(ScheduleName):
            names = ", ".join(get_args(ScheduleName))
            raise UserError(f"schedule is {schedule!r}: choose one of {names}, or a scheduler of torch")
        self.rates = Rates(
            d_model=d_model,
            warmup_steps=warmup_steps,
            learning_rate_scale=learning_rate_scale,
            learning_rate=learning_rate,
        )
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.val_losses = loss_metrics()
        self.val_scores = MetricCollection({})
        """More that validation measures."""
        self.samples: list[Sample] = []
        """The first sentences of this rank's last validation."""
        self.distinct: list[str] = []
        """Two different translations of this rank's last validation, or one if all are the same."""
        self.meter = Meter()
        self._first_step = 0

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The values that this model can report, which callbacks can monitor."""
        return (*TRAIN_CURVES, *self.val_losses, *self.val_scores, SELECTION)

    def setup(self, stage: str) -> None:
        self.meter = Meter()

    def loss_sums(self, batch: Any) -> LossSums:
        """Return the losses of a micro-batch, summed over its target tokens."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the micro-batch's share of the step's mean loss per target token."""
        trainer, is_planned = self.trainer, batch.step_target_tokens > 0
        assert batch.step == trainer.global_step or not is_planned, "data stream and optimizer are at different steps"
        micro_batch = batch.micro_batch if is_planned else batch_idx % trainer.accumulate_grad_batches
        self._seed_dropout(trainer.global_step, micro_batch)
        sums = self.loss_sums(batch)
        self.meter.add(sums, batch)
        if not is_planned:
            return sums.smoothed / max(batch.num_target_tokens, 1)
        # DDP averages gradients over ranks, and Lightning averages them over micro-batches. This factor undoes both,
        # so that every target token of the step has the same weight.
        shares = trainer.world_size * trainer.accumulate_grad_batches
        return sums.smoothed * (shares / batch.step_target_tokens)

    def on_train_start(self) -> None:
        self._first_step = self.global_step
        self.meter.restart_clock(self.trainer)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Report the step that is about to end, if it is due. All its values are known here, before any callback saves.

        The first step of a start is reported to the bar and to callbacks only, so that they always find the names.
        """
        self.meter.end_step(self.trainer, optimizer)
        step = self.global_step + 1
        if self.is_reported(step):
            values = self.meter.values(self.trainer)
            self._log_on_host(values)
            self._write(values, step)
            self.meter.restart(self.trainer)
        elif self.global_step == self._first_step:
            self._log_on_host(self.meter.values(self.trainer))

    def is_reported(self, step: int) -> bool:
        """Return whether the training curves have a point at an optimizer step, counted from 1."""
        trainer: Any = self.trainer  # does not declare these
        # `barebones` sets the interval to 0.
        return bool(trainer.fast_dev_run or (trainer.log_every_n_steps and step % trainer.log_every_n_steps == 0))

    def on_train_epoch_end(self) -> None:
        self._show_steps_since_report()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer, and the schedule that sets the learning rate at every optimizer step.

        Raises:
            UserError: The weights are float16, in which the squares of gradients are 0. Or the settings of the
                optimizer or the schedule cannot be used.
        """
        if self.dtype == torch.float16:
            raise UserError(
                "precision is 16-true, in which Adam's squared gradients are 0: give precision 16-mixed or bf16-true"
            )
        clips = bool(self.trainer.gradient_clip_val)
        optimizer = make_optimizer(self.optimizer, self, peak=self.rates.peak, clips=clips)
        for group in optimizer.param_groups:  # schedules multiply it
            group["lr"] = 1.0 if isinstance(self.schedule, str) else self.rates.peak
        if isinstance(self.schedule, str):
            schedule: LRScheduler = LambdaLR(optimizer, self._learning_rate)
        else:
            schedule = make_schedule(self.schedule, optimizer, self.metric_names)
        # Lightning would step a `ReduceLROnPlateau` after the checkpoint of the validation is saved. So this model does
        # it, in `on_validation_epoch_end`.
        config: Any = {"scheduler": schedule, "interval": "step", "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the validation loss and perplexity."""
        sums = self.loss_sums(batch)
        if batch.num_target_tokens:  # a rank may get a batch without sentences
            self.val_losses.update(sums, batch.num_target_tokens)

    @property
    def selection(self) -> float:
        """The value that selects the best checkpoint, the highest: exp(-loss), unless a subclass measures more."""
        return selection_score(bleu=0.0, loss=float(self.val_losses["loss"].compute()))

    def validation_values(self) -> dict[str, Metric | float]:
        """Return what the validation that ends has measured, by the names of the curves."""
        scores = {name: score for name, score in self.val_scores.items(copy_state=False) if score.update_called}
        return {**dict(self.val_losses.items(copy_state=False)), **scores, SELECTION: self.selection}

    def on_validation_start(self) -> None:
        self.meter.pause()

    def on_validation_end(self) -> None:
        self.meter.resume()

    def on_validation_epoch_start(self) -> None:
        for metric in self.val_losses.values():  # bf16-true converts metrics, too
            metric.set_dtype(torch.promote_types(metric.dtype, torch.float32))

    def on_validation_epoch_end(self) -> None:
        """Report the validation.

        In `fit`, `self.log` does not write to loggers. It would put validation under the step before, and a value named
        `step`, which corrects that, would become the `step` that `ModelCheckpoint` monitors.
        """
        fitting = self.trainer.state.fn == "fit"
        values = self.validation_values()
        if not self.trainer.barebones:
            for name, value in values.items():
                self.log(name, value, prog_bar=name in ON_BAR, logger=False if fitting else None, sync_dist=True)
        if fitting and not self.trainer.sanity_checking:
            numbers = {n: float(v.compute() if isinstance(v, Metric) else v) for n, v in values.items()}
            self._write(numbers, self.global_step)
            self._show_steps_since_report()
            measured: dict[str, Any] = {**self.trainer.callback_metrics, **numbers}
            for config in self.trainer.lr_scheduler_configs:
                if isinstance(config.scheduler, ReduceLROnPlateau):
                    config.scheduler.step(float(measured[monitor_of(config.scheduler)]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[UNREPORTED] = self.meter.state(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.meter.load_state(checkpoint.get(UNREPORTED, [0.0, 0.0, 0.0]))

    def _log_on_host(self, values: Mapping[str, float]) -> None:
        """Log values for the bar and callbacks.

        Lightning reads what is on the bar at every micro-batch. It would wait for the device if they were there.
        """
        if not self.trainer.barebones:
            for name, value in values.items():
                self.log(name, torch.tensor(value, dtype=torch.float32), prog_bar=name in ON_BAR, logger=False)

    def _write(self, values: Mapping[str, float], step: int) -> None:
        """Write values to all loggers."""
        self.trainer.logged_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        for logger in self.trainer.loggers:
            logger.log_metrics(dict(values), step=step)
            logger.save()

    def _show_steps_since_report(self) -> None:
        """Show callbacks that decide now the steps since the last report."""
        if self.meter.num_steps and not self.trainer.barebones:
            values = self.meter.values(self.trainer)
            self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})

    def _learning_rate(self, steps_done: int) -> float:
        assert isinstance(self.schedule, str)
        end = last_step(self.trainer, self.schedule) if self.schedule in ENDING else math.inf
        return self.rates.at(steps_done + 1, self.schedule, last_step=end)

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
