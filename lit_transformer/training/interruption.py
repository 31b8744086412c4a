"""Stopping a run from outside without losing a step: SIGTERM, SIGUSR1 and Ctrl-C save at the next step boundary."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback
from torch import distributed

from lit_transformer.batch import Batch
from lit_transformer.data.stream import STOP_SIGNALS
from lit_transformer.training.saving import checkpoints_of, ends_step

REQUEUE_SIGNAL = "SIGUSR1"


class Interrupted(Exception):
    """Training was stopped by a signal, and everything up to `step` is saved in `checkpoint`."""

    def __init__(self, received: signal.Signals, step: int, checkpoint: Path, requeued: bool) -> None:
        super().__init__(f"{received.name} after step {step}")
        self.received = received
        self.step = step
        self.checkpoint = checkpoint
        self.requeued = requeued


class Interruption(Callback):
    """Raises `Interrupted` at the first step boundary after a signal, on all ranks at the same one.

    It stands in for Lightning's own handling, which talks to the other ranks inside the signal handler and makes every
    micro-batch wait for the device to ask them. Here every rank tells the others in the background what it has
    received, and looks a step later at what all have: no step waits, and all ranks come to the same answer.

    Under SLURM, SIGUSR1 also puts the job back into the queue, if Lightning's SLURM environment is to do so.
    A second Ctrl-C ends the process at once.
    """

    def __init__(self) -> None:
        self._received = 0
        self._agreed = 0
        self._group: distributed.ProcessGroup | None = None
        self._asked: tuple[distributed.Work, torch.Tensor] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning gives the handlers back that it has found before its own, when it ends.
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._receive)
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _no_broadcast  # type: ignore[method-assign]
        if trainer.world_size > 1:
            self._group = distributed.new_group(backend="gloo")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if ends_step(trainer, batch):
            self._agreed = self._ask()
            if self._agreed:
                checkpoints_of(trainer).request(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        # Not earlier: a validation that was due after the step is made before, and is part of the checkpoint.
        if self._agreed:
            self._settle()
            received = signal.Signals(self._agreed)
            requeued = received.name == REQUEUE_SIGNAL and _requeue(trainer)
            raise Interrupted(received, trainer.global_step, checkpoints_of(trainer).last_saved, requeued)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._settle()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self._received = number

    def _ask(self) -> int:
        """The signal that any rank had received a step ago; without other ranks, that this one has."""
        if self._group is None:
            return self._received
        answer = self._settle()
        received = torch.tensor(self._received)
        work = distributed.all_reduce(received, op=distributed.ReduceOp.MAX, group=self._group, async_op=True)
        self._asked = work, received
        return answer

    def _settle(self) -> int:
        """Ends the question that is on its way: nobody may leave while another rank waits for the answer."""
        if self._asked is None:
            return 0
        work, received = self._asked
        self._asked = None
        work.wait()
        return int(received)


def _no_broadcast() -> None:
    """In the place of Lightning's question to all ranks, which nobody needs here."""


def _requeue(trainer: L.Trainer) -> bool:
    """Puts this SLURM job back into the queue; false where there is none or that is switched off or fails."""
    environment = trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return False
    array_job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array_job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array_job else os.environ["SLURM_JOB_ID"]
    done = True
    if trainer.is_global_zero:
        try:
            done = subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
        except OSError:
            done = False
    return done
