"""How a run ends before its last step: its processes end together, and the reason becomes one line."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import lightning as L
from torch import distributed

from lit_transformer.errors import UserError, underlying
from lit_transformer.runs.launching import meeting_point
from lit_transformer.runs.lightning_errors import lightning_error
from lit_transformer.runs.limits import Limits
from lit_transformer.runs.parts import callback_of
from lit_transformer.runs.stopping import Interruption, requeue
from lit_transformer.signals import Interrupted

LOST_CONNECTION = re.compile(r"(connection (closed|reset|refused)|broken pipe|timed out|nccl)[^.\n]*", re.IGNORECASE)
"""How gloo and NCCL report that another process is gone. They have no exception of their own for it."""
DEAD_PROCESS = re.compile(r"DataLoader worker.*(killed|exited)[^.\n]*|subprocesses has abruptly died", re.IGNORECASE)
"""How torch and datasets report that a process that they have started is gone."""

PrintStop = Callable[[signal.Signals, str, Path | None, bool], None]
"""Prints that a run has stopped: the signal, when, the checkpoint, and whether SLURM has put the job into its queue."""


@contextmanager
def ended_together(trainer: L.Trainer, print_stop: PrintStop) -> Iterator[None]:
    """End all processes of a run when a signal or an error ends the block.

    Args:
        trainer: The run's.
        print_stop: Called on rank 0 after a signal.

    Raises:
        UserError: If an error comes from outside the program, such as a process that was killed.
        SystemExit: After a signal, with status 128 plus its number, as shells count.
    """
    signals = callback_of(trainer, Interruption).signals

    def end_at_once(received: signal.Signals) -> None:
        # The thread that watches for signals calls this, and then ends this process.
        end_launched(trainer)
        requeued = requeue(trainer, received)
        if trainer.is_global_zero:
            print_stop(received, "at once", None, requeued)

    with signals.heard(end_at_once):
        try:
            yield
        except Interrupted as interrupted:
            _stop(trainer, interrupted, print_stop)
        except Exception as error:
            # A library may have turned `Interrupted` into an error of its own.
            if signals.received and not signals.training:
                _stop(trainer, Interrupted(signal.Signals(signals.received)), print_stop)
            end_launched(trainer)
            if message := explain(trainer, error):
                raise UserError(message) from error
            raise
        finally:
            leave_process_group()


def _stop(trainer: L.Trainer, interrupted: Interrupted, print_stop: PrintStop) -> NoReturn:
    step = interrupted.step
    if interrupted.checkpoint is None:
        end_launched(trainer)
    requeued = requeue(trainer, interrupted.received)
    if not trainer.is_global_zero:
        # Lightning kills the whole job at once if a process that it has started fails.
        sys.exit(0)
    if step is None:
        when = "before the first step"
    elif interrupted.checkpoint is None:
        when = f"after step {step:,}: the steps since the last checkpoint are lost"
    else:
        when = f"after step {step:,}: nothing is lost"
    print_stop(interrupted.received, when, interrupted.checkpoint, requeued)
    sys.exit(128 + interrupted.received)


def explain(trainer: L.Trainer, error: Exception) -> str | None:
    """What a library's error means for the user, or None if that is not known."""
    if underlying(error, UserError) is not None:
        return None
    if lost := _lost_process(trainer, error):
        return lost
    return lightning_error(error, in_training=trainer.global_step > callback_of(trainer, Limits).first_step)


def _lost_process(trainer: L.Trainer, error: Exception) -> str | None:
    if not isinstance(error, RuntimeError | ConnectionError | EOFError):
        return None
    # Reading what a process has sent raises the last two if the process has died since.
    if isinstance(error, ConnectionError | EOFError) or DEAD_PROCESS.search(str(error)):
        return (
            f"a process that prepares data or batches was ended from outside ({error}), probably because the system "
            "ran out of memory: free some or lower data.num_workers. The same command with ckpt_path auto continues it"
        )
    if trainer.world_size == 1:
        return None
    if isinstance(error, distributed.DistError) and not distributed.is_initialized():
        return (
            f"rank {trainer.global_rank}: the processes of this run cannot meet at {meeting_point()} "
            f"({str(error).splitlines()[0]}): set MASTER_ADDR to the machine of rank 0 and MASTER_PORT to a free port "
            "there"
        )
    if lost := LOST_CONNECTION.search(str(error)):
        return (
            f"rank {trainer.global_rank}: another process of this run has died ({lost[0]}). Its last message, or the "
            "system's log, gives the reason. The same command with ckpt_path auto continues it"
        )
    return None


def end_launched(trainer: L.Trainer) -> None:
    """Kill the ranks that this process has started. They would wait for it."""
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def leave_process_group() -> None:
    """End gloo's threads. One that outlives the interpreter aborts the process (pytorch #190489)."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
