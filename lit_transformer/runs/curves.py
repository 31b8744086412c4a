"""Curves: loss, speed and validation scores, printed and drawn by the loggers.

Legend: B batch, S source length, T target length.
"""

import math
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim import Optimizer

from lit_transformer.batch import Batch
from lit_transformer.data.accumulation import ends_step
from lit_transformer.notes import counted
from lit_transformer.runs.advice import find_warnings
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.divergence import Divergence
from lit_transformer.runs.forecast import forecast_batches
from lit_transformer.runs.limits import TimeLimit
from lit_transformer.runs.parts import callback_of, callbacks_of, data_of, model_of
from lit_transformer.runs.ranks import gather
from lit_transformer.training.metrics import PREFIX
from lit_transformer.training.translation import Sample, first_samples

UNREPORTED = "Progress"
"""Checkpoint entry with the losses since the last report. The name is that of format 1."""


class Curves(Callback):
    """Lightning's own logging makes a step wait for the device and counts micro-batches: these curves do neither.

    Values are read every `trainer.log_every_n_steps` optimizer steps. Steps are updates of the weights, as in the
    paper.
    """

    def __init__(self) -> None:
        self._every_n_steps = 1
        self._source_tokens = self._target_tokens = self._positions = 0
        self._begin = self._waited = self._paused = 0.0
        self._first_step = 0
        self._learning_rate = 0.0
        # Smoothed loss and negative log-likelihood since the last report, on the device, so that no step waits for it.
        self._losses = torch.zeros(2)
        # These two losses and the target tokens that an interrupted run had not reported yet, from its checkpoint.
        self._carried = [0.0, 0.0, 0.0]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        smoothed, nll, _, target_tokens, _ = self._sums(trainer)
        checkpoint[UNREPORTED] = [sum(pair) for pair in zip(self._carried, (smoothed, nll, target_tokens), strict=True)]

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._carried = checkpoint[UNREPORTED]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._losses = torch.zeros(2, device=trainer.strategy.root_device)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._every_n_steps = trainer.log_every_n_steps  # type: ignore[attr-defined] # set, but not declared
        if trainer.is_global_zero:
            self._print_start(trainer)
        self._restart(trainer)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        if (trainer.global_step + 1) % self._every_n_steps == 0:
            # After the step it is already the rate of the next one.
            self._learning_rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._losses = self._losses + torch.stack([outputs["smoothed"], outputs["nll"]])
        self._source_tokens += batch.num_source_tokens
        self._target_tokens += batch.num_target_tokens
        self._positions += batch.source_BS.numel() + batch.target_output_BT.numel()
        if ends_step(trainer, batch) and trainer.global_step % self._every_n_steps == 0:
            self._report(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Rates are those of training without validation.
        self._begin += time.perf_counter() - self._paused
        model = model_of(trainer)
        samples = first_samples(chain.from_iterable(gather(model.samples)))
        distinct = set(chain.from_iterable(gather(model.distinct)))
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(PREFIX)}
        if not trainer.is_global_zero or not metrics:
            return
        if trainer.logger is not None:
            trainer.logger.log_metrics(metrics, step=trainer.global_step)
        scores = "".join(
            f"  {getattr(metric, 'label', name)} {metrics[PREFIX + name]:.2f}"
            for name, metric in model.val_scores.items(keep_base=True)
        )
        print(
            f"step {trainer.global_step:>7,}  validation loss {metrics['val/loss']:.3f}  "
            f"perplexity {metrics['val/perplexity']:.2f}{scores}"
        )
        if len(distinct) == 1 and len(samples) > 1:
            print(
                "warning: all translations of this validation are the same. If this stays so, raise warmup_steps or "
                "lower learning_rate_scale"
            )
        for sample in samples:
            print(f"    {sample.source}\n      -> {sample.translation}\n      reference: {sample.reference}")
        self._log_samples(trainer, samples)

    def _report(self, trainer: L.Trainer) -> None:
        divergence = callback_of(trainer, Divergence)
        divergence.check_gradients(trainer)
        seconds = time.perf_counter() - self._begin
        waited = trainer.train_dataloader.wait_seconds - self._waited  # type: ignore[union-attr]
        smoothed, nll, source_tokens, target_tokens, positions = self._sums(trainer)
        all_tokens = self._carried[2] + target_tokens
        values = {
            "train/loss": (self._carried[0] + smoothed) / all_tokens,
            "train/perplexity": math.exp(min((self._carried[1] + nll) / all_tokens, 700.0)),
            "train/gradient_norm": float(divergence.gradient_norm),
            "train/learning_rate": self._learning_rate,
            "train/source_tokens_per_second": source_tokens / seconds,
            "train/target_tokens_per_second": target_tokens / seconds,
            "train/padding_share": 1.0 - (source_tokens + target_tokens) / positions,
            "train/data_wait_share": waited / seconds,
        }
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            values["train/skipped_steps"] = float(divergence.skipped_steps)
        if trainer.logger is not None:
            trainer.logger.log_metrics(values, step=trainer.global_step)
        if trainer.is_global_zero:
            self._print(trainer, values, seconds)
        self._carried = [0.0, 0.0, 0.0]
        divergence.check_loss(values["train/loss"], trainer.global_step)
        self._restart(trainer)

    def _sums(self, trainer: L.Trainer) -> list[float]:
        """Return the sums since the last report over all ranks.

        Returns:
            Smoothed loss, negative log-likelihood, source tokens, target tokens, positions.
        """
        # Reduced in float32 and integers, because not every device has float64. Copied, because `reduce` is in place.
        losses = self._losses.clone()
        counts = torch.tensor([self._source_tokens, self._target_tokens, self._positions], device=losses.device)
        return [
            *trainer.strategy.reduce(losses, reduce_op="sum").tolist(),
            *trainer.strategy.reduce(counts, reduce_op="sum").tolist(),
        ]

    def _print_start(self, trainer: L.Trainer) -> None:
        data, accumulation = data_of(trainer), trainer.accumulate_grad_batches
        print(f"{data.summary}, {counted(accumulation, 'micro-batch', 'micro-batches')} per step", flush=True)
        batches = forecast_batches(data.plan, accumulation=accumulation, world_size=trainer.world_size)
        for warning in find_warnings(trainer, model_of(trainer), data, batches, devices=trainer.world_size):
            print(f"warning: {warning}", flush=True)

    def _seconds_left(self, trainer: L.Trainer, seconds: float) -> float | None:
        """Return the time to the limit that ends the run first, or None without a limit.

        Args:
            trainer: Has the limits.
            seconds: Training time since the last report.
        """
        left = [timer.time_remaining() for timer in callbacks_of(trainer, TimeLimit)]
        if trainer.max_steps > 0:
            left.append((trainer.max_steps - trainer.global_step) * seconds / (trainer.global_step - self._first_step))
        return min((limit for limit in left if limit is not None), default=None)

    def _print(self, trainer: L.Trainer, values: Mapping[str, float], seconds: float) -> None:
        left = self._seconds_left(trainer, seconds)
        total = f"/{trainer.max_steps:,}" if trainer.max_steps > 0 else ""
        print(
            f"step {trainer.global_step:>7,}{total}  loss {values['train/loss']:.3f}  "
            f"perplexity {values['train/perplexity']:.2f}  "
            f"{values['train/target_tokens_per_second']:,.0f} target tokens/s  "
            f"data wait {values['train/data_wait_share']:.1%}" + ("" if left is None else f"  {_duration(left)} left"),
            flush=True,
        )

    @CURVES_MAY_FAIL
    def _log_samples(self, trainer: L.Trainer, samples: Sequence[Sample]) -> None:
        if isinstance(trainer.logger, TensorBoardLogger):
            text = "\n\n".join(
                f"**{_escape(s.source)}**\n\n{_escape(s.translation)}\n\n*{_escape(s.reference)}*" for s in samples
            )
            trainer.logger.experiment.add_text("val/translations", text, trainer.global_step)

    def _restart(self, trainer: L.Trainer) -> None:
        self._source_tokens = self._target_tokens = self._positions = 0
        self._losses.zero_()
        self._first_step = trainer.global_step
        self._begin = time.perf_counter()
        self._waited = trainer.train_dataloader.wait_seconds  # type: ignore[union-attr]


def _escape(text: str) -> str:
    """Escape what Markdown would interpret."""
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>()#+-.!|" else character for character in text)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
