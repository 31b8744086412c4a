"""What training measures between two reports. It knows neither loggers nor callbacks."""

import math
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from lit_transformer.training.loss import LossSums

PREFIX = "train/"
"""Begins the names of all curves of training."""
TRAIN_CURVES = tuple(
    f"{PREFIX}{name}"
    for name in (
        "loss",
        "perplexity",
        "gradient_norm",
        "learning_rate",
        "source_tokens_per_second",
        "target_tokens_per_second",
        "padding_share",
        "data_wait_share",
        "skipped_steps",
    )
)
"""All that a report can have. The last but one needs a loader that measures its wait, and the last one float16."""


class Meter:
    """Sums since the last report. Losses and norms stay on the device, so that no step waits for it.

    They are not buffers of a module: FSDP casts buffers to bfloat16, and DDP overwrites them with those of rank 0.
    """

    def __init__(self) -> None:
        self.gradient_norm = torch.zeros(())
        """Norm of the last step's gradients, over all ranks."""
        self.num_steps = 0
        """Optimizer steps since the last report."""
        self._skipped_steps: Tensor | int = 0
        self._learning_rate: Tensor | float = 0.0
        # Smoothed loss, negative log-likelihood and target tokens that an interrupted run had not reported yet.
        self._carried = [0.0, 0.0, 0.0]
        self._losses: Tensor | float = 0.0
        self._source_tokens = self._target_tokens = self._positions = 0
        self._begin = self._paused = self._waited = 0.0

    def add(self, sums: LossSums, batch: Any) -> None:
        """Add a micro-batch."""
        self._losses = self._losses + torch.stack([sums.smoothed.detach(), sums.nll])
        self._source_tokens += batch.num_source_tokens
        self._target_tokens += batch.num_target_tokens
        self._positions += batch.num_positions

    def end_step(self, trainer: L.Trainer, optimizer: Optimizer) -> None:
        """Measure the gradients of a step that the optimizer is about to take, and its learning rate."""
        self.num_steps += 1
        self._learning_rate = optimizer.param_groups[0]["lr"]
        gradients = [weight.grad for weight in trainer.lightning_module.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if isinstance(trainer.strategy, FSDPStrategy):  # each rank has another part of the gradients
            norm = trainer.strategy.reduce(norm**2, reduce_op="sum").sqrt()
        if (scaler := _scaler(trainer)) is not None:
            if optimizer.defaults.get("fused"):
                # A fused optimizer divides its gradients by the loss scale, but only inside its step.
                norm = norm / scaler.scale(torch.ones_like(norm))
            self._skipped_steps = self._skipped_steps + ~norm.isfinite()
        self.gradient_norm = norm

    def values(self, trainer: L.Trainer) -> dict[str, float]:
        """Return the means over all ranks since the last report. All ranks must call it."""
        seconds = time.perf_counter() - self._begin
        smoothed, nll, source_tokens, target_tokens, positions = self._sums(trainer)
        all_tokens = self._carried[2] + target_tokens
        values = {
            "loss": (self._carried[0] + smoothed) / all_tokens,
            "perplexity": math.exp(min((self._carried[1] + nll) / all_tokens, 700.0)),
            "gradient_norm": float(self.gradient_norm),
            "learning_rate": float(self._learning_rate),
            "source_tokens_per_second": source_tokens / seconds,
            "target_tokens_per_second": target_tokens / seconds,
            "padding_share": 1.0 - (source_tokens + target_tokens) / positions,
        }
        if (waited := _wait_seconds(trainer)) is not None:
            values["data_wait_share"] = (waited - self._waited) / seconds
        if _scaler(trainer) is not None:
            values["skipped_steps"] = float(self._skipped_steps)
        return {f"{PREFIX}{name}": value for name, value in values.items()}

    def restart(self, trainer: L.Trainer) -> None:
        """Begin anew after a report."""
        self._carried = [0.0, 0.0, 0.0]
        self._clear()
        self.restart_clock(trainer)

    def restart_clock(self, trainer: L.Trainer) -> None:
        """Measure speed from now on."""
        self._begin = time.perf_counter()
        self._waited = _wait_seconds(trainer) or 0.0

    def pause(self) -> None:
        """Stop the clock. Rates are those of training without validation."""
        self._paused = time.perf_counter()

    def resume(self) -> None:
        """Let the clock go on."""
        self._begin += time.perf_counter() - self._paused

    def state(self, trainer: L.Trainer) -> list[float]:
        """Return smoothed loss, negative log-likelihood and target tokens since the last report, over all ranks."""
        smoothed, nll, _, target_tokens, _ = self._sums(trainer)
        return [carried + new for carried, new in zip(self._carried, (smoothed, nll, target_tokens), strict=True)]

    def load_state(self, carried: list[float]) -> None:
        """Go on from the state of an interrupted run."""
        self._clear()
        self._carried = carried

    def _clear(self) -> None:
        self.num_steps = self._source_tokens = self._target_tokens = self._positions = 0
        self._losses = 0.0

    def _sums(self, trainer: L.Trainer) -> list[float]:
        """Return the sums since the last report over all ranks.

        Returns:
            Smoothed loss, negative log-likelihood, source tokens, target tokens, positions.
        """
        # Reduced in float32 and integers, because not every device has float64. New tensors, because `reduce` is in
        # place.
        device = trainer.strategy.root_device
        losses = torch.zeros(2, device=device) + self._losses
        counts = torch.tensor([self._source_tokens, self._target_tokens, self._positions], device=device)
        return [
            *trainer.strategy.reduce(losses, reduce_op="sum").tolist(),
            *trainer.strategy.reduce(counts, reduce_op="sum").tolist(),
        ]


def _scaler(trainer: L.Trainer) -> Any:
    """The loss scaler of float16, which skips steps, or None."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _wait_seconds(trainer: L.Trainer) -> float | None:
    """How long training has waited for its loader, or None if the loader does not measure it."""
    return getattr(trainer.train_dataloader, "wait_seconds", None)
