"""Stopping: after a signal, all ranks save and stop at the end of the same step."""

import os
import signal
import subprocess
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback
from torch import distributed

from lit_transformer.batch import Batch
from lit_transformer.data.accumulation import ends_step
from lit_transformer.data.loader import TimedLoader
from lit_transformer.runs.parts import callbacks_of
from lit_transformer.runs.private_names import cluster_of, stop_asking_for_sigterm
from lit_transformer.runs.saving import Checkpoints
from lit_transformer.signals import Interrupted, StopSignals

REQUEUE_SIGNAL = "SIGUSR1"


class Interruption(Callback):
    """Lightning asks the other ranks inside the signal handler, which can hang: this callback asks them between steps.

    After a signal it saves, and raises `Interrupted` at the same step on all ranks. Each rank sends its signal to the
    others in the background and reads the answer one step later, so that no step waits.
    """

    def __init__(self) -> None:
        self.signals = StopSignals()
        self._agreed = 0
        self._group: distributed.ProcessGroup | None = None
        self._asked: tuple[distributed.Work, torch.Tensor] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning has just replaced the handlers by its own. It restores them when it ends.
        self.signals.install()
        self.signals.training = True
        stop_asking_for_sigterm(trainer)
        loader: TimedLoader = trainer.train_dataloader  # type: ignore[assignment] # what the datamodule gave
        loader.while_waiting.append(lambda: self._end_wait(trainer))
        if trainer.world_size > 1:
            self._group = distributed.new_group(backend="gloo")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if ends_step(trainer, batch):
            self._agreed = self._ask()
            for checkpoints in callbacks_of(trainer, Checkpoints) if self._agreed else ():
                checkpoints.request()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        # Not earlier: a validation that is due after the step is part of the checkpoint.
        if self._agreed:
            self._settle()
            [saved] = [checkpoints.last_saved for checkpoints in callbacks_of(trainer, Checkpoints)] or [None]
            raise Interrupted(signal.Signals(self._agreed), trainer.global_step, saved)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._settle()

    def _end_wait(self, trainer: L.Trainer) -> None:
        """End a wait for data in which no step would ever end."""
        if self.signals.received:
            raise Interrupted(signal.Signals(self.signals.received), trainer.global_step)

    def _ask(self) -> int:
        """Return the signal that any rank had received one step ago. A single rank returns its own without delay."""
        if self._group is None:
            return self.signals.received
        answer = self._settle()
        received = torch.tensor(self.signals.received)
        work = distributed.all_reduce(received, op=distributed.ReduceOp.MAX, group=self._group, async_op=True)
        self._asked = work, received
        return answer

    def _settle(self) -> int:
        """Finish the pending exchange. If a rank left before its end, the others would wait for it."""
        if self._asked is None:
            return 0
        work, received = self._asked
        self._asked = None
        work.wait()
        return int(received)


def requeue(trainer: L.Trainer, received: signal.Signals) -> bool:
    """Put this SLURM job back into the queue if the signal is SLURM's and Lightning's SLURM environment requeues.

    Returns:
        Whether the job is in the queue. False on all ranks but rank 0.
    """
    environment = cluster_of(trainer)
    if received.name != REQUEUE_SIGNAL or not isinstance(environment, SLURMEnvironment):
        return False
    if not (environment.auto_requeue and trainer.is_global_zero):
        return False
    array_job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array_job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array_job else os.environ["SLURM_JOB_ID"]
    try:
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    except OSError:
        return False
