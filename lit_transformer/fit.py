"""`python -m lit_transformer.fit`: train a model; the paper's base model on WMT14 EN-DE when nothing else is said."""

import faulthandler
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import NoReturn

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import distributed

from lit_transformer.checkpoints.names import CHECKPOINTS_FOLDER
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.cli.frame import in_one_line, user_errors_to_exit
from lit_transformer.cli.training import FitCLI, parse
from lit_transformer.errors import UserError, enough_memory
from lit_transformer.runs.dispensable import CURVES, Dispensable
from lit_transformer.runs.launching import check_settings_of_ranks, start_processes
from lit_transformer.runs.parts import callback_of
from lit_transformer.runs.resuming import Resuming, continued_run
from lit_transformer.runs.run_folder import claimed_folder, run_folder
from lit_transformer.runs.saving import Checkpoints
from lit_transformer.runs.stopping import Interruption, requeue
from lit_transformer.signals import Interrupted

LOST_CONNECTION = re.compile(r"(connection (closed|reset|refused)|broken pipe|timed out|nccl)[^.\n]*", re.IGNORECASE)
"""How gloo and NCCL complain when a peer is gone; they have no exception of their own for it."""
DEAD_PROCESS = re.compile(r"DataLoader worker.*(killed|exited)[^.\n]*|subprocesses has abruptly died", re.IGNORECASE)
"""How torch and datasets complain when a process that they have started is gone."""
MEETING_SECONDS = 30.0
"""After this time a rank says that it waits for the others."""


def main(args: list[str] | None = None) -> None:
    """Parse, train, and say how it went."""
    with user_errors_to_exit(cannot_print=Dispensable("to stdout").lose):
        cli = parse(args, description=__doc__, cli=FitCLI)
        signals = callback_of(cli.trainer, Interruption).signals
        with signals.heard(lambda received: end_at_once(cli, received)):
            try:
                fit(cli)
            except Interrupted as interrupted:
                stop(cli, interrupted)
            except Exception as error:
                # A library may have made another error of `Interrupted`.
                if signals.received and not signals.training:
                    stop(cli, Interrupted(signal.Signals(signals.received)))
                end_launched(cli)
                if message := explain(cli, error):
                    raise UserError(message) from error
                raise
            finally:
                leave_process_group()


def fit(cli: FitCLI) -> None:
    """Start all ranks alike, train, report."""
    begin = time.perf_counter()
    trainer = cli.trainer
    # Before the ranks meet. Tokenizing forks processes, which is safe only while no library has started threads. And
    # ranks that wait for the one that prepares have no time limit here.
    cli.datamodule.prepare_data()
    # ValueError: a cluster's environment contradicts the settings.
    with patience(trainer), in_one_line("trainer", ValueError):
        start_processes(trainer)
    check_settings_of_ranks(trainer, cli.config)
    resumed = callback_of(trainer, Resuming).read(trainer, cli.config.ckpt_path)
    with claimed_folder(trainer, cli.config, continued_run(resumed, cli.config.ckpt_path)):
        if trainer.is_global_zero:
            introduce(cli, resumed)
        remedy = "lower data.max_tokens_per_device; the optimizer steps stay the same"
        refusals = (MisconfigurationException, OverflowError)
        with enough_memory(remedy), in_one_line("the settings cannot be used", *refusals), CURVES.in_threads():
            trainer.fit(cli.model, cli.datamodule, ckpt_path=resumed, weights_only=True)
        run = run_folder(trainer)
    if trainer.is_global_zero:
        report(cli, run, time.perf_counter() - begin)


def introduce(cli: FitCLI, resumed: Path | None) -> None:
    """One line on what is about to be trained."""
    trainer, data = cli.trainer, cli.datamodule
    parameters = sum(weight.numel() for weight in cli.model.parameters())
    print(
        f"{parameters / 1e6:.1f} million parameters, {data.source} to {data.target}, corpus {data.corpus}, "
        f"{trainer.precision} on {trainer.world_size} x {trainer.strategy.root_device.type}"
        + (f"; resuming from {resumed}" if resumed else ""),
        flush=True,
    )


@contextmanager
def patience(trainer: L.Trainer) -> Iterator[None]:
    """Print a note if the ranks have not met after `MEETING_SECONDS`."""

    def note() -> None:
        if not distributed.is_initialized():
            print(
                f"note: rank {trainer.global_rank} waits for the other processes of {trainer.world_size} at "
                f"{meeting_point()}. A launcher (torchrun, srun) must start all of them: trainer.num_nodes is "
                f"{trainer.num_nodes}",
                file=sys.stderr,
                flush=True,
            )

    timer = Timer(MEETING_SECONDS, note)
    timer.daemon = True
    if trainer.world_size > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def meeting_point() -> str:
    """The address and port at which the ranks of a run meet."""
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"


def explain(cli: FitCLI, error: Exception) -> str | None:
    """What a library's error means for the user; None if that is not known."""
    if not isinstance(error, RuntimeError | ConnectionError | EOFError):
        return None
    # These two come from reading what a process has sent that has died since.
    if isinstance(error, ConnectionError | EOFError) or DEAD_PROCESS.search(str(error)):
        return (
            f"a process that prepares data or batches was ended from outside ({error}), most often because the "
            "system's memory was full: free some or lower data.num_workers; the same command with --ckpt_path auto "
            "goes on"
        )
    if cli.trainer.world_size == 1:
        return None
    if isinstance(error, distributed.DistError) and not distributed.is_initialized():
        return (
            f"rank {cli.trainer.global_rank}: the processes of this run cannot meet at {meeting_point()} "
            f"({str(error).splitlines()[0]}): set MASTER_ADDR to the machine of rank 0 and MASTER_PORT to a free port "
            "there"
        )
    if lost := LOST_CONNECTION.search(str(error)):
        return (
            f"rank {cli.trainer.global_rank}: another process of this run has died ({lost[0]}). What it said, "
            "or the system's log, is the reason; the same command with --ckpt_path auto goes on"
        )
    return None


def stop(cli: FitCLI, interrupted: Interrupted) -> NoReturn:
    """Say where to go on; exit with 128 and the signal's number, as shells count."""
    if interrupted.step is None:
        end_launched(cli)
    requeued = requeue(cli.trainer, interrupted.received)
    if not cli.trainer.is_global_zero:
        # Lightning kills the whole job at once when a process that it has started fails.
        sys.exit(0)
    if interrupted.step is None:
        print(f"\nStopped by {interrupted.received.name} before the first step.")
    else:
        print(f"\nStopped by {interrupted.received.name} after step {interrupted.step:,}: nothing is lost.")
        print(f"Checkpoint: {interrupted.checkpoint}")
    print_next(requeued)
    sys.exit(128 + interrupted.received)


def end_at_once(cli: FitCLI, received: signal.Signals) -> None:
    """End the other ranks, requeue and report. The thread that watches for signals then ends this process."""
    end_launched(cli)
    requeued = requeue(cli.trainer, received)
    if cli.trainer.is_global_zero:
        print(f"\nStopped by {received.name} at once.")
        print_next(requeued)


def print_next(requeued: bool) -> None:
    """Print how the run is continued."""
    if requeued:
        print("SLURM has put the job back into its queue.", flush=True)
    else:
        print("To go on: the same command with --ckpt_path auto", flush=True)


def end_launched(cli: FitCLI) -> None:
    """Kill the ranks that this process has started: they would wait for it."""
    if cli.trainer.strategy.launcher is not None:
        cli.trainer.strategy.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def leave_process_group() -> None:
    """Ends gloo's threads: one that outlives the interpreter aborts the process (pytorch #190489)."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def report(cli: FitCLI, run: Path, seconds: float) -> None:
    """In plain words: how good it is, where it lies, what to type next."""
    trainer, model = cli.trainer, cli.model
    saved = callback_of(trainer, Checkpoints)
    if not (run / CHECKPOINTS_FOLDER).exists():
        raise UserError(
            f"there was no optimizer step to take after step {trainer.global_step}: raise trainer.max_steps or "
            "trainer.max_epochs"
        )
    print(f"\nTrained to step {trainer.global_step:,} in {seconds / 60:.1f} minutes.")
    if saved.best_step is None:
        print("It was never validated (trainer.val_check_interval), so nobody knows how good it is.")
    else:
        how = f"sacreBLEU, {model.val_scores['bleu'].tokenize}, beam {model.validation_beam_size}"
        if saved.best_bleu < 1.0:
            how += "; the validation loss decided"
        print(
            f"Best at step {saved.best_step:,}: validation BLEU {saved.best_bleu:.1f} of 100 ({how}): "
            f"{in_words(saved.best_bleu)}."
        )
    print(f"Checkpoint: {find_checkpoint(run)}\nCurves:     {run}\n\nNext:")
    quoted, corpus = shlex.quote(str(run)), shlex.quote(cli.datamodule.corpus)
    tokenize = f" --tokenize {model.bleu_tokenize}" if model.bleu_tokenize else ""
    print(f"  python -m lit_transformer.test --checkpoint {quoted} --corpus {corpus} --split test{tokenize}")
    print(f"  python -m lit_transformer.translate --checkpoint {quoted}")
    print(f"  tensorboard --logdir {quoted}")


def in_words(bleu: float) -> str:
    """What a BLEU score means to somebody who has never seen one; corpora differ, so it is a rough guide."""
    steps = (
        (10, "it has not learnt to translate yet"),
        (20, "the gist comes through here and there"),
        (30, "the gist is clear, with many errors"),
        (40, "understandable to good translations"),
        (60, "good translations, often as a person would write them"),
        (90, "very close to the reference translations"),
    )
    return next((words for limit, words in steps if bleu < limit), "nearly every word is as in the reference")


if __name__ == "__main__":
    # A death without an exception (SIGBUS: a mapped file was cut off; SIGABRT) says at least where it happened.
    if sys.stderr is not None:
        faulthandler.enable()
    main()
