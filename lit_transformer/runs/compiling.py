"""Compiling: what PyTorch's compiler makes in a run, which Lightning does not report."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lit_transformer.batch import Batch
from lit_transformer.errors import UserError
from lit_transformer.notes import counted, print_note
from lit_transformer.runs.parts import model_of
from lit_transformer.runs.private_names import num_compiled_graphs

COMPILING = "compiling forward pass and loss, which takes minutes for a large model"
"""Printed before it is done, so that nobody takes the run for dead."""


class CompiledGraphs(Callback):
    """Counts the graphs of a run with `model.compile`, because each of them takes minutes of training."""

    def __init__(self) -> None:
        self._compiles = False
        self._former = 0
        """The graphs that this process had compiled before the run."""
        self._reported = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._compiles = model_of(trainer).compiles
        if not self._compiles:
            return
        # Other strategies change the model while it computes.
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            raise UserError("compile is true, which needs one device or strategy ddp: set compile to false")
        self._former = num_compiled_graphs()
        if trainer.is_global_zero:
            print(COMPILING, flush=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._reported = self._num_graphs()  # `FitToMemory` runs the model before the first step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        number = self._num_graphs()
        if number > self._reported and trainer.is_global_zero:
            print_note(f"graph {number} was compiled for the micro-batches of step {batch.step + 1:,}")
        self._reported = number

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._compiles and trainer.is_global_zero:
            print_note(f"this start compiled {counted(self._num_graphs(), 'graph')}")

    def _num_graphs(self) -> int:
        # Without `compile`, the compiler need not be loaded.
        return num_compiled_graphs() - self._former if self._compiles else 0
