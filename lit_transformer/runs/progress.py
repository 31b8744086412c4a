"""Progress: loss, speed and validation scores, as a run prints them."""

import time
from collections.abc import Mapping
from itertools import chain
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from lit_transformer.batch import Batch
from lit_transformer.data.accumulation import ends_step
from lit_transformer.notes import counted
from lit_transformer.runs.advice import find_warnings
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.forecast import forecast_batches
from lit_transformer.runs.limits import TimeLimit
from lit_transformer.runs.loggers import write_translations
from lit_transformer.runs.parts import callbacks_of, data_of, model_of
from lit_transformer.runs.ranks import gather
from lit_transformer.training.metrics import PREFIX
from lit_transformer.training.translation import first_samples


class Progress(Callback):
    """Prints the speed and scores of a run. Lightning's bars count micro-batches and print no translations."""

    def __init__(self) -> None:
        self._begin = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._print_start(trainer)
        self._first_step = trainer.global_step
        self._begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        model = model_of(trainer)
        if trainer.is_global_zero and ends_step(trainer, batch) and model.is_reported(trainer.global_step):
            self._print(trainer, {name: float(value) for name, value in trainer.callback_metrics.items()})

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model = model_of(trainer)
        samples = first_samples(chain.from_iterable(gather(model.samples)))
        distinct = set(chain.from_iterable(gather(model.distinct)))
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(PREFIX)}
        if not trainer.is_global_zero or not metrics:
            return
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
                "lower learning_rate"
            )
        for sample in samples:
            print(f"    {sample.source}\n      -> {sample.translation}\n      reference: {sample.reference}")
        with CURVES_MAY_FAIL:
            for logger in trainer.loggers:
                write_translations(logger, samples, trainer.global_step)

    def _print_start(self, trainer: L.Trainer) -> None:
        data, accumulation = data_of(trainer), trainer.accumulate_grad_batches
        print(f"{data.summary}, {counted(accumulation, 'micro-batch', 'micro-batches')} per step", flush=True)
        batches = forecast_batches(data.plan, accumulation=accumulation, world_size=trainer.world_size)
        for warning in find_warnings(trainer, model_of(trainer), data, batches, devices=trainer.world_size):
            print(f"warning: {warning}", flush=True)

    def _seconds_left(self, trainer: L.Trainer) -> float | None:
        """Return the time to the limit that ends the run first, or None without a limit."""
        left = [timer.time_remaining() for timer in callbacks_of(trainer, TimeLimit)]
        if trainer.max_steps > 0:
            pace = (time.perf_counter() - self._begin) / (trainer.global_step - self._first_step)
            left.append((trainer.max_steps - trainer.global_step) * pace)
        return min((limit for limit in left if limit is not None), default=None)

    def _print(self, trainer: L.Trainer, values: Mapping[str, float]) -> None:
        left = self._seconds_left(trainer)
        total = f"/{trainer.max_steps:,}" if trainer.max_steps > 0 else ""
        print(
            f"step {trainer.global_step:>7,}{total}  loss {values['train/loss']:.3f}  "
            f"perplexity {values['train/perplexity']:.2f}  "
            f"{values['train/target_tokens_per_second']:,.0f} target tokens/s  "
            f"data wait {values.get('train/data_wait_share', 0.0):.1%}"
            + ("" if left is None else f"  {_duration(left)} left"),
            flush=True,
        )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
