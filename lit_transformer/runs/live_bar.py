"""The live bar of a run on a terminal: steps, loss, speed, best BLEU and the time that is left, on one line."""

import sys
import time
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any, TextIO

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lit_transformer.batch import Batch
from lit_transformer.data.accumulation import ends_step
from lit_transformer.notes import format_duration
from lit_transformer.runs.parts import callback_of
from lit_transformer.runs.progress import Progress

REFRESH_SECONDS = 0.2
"""Time between two drawings. One takes about 0.2 ms, too long for every step of a small model."""


class LiveBar(ProgressBar):
    """Lightning's bars count micro-batches of an epoch: this one counts optimizer steps of the run.

    Whatever is printed during training appears above it. It needs a `Progress` before it in the list of callbacks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True
        self._bar = Tqdm(disable=True)
        self._streams = ExitStack()
        self._drawn = 0.0

    def enable(self) -> None:
        self._is_enabled = True

    def disable(self) -> None:
        self._is_enabled = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._is_enabled:
            return
        total = callback_of(trainer, Progress).time_left.total_steps
        self._bar = Tqdm(total=total, initial=trainer.global_step, file=sys.stderr, dynamic_ncols=True, bar_format=" ")
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream is not None and stream.isatty():
                self._streams.enter_context(redirect(_LinesAbove(stream, self._bar)))
        self._draw(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if ends_step(trainer, batch):
            self._draw_if_due(trainer)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.has_dataloader_changed(dataloader_idx)
        self._draw_if_due(trainer, f"validation {batch_idx + 1}/{self.total_val_batches_current_dataloader}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.reset_dataloader_idx_tracker()
        self._draw(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer)
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _draw_if_due(self, trainer: L.Trainer, doing: str = "") -> None:
        if not self._bar.disable and time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._draw(trainer, doing)

    def _draw(self, trainer: L.Trainer, doing: str = "") -> None:
        if self._bar.disable:
            return
        progress, metrics = callback_of(trainer, Progress), trainer.callback_metrics
        left, loss, rate = (
            progress.time_left.seconds(),
            *map(metrics.get, ("train/loss", "train/target_tokens_per_second")),
        )
        parts = [
            doing,
            "" if loss is None else f"loss {float(loss):.3f}",
            "" if rate is None else f"{float(rate):,.0f} tokens/s",
            "" if progress.best_bleu is None else f"best BLEU {progress.best_bleu:.1f}",
            f"{format_duration(left)} left" if left else "",
        ]
        total = self._bar.total
        begin = (
            "step {n:,}  "
            if total is None
            else f"step {{n:{len(f'{total:,}')},}}/{total:,} {{percentage:3.0f}}%|{{bar}}| "
        )
        self._bar.bar_format = begin + "  ".join(filter(None, parts))
        self._bar.n = trainer.global_step
        self._bar.refresh()
        self._drawn = time.monotonic()

    def _close(self) -> None:
        self._streams.close()
        self._bar.close()


class _LinesAbove:
    """A stream to a terminal. Its lines appear above the bar."""

    def __init__(self, stream: TextIO, bar: Tqdm) -> None:
        self._stream = stream
        self._bar = bar
        self._begun = ""

    def write(self, text: str) -> int:
        lines, line_feed, self._begun = (self._begun + text).rpartition("\n")
        if line_feed:
            with self._bar.get_lock():
                self._bar.clear(nolock=True)
                self._stream.write(lines + line_feed)
                self._stream.flush()
                self._bar.refresh(nolock=True)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
