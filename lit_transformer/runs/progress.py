"""Progress: loss, speed and validation scores, as a run prints them."""

from itertools import chain
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lit_transformer.batch import Batch
from lit_transformer.data.accumulation import ends_step
from lit_transformer.notes import counted, format_duration
from lit_transformer.runs.advice import find_warnings
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.forecast import forecast_batches
from lit_transformer.runs.loggers import write_translations
from lit_transformer.runs.parts import data_of, model_of
from lit_transformer.runs.ranks import gather
from lit_transformer.runs.time_left import TimeLeft
from lit_transformer.training.metrics import PREFIX
from lit_transformer.training.samples import first_samples


class Progress(Callback):
    """Lightning prints no translations, and nothing but bars: this callback prints lines, which files can hold.

    The lines of training are left to a bar if the trainer has one.
    """

    time_left: TimeLeft

    def __init__(self) -> None:
        self.best_bleu: float | None = None
        """The highest validation BLEU of the run."""

    @property
    def state_key(self) -> str:
        return "BestBleu"  # the name of the class is the key of another state in format 1

    def state_dict(self) -> dict[str, Any]:
        return {"best_bleu": self.best_bleu}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_bleu = state_dict["best_bleu"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._print_start(trainer)
        self.time_left = TimeLeft(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if not ends_step(trainer, batch):
            return
        self.time_left.end_step()
        has_bar = trainer.progress_bar_callback is not None
        if trainer.is_global_zero and not has_bar and model_of(trainer).is_reported(trainer.global_step):
            self._print_step(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.time_left.begin_validation()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model = model_of(trainer)
        samples = first_samples(chain.from_iterable(gather(model.samples)))
        distinct = set(chain.from_iterable(gather(model.distinct)))
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(PREFIX)}
        if not metrics or trainer.sanity_checking:
            return
        self.time_left.end_validation()
        if "val/bleu" in metrics:
            self.best_bleu = max(metrics["val/bleu"], self.best_bleu or 0.0)
        if not trainer.is_global_zero:
            return
        scores = "".join(
            f"  {getattr(metric, 'label', name)} {metrics[PREFIX + name]:.2f}"
            for name, metric in model.val_scores.items(keep_base=True)
        )
        lines = [
            f"step {trainer.global_step:>7,}  validation loss {metrics['val/loss']:.3f}  "
            f"perplexity {metrics['val/perplexity']:.2f}{scores}"
        ]
        if len(distinct) == 1 and len(samples) > 1:
            lines.append(
                "warning: all translations of this validation are the same. If this stays so, raise warmup_steps or "
                "lower learning_rate"
            )
        for sample in samples:
            lines += f"    {sample.source}", f"      -> {sample.translation}", f"      reference: {sample.reference}"
        _print_above(trainer, "\n".join(lines))
        with CURVES_MAY_FAIL:
            for logger in trainer.loggers:
                write_translations(logger, samples, trainer.global_step)

    def _print_start(self, trainer: L.Trainer) -> None:
        data, accumulation = data_of(trainer), trainer.accumulate_grad_batches
        print(f"{data.summary}, {counted(accumulation, 'micro-batch', 'micro-batches')} per step", flush=True)
        batches = forecast_batches(data.plan, accumulation=accumulation, world_size=trainer.world_size)
        for warning in find_warnings(trainer, model_of(trainer), data, batches, devices=trainer.world_size):
            print(f"warning: {warning}", flush=True)

    def _print_step(self, trainer: L.Trainer) -> None:
        values, left = trainer.callback_metrics, self.time_left.seconds()
        total = self.time_left.total_steps
        print(
            f"step {trainer.global_step:>7,}"
            + ("" if total is None else f"/{total:,}")
            + f"  loss {float(values['train/loss']):.3f}  perplexity {float(values['train/perplexity']):.2f}"
            + f"  {float(values['train/target_tokens_per_second']):,.0f} {data_of(trainer).predicted}/s"
            + f"  data wait {float(values['train/data_wait_share']):.1%}"
            + (f"  {format_duration(left)} left" if left else ""),
            flush=True,
        )


def _print_above(trainer: L.Trainer, text: str) -> None:
    """Print text above a bar of Lightning's, if there is one."""
    if isinstance(trainer.progress_bar_callback, TQDMProgressBar):
        Tqdm.write(text)
    else:
        print(text, flush=True)
