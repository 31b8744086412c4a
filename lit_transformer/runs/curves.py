"""Curves: loss, speed and validation scores, printed and in TensorBoard, and a watch on divergence."""

import math
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim import Optimizer

from lit_transformer.batch import Batch
from lit_transformer.errors import UserError
from lit_transformer.runs.dispensable import CURVES
from lit_transformer.runs.saving import ends_step
from lit_transformer.training.translation import LitTransformer

DIVERGED_BY = 1.0
DIVERGED_REPORTS = 20
"""A run has diverged when its loss per token is so far above its lowest for so many reports in a row: a warm-up that
goes wrong jumps by several nats and does not come back, noise between reports is hundredths."""


class Curves(Callback):
    """Prints and logs the curves: loss, rate of work, learning rate, gradient norm, translations.

    Everything is read every `trainer.log_every_n_steps` optimizer steps, so that between them no step waits for the
    device. Steps are counted as in the paper, by updates of the weights.
    """

    def __init__(self) -> None:
        self._every_n_steps = 1
        self._source_tokens = self._target_tokens = self._positions = 0
        self._begin = self._waited = self._paused = 0.0
        self._first_step = 0
        self._learning_rate = 0.0
        # Loss, negative log-likelihood and target tokens that the run had not reported when it was stopped.
        self._carried = [0.0, 0.0, 0.0]
        self._lowest_loss = math.inf
        self._reports_above = 0

    @property
    def state_key(self) -> str:
        return "Progress"  # its name in checkpoints of format 1

    def state_dict(self) -> dict[str, Any]:
        return {"lowest_loss": self._lowest_loss, "reports_above": self._reports_above}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._lowest_loss, self._reports_above = state_dict["lowest_loss"], state_dict["reports_above"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        smoothed, nll, _, target_tokens, _ = self._sums(trainer, pl_module)
        checkpoint[self.state_key] = [
            sum(pair) for pair in zip(self._carried, (smoothed, nll, target_tokens), strict=True)
        ]

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._carried = checkpoint[self.state_key]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LitTransformer)
        self._every_n_steps = trainer.log_every_n_steps  # type: ignore[attr-defined] # set, but not declared
        if trainer.is_global_zero:
            print(f"{pl_module.text.summary}, {trainer.accumulate_grad_batches} micro-batches a step", flush=True)
        self._restart(trainer)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        if (trainer.global_step + 1) % self._every_n_steps == 0:
            # Afterwards it is the next step's already.
            self._learning_rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._source_tokens += batch.num_source_tokens
        self._target_tokens += batch.num_target_tokens
        self._positions += batch.source_BS.numel() + batch.target_output_BT.numel()
        if ends_step(trainer, batch) and trainer.global_step % self._every_n_steps == 0:
            assert isinstance(pl_module, LitTransformer)
            self._report(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LitTransformer)
        # Rates are those of training: its clock stands still meanwhile.
        self._begin += time.perf_counter() - self._paused
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        if not trainer.is_global_zero or not metrics:
            return
        if trainer.logger is not None:
            trainer.logger.log_metrics(metrics, step=trainer.global_step)
        print(
            f"step {trainer.global_step:>7,}  validation loss {metrics['val/loss']:.3f}  "
            f"perplexity {metrics['val/perplexity']:.2f}  "
            f"BLEU ({pl_module.val_bleu.tokenize}) {metrics['val/bleu']:.2f}"
        )
        for sample in pl_module.samples:
            print(f"    {sample.source}\n      -> {sample.translation}\n      reference: {sample.reference}")
        self._log_samples(trainer, pl_module)

    def _report(self, trainer: L.Trainer, module: LitTransformer) -> None:
        module.check_numbers()
        seconds = time.perf_counter() - self._begin
        waited = trainer.train_dataloader.wait_seconds - self._waited  # type: ignore[union-attr]
        smoothed, nll, source_tokens, target_tokens, positions = self._sums(trainer, module)
        all_tokens = self._carried[2] + target_tokens
        values = {
            "train/loss": (self._carried[0] + smoothed) / all_tokens,
            "train/perplexity": math.exp(min((self._carried[1] + nll) / all_tokens, 700.0)),
            "train/gradient_norm": float(module.statistics.gradient_norm),
            "train/learning_rate": self._learning_rate,
            "train/source_tokens_per_second": source_tokens / seconds,
            "train/target_tokens_per_second": target_tokens / seconds,
            "train/padding_share": 1.0 - (source_tokens + target_tokens) / positions,
            "train/data_wait_share": waited / seconds,
        }
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            values["train/skipped_steps"] = float(module.statistics.skipped_steps)
        if trainer.logger is not None:
            trainer.logger.log_metrics(values, step=trainer.global_step)
        if trainer.is_global_zero:
            self._print(trainer, values, seconds)
        module.statistics.loss_sums.zero_()
        self._carried = [0.0, 0.0, 0.0]
        self._check_divergence(values["train/loss"], trainer.global_step)
        self._restart(trainer)

    def _check_divergence(self, loss: float, step: int) -> None:
        self._lowest_loss = min(self._lowest_loss, loss)
        self._reports_above = self._reports_above + 1 if loss > self._lowest_loss + DIVERGED_BY else 0
        if self._reports_above == DIVERGED_REPORTS:
            raise UserError(
                f"training has diverged: up to step {step} the loss has been more than {DIVERGED_BY:g} above its "
                f"lowest, {self._lowest_loss:.3f}, for {DIVERGED_REPORTS} reports. Go on from a checkpoint of before "
                "with --ckpt_path STEP.ckpt and a lower --model.learning_rate_scale or a higher --model.warmup_steps"
            )

    def _sums(self, trainer: L.Trainer, module: L.LightningModule) -> list[float]:
        """Since a report, on all ranks: loss, negative log-likelihood, source tokens, target tokens, positions."""
        assert isinstance(module, LitTransformer)
        # Ranks add up in float32 and in integers: not every device has float64. Copied, since they add up in place.
        losses = module.statistics.loss_sums.clone()
        counts = torch.tensor([self._source_tokens, self._target_tokens, self._positions], device=losses.device)
        return [
            *trainer.strategy.reduce(losses, reduce_op="sum").tolist(),
            *trainer.strategy.reduce(counts, reduce_op="sum").tolist(),
        ]

    def _print(self, trainer: L.Trainer, values: Mapping[str, float], seconds: float) -> None:
        left = (trainer.max_steps - trainer.global_step) * seconds / (trainer.global_step - self._first_step)
        total = f"/{trainer.max_steps:,}" if trainer.max_steps > 0 else ""
        print(
            f"step {trainer.global_step:>7,}{total}  loss {values['train/loss']:.3f}  "
            f"perplexity {values['train/perplexity']:.2f}  "
            f"{values['train/target_tokens_per_second']:,.0f} target tokens/s  "
            f"data wait {values['train/data_wait_share']:.1%}" + (f"  {_duration(left)} left" if total else ""),
            flush=True,
        )

    @CURVES
    def _log_samples(self, trainer: L.Trainer, module: LitTransformer) -> None:
        if isinstance(trainer.logger, TensorBoardLogger):
            text = "\n\n".join(
                f"**{_escape(s.source)}**\n\n{_escape(s.translation)}\n\n*{_escape(s.reference)}*"
                for s in module.samples
            )
            trainer.logger.experiment.add_text("val/translations", text, trainer.global_step)

    def _restart(self, trainer: L.Trainer) -> None:
        self._source_tokens = self._target_tokens = self._positions = 0
        self._first_step = trainer.global_step
        self._begin = time.perf_counter()
        self._waited = trainer.train_dataloader.wait_seconds  # type: ignore[union-attr]


def _escape(text: str) -> str:
    """Text as Markdown shows it unchanged."""
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>()#+-.!|" else character for character in text)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
